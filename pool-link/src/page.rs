//! The shared page of claim words, where the system has memory without a name that neither side can cut short: Linux, whose
//! anonymous files can be sealed, and Windows, whose sections have their size for good.

use std::io;
use std::sync::atomic::AtomicU64;

use pool_core::transport::Handle;

use crate::claims::{Board, SLOTS};
use crate::mapping::Mapping;
#[cfg(not(windows))]
use crate::sealed;

/// The memory's size: the words, in whole pages of any size that systems have.
const BYTES: usize = ((SLOTS + 1) * 8).next_multiple_of(64 * 1024);

/// A page of atomic words that another process may see, and write, too.
#[derive(Debug)]
pub struct Page(Mapping<BYTES>);

impl Page {
    /// Makes a page, and the handle by which the other process opens it.
    ///
    /// # Errors
    /// See [`sealed::create`]; on Windows, what the system says.
    pub fn create() -> io::Result<(Self, Handle)> {
        #[cfg(not(windows))]
        let (mapping, file) = sealed::create("pool-claims")?;
        #[cfg(windows)]
        let (mapping, file) = {
            let section = crate::mapping::create(BYTES as u32)?;
            (Mapping::new(&section)?, section)
        };
        Ok((Self(mapping), file))
    }

    /// Maps a page that another process has made.
    ///
    /// # Errors
    /// If it is none.
    pub fn open(file: Handle) -> io::Result<Self> {
        #[cfg(not(windows))]
        return sealed::open(file).map(Self);
        #[cfg(windows)]
        return Mapping::new(file).map(Self);
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
    use std::sync::atomic::Ordering;

    use super::*;

    #[cfg(not(windows))]
    #[test]
    fn a_file_that_could_be_cut_short_is_not_mapped() {
        use rustix::fs::MemfdFlags;
        let fd = rustix::fs::memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&fd, BYTES as u64).unwrap();
        assert_eq!(Page::open(fd).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[cfg(windows)]
    #[test]
    fn a_section_that_is_too_short_is_not_mapped() {
        assert!(Page::open(crate::mapping::create(4096).unwrap()).is_err());
    }

    #[test]
    fn both_sides_see_the_same_words() {
        let (ours, handle) = Page::create().unwrap();
        let theirs = Page::open(handle).unwrap();
        ours.words()[SLOTS - 1].store(7, Ordering::Release);
        theirs.spin().store(8, Ordering::Release);
        assert_eq!(
            (theirs.words()[SLOTS - 1].load(Ordering::Acquire), ours.spin().load(Ordering::Acquire)),
            (7, 8)
        );
    }
}
