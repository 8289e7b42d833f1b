//! The shared page of claim words, where the system has sealable anonymous files: Linux.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;

use crate::claims::{Board, SLOTS};
use crate::sealed;
use crate::sys::Mapping;

/// The file's size: the words, in whole pages of any size that systems have.
const BYTES: usize = ((SLOTS + 1) * 8).next_multiple_of(64 * 1024);

/// A page of atomic words that another process may see, and write, too.
#[derive(Debug)]
pub struct Page(Mapping<BYTES>);

impl Page {
    /// Makes a page, and the descriptor by which the other process opens it.
    ///
    /// # Errors
    /// See [`sealed::create`].
    pub fn create() -> io::Result<(Self, OwnedFd)> {
        let (mapping, fd) = sealed::create("pool-claims")?;
        Ok((Self(mapping), fd))
    }

    /// Maps a page that another process has made.
    ///
    /// # Errors
    /// If it is none.
    pub fn open(fd: OwnedFd) -> io::Result<Self> {
        sealed::open(fd).map(Self)
    }
}

impl Board for Page {
    fn words(&self) -> &[AtomicU64; SLOTS] {
        self.0.words(0)
    }

    fn spin(&self) -> &AtomicU64 {
        let [word] = self.0.words(SLOTS * 8);
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::MemfdFlags;

    #[test]
    fn a_file_that_could_be_cut_short_is_not_mapped() {
        let fd = rustix::fs::memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&fd, BYTES as u64).unwrap();
        assert_eq!(Page::open(fd).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
