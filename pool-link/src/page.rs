//! The shared page of claim words, where the system has sealable anonymous files: Linux.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;

use rustix::fs::{MemfdFlags, SealFlags};

use crate::claims::{Board, SLOTS};
use crate::sys::SharedWords;

/// The file's size: the words, in whole pages of any size that systems have.
const BYTES: u64 = ((SLOTS + 1) * 8).next_multiple_of(64 * 1024) as u64;
/// Without these seals, whoever holds the file could cut it short, and our next access would be a SIGBUS.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// A page of atomic words that another process may see, and write, too.
#[derive(Debug)]
pub struct Page {
    words: SharedWords<{ SLOTS + 1 }>,
}

impl Page {
    /// Makes a page, and the descriptor by which the other process opens it.
    ///
    /// Fails where there is no `memfd_create` (an old kernel, a strict seccomp filter) and where nothing is
    /// left to make it from.
    pub fn create() -> io::Result<(Self, OwnedFd)> {
        let fd = rustix::fs::memfd_create("pool-claims", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&fd, BYTES)?;
        rustix::fs::fcntl_add_seals(&fd, SEALS)?;
        let words = SharedWords::map(&fd)?;
        Ok((Self { words }, fd))
    }

    /// Maps a page that another process has made.
    pub fn open(fd: OwnedFd) -> io::Result<Self> {
        let seals = rustix::fs::fcntl_get_seals(&fd)?;
        let size = rustix::fs::fstat(&fd)?.st_size;
        if !seals.contains(SEALS) || u64::try_from(size) != Ok(BYTES) {
            let why = format!("not a claim page: {size} bytes, seals {seals:?}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(Self { words: SharedWords::map(&fd)? })
    }
}

impl Board for Page {
    fn words(&self) -> &[AtomicU64; SLOTS] {
        self.words.as_array().first_chunk().expect("invariant: there is one word more")
    }

    fn spin(&self) -> &AtomicU64 {
        &self.words.as_array()[SLOTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_could_be_cut_short_is_not_mapped() {
        let fd = rustix::fs::memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&fd, BYTES).unwrap();
        assert_eq!(Page::open(fd).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
