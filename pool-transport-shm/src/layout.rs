//! How a segment is laid out, and how a side gets at its parts.
//!
//! ```text
//!      0   calls written, and their extent · calls read                     (a cache line each)
//!    128   results written, and their extent · results read
//!    256   the worker's bell · the parent's bell · closed · spin
//!   4096   claim words
//!  12288   the ring of calls, and after it the ring of results
//! ```
//!
//! Positions count bytes since the beginning and never go back. A byte's place follows from its position and the
//! [`Extent`], which the writer may change whenever everything is read.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;

use pool_link::claims::{Board, SLOTS};
use pool_link::mapping::Mapping;
use pool_link::sealed;

/// How much of a ring is used for what is small: so little that it stays in a cache.
pub(crate) const NARROW: usize = 512 * 1024;
/// How much of it there is, for what is large: enough that neither side has to sleep for each piece of a frame, and more
/// than a core has of a cache of its own (see `ring`). Of 2, 4 and 8 MiB this was fastest. Memory that was never used
/// takes none.
pub(crate) const WIDE: usize = 2 * 1024 * 1024;

const CLAIMS: usize = 4096;
const RINGS: usize = CLAIMS + 8 * SLOTS;
const BYTES: usize = RINGS + 2 * WIDE;

/// Words of a cache line.
const LINE: usize = 8;

/// The direction of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Calls,
    Results,
}

/// Whom a bell wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleeper {
    Worker,
    Parent,
}

/// How much of a ring is in use, and for the bytes since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The position that has the first place.
    pub(crate) base: u64,
    pub(crate) is_wide: bool,
}

impl Extent {
    /// As every ring begins.
    pub(crate) const FIRST: Self = Self { base: 0, is_wide: false };

    /// After how many bytes places come again.
    pub(crate) const fn size(self) -> usize {
        if self.is_wide { WIDE } else { NARROW }
    }

    /// As one word, so that both parts are read at once. Every word is an extent.
    pub(crate) const fn to_word(self) -> u64 {
        self.base << 1 | self.is_wide as u64
    }

    pub(crate) const fn from_word(word: u64) -> Self {
        Self { base: word >> 1, is_wide: word & 1 == 1 }
    }

    /// Within the ring, whatever the position.
    const fn place(self, position: u64) -> usize {
        (position.wrapping_sub(self.base) % self.size() as u64) as usize
    }
}

/// Memory that the parent shares with one worker.
#[derive(Debug)]
pub(crate) struct Segment {
    mapping: Mapping<BYTES>,
}

impl Segment {
    /// Makes a segment, and the descriptor by which the worker opens it.
    ///
    /// # Errors
    /// See [`sealed::create`].
    pub(crate) fn create() -> io::Result<(Self, OwnedFd)> {
        let (mapping, fd) = sealed::create("pool-shm")?;
        Ok((Self { mapping }, fd))
    }

    /// Maps a segment that another process has made.
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn open(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { mapping: sealed::open(fd)? })
    }

    /// Up to where the ring is written.
    pub(crate) fn written(&self, way: Way) -> &AtomicU64 {
        self.control(LINE * if way == Way::Calls { 0 } else { 2 })
    }

    /// The extent of what was written since the ring was empty. In the same cache line, so that it costs nothing
    /// to look.
    pub(crate) fn extent(&self, way: Way) -> &AtomicU64 {
        self.control(LINE * if way == Way::Calls { 0 } else { 2 } + 1)
    }

    /// Up to where the ring is read.
    pub(crate) fn read(&self, way: Way) -> &AtomicU64 {
        self.control(LINE * if way == Way::Calls { 1 } else { 3 })
    }

    /// What a sleeper wants to be woken for.
    pub(crate) fn bell(&self, sleeper: Sleeper) -> &AtomicU64 {
        self.control(LINE * if sleeper == Sleeper::Worker { 4 } else { 5 })
    }

    /// Not zero when the parent has ended the link.
    pub(crate) fn closed(&self) -> &AtomicU64 {
        self.control(LINE * 6)
    }

    /// Copies bytes into a ring, from the place of this position on.
    pub(crate) fn put(&self, way: Way, extent: Extent, position: u64, bytes: &[u8]) {
        self.mapping.put(ring_start(way), extent.size(), extent.place(position), bytes);
    }

    /// Appends bytes of a ring to `to`, from the place of this position on. At most as many as the extent has.
    pub(crate) fn get(&self, way: Way, extent: Extent, position: u64, count: usize, to: &mut Vec<u8>) {
        self.mapping.get(ring_start(way), extent.size(), extent.place(position), count, to);
    }

    fn control(&self, word: usize) -> &AtomicU64 {
        &self.mapping.words::<{ CLAIMS / 8 }>(0)[word]
    }
}

impl Board for Segment {
    fn words(&self) -> &[AtomicU64; SLOTS] {
        self.mapping.words(CLAIMS)
    }

    fn spin(&self) -> &AtomicU64 {
        self.control(LINE * 7)
    }
}

fn ring_start(way: Way) -> usize {
    RINGS + if way == Way::Calls { 0 } else { WIDE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::MemfdFlags;

    #[test]
    fn a_file_that_could_be_cut_short_is_not_mapped() {
        let fd = rustix::fs::memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&fd, BYTES as u64).unwrap();
        assert_eq!(Segment::open(fd).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn bytes_come_out_as_they_went_in_at_every_place() {
        let (segment, fd) = Segment::create().unwrap();
        let other = Segment::open(fd).unwrap();
        for (is_wide, base) in [(false, 0), (true, 0), (false, 77), (true, 1 << 40)] {
            let extent = Extent { base, is_wide };
            let size = extent.size() as u64;
            for position in [0, 5, size - 3, size, 3 * size - 1, u64::from(u32::MAX) + 77] {
                let all = if position == size - 3 { extent.size() } else { 2 };
                for (way, len) in [(Way::Calls, 1), (Way::Results, 1000), (Way::Calls, all)] {
                    let bytes: Vec<u8> = (0..len).map(|n| (n * 31 + position as usize) as u8).collect();
                    segment.put(way, extent, base + position, &bytes);
                    let mut found = b"before".to_vec();
                    other.get(way, extent, base + position, len, &mut found);
                    assert_eq!(found[..6], *b"before");
                    assert!(found[6..] == bytes, "{extent:?} {position} {len}");
                }
            }
        }
    }

    #[test]
    fn every_word_is_an_extent_and_every_extent_a_word() {
        for word in [0, 1, 2, 3, u64::MAX, u64::MAX - 1, 1 << 63] {
            let extent = Extent::from_word(word);
            assert_eq!((extent.to_word(), extent.size()), (word, [NARROW, WIDE][(word & 1) as usize]));
            for position in [0, 1, extent.base, u64::MAX] {
                assert!(extent.place(position) < extent.size());
            }
            assert_eq!(extent.place(extent.base), 0);
        }
    }

    #[test]
    fn the_parts_do_not_overlap() {
        let (segment, _fd) = Segment::create().unwrap();
        let all = Extent { base: 0, is_wide: true };
        segment.put(Way::Calls, all, 0, &vec![1; WIDE]);
        segment.put(Way::Results, all, 0, &vec![2; WIDE]);
        let ways = [Way::Calls, Way::Results];
        let controls =
            ways.iter().flat_map(|way| [segment.written(*way), segment.extent(*way), segment.read(*way)]);
        let bells =
            [segment.bell(Sleeper::Worker), segment.bell(Sleeper::Parent), segment.closed(), segment.spin()];
        let words: Vec<_> = controls.chain(bells).chain(segment.words()).collect();
        for (n, word) in words.iter().enumerate() {
            assert_eq!(word.swap(n as u64 + 1, std::sync::atomic::Ordering::Relaxed), 0, "word {n}");
        }
        for (way, byte) in [(Way::Calls, 1), (Way::Results, 2)] {
            let mut found = Vec::new();
            segment.get(way, all, 0, WIDE, &mut found);
            assert!(found.iter().all(|found| *found == byte));
        }
    }
}
