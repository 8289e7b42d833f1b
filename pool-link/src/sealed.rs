//! Anonymous files that two processes map, and that neither can cut short.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

use crate::mapping::Mapping;

/// Without these seals, whoever holds the file could cut it short, and our next access would be a SIGBUS.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Makes a file of `N` bytes, which begin as zeroes, and maps it. By the descriptor another process opens it.
///
/// # Errors
/// Where there is no `memfd_create` (an old kernel, a strict seccomp filter), and where nothing is left to make it from.
pub fn create<const N: usize>(name: &str) -> io::Result<(Mapping<N>, OwnedFd)> {
    let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&fd, N as u64)?;
    rustix::fs::fcntl_add_seals(&fd, SEALS)?;
    Ok((Mapping::new(&fd)?, fd))
}

/// Maps a file that another process has made.
///
/// # Errors
/// If it is not of `N` bytes, or could be cut short.
pub fn open<const N: usize>(fd: impl AsFd) -> io::Result<Mapping<N>> {
    let seals = rustix::fs::fcntl_get_seals(&fd)?;
    let size = rustix::fs::fstat(&fd)?.st_size;
    if !seals.contains(SEALS) || usize::try_from(size) != Ok(N) {
        let why = format!("a file of {size} bytes and seals {seals:?}, not of {N} bytes and sealed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Mapping::new(fd)
}
