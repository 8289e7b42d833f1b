//! How a segment is laid out, and how a side gets at its parts.
//!
//! ```text
//!      0   calls written · calls read · results written · results read      (a cache line each)
//!    256   the worker's bell · the parent's bell · closed · spin
//!   4096   claim words
//!  12288   the ring of calls, and after it the ring of results
//! ```
//!
//! Positions count bytes since the beginning and never go back; a byte's place is its position modulo the ring's size.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;

use pool_link::claims::{Board, SLOTS};
use pool_link::sealed;
use pool_link::sys::Mapping;

/// The size of each ring. As large as a message that should need one wake-up each way; small enough to stay in a cache.
pub(crate) const RING: usize = 512 * 1024;

const CLAIMS: usize = 4096;
const RINGS: usize = CLAIMS + 8 * SLOTS;
const BYTES: usize = RINGS + 2 * RING;

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
    pub(crate) fn put(&self, way: Way, position: u64, bytes: &[u8]) {
        self.mapping.put(ring_start(way), RING, place(position), bytes);
    }

    /// Appends bytes of a ring to `to`, from the place of this position on. At most as many as a ring has.
    pub(crate) fn get(&self, way: Way, position: u64, count: usize, to: &mut Vec<u8>) {
        self.mapping.get(ring_start(way), RING, place(position), count, to);
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
    RINGS + if way == Way::Calls { 0 } else { RING }
}

fn place(position: u64) -> usize {
    (position % RING as u64) as usize
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
        for position in [0, 5, RING as u64 - 3, RING as u64, 3 * RING as u64 - 1, u64::from(u32::MAX) + 77] {
            for (way, len) in [(Way::Calls, 1), (Way::Results, 1000), (Way::Calls, RING)] {
                let bytes: Vec<u8> = (0..len).map(|n| (n * 31 + position as usize) as u8).collect();
                segment.put(way, position, &bytes);
                let mut found = b"before".to_vec();
                other.get(way, position, len, &mut found);
                assert_eq!(found[..6], *b"before");
                assert!(found[6..] == bytes, "{position} {len}");
            }
        }
    }

    #[test]
    fn the_parts_do_not_overlap() {
        let (segment, _fd) = Segment::create().unwrap();
        segment.put(Way::Calls, 0, &[1; RING]);
        segment.put(Way::Results, 0, &[2; RING]);
        let ways = [Way::Calls, Way::Results];
        let controls = ways.iter().flat_map(|way| [segment.written(*way), segment.read(*way)]);
        let bells =
            [segment.bell(Sleeper::Worker), segment.bell(Sleeper::Parent), segment.closed(), segment.spin()];
        let words: Vec<_> = controls.chain(bells).chain(segment.words()).collect();
        for (n, word) in words.iter().enumerate() {
            assert_eq!(word.swap(n as u64 + 1, std::sync::atomic::Ordering::Relaxed), 0, "word {n}");
        }
        for (way, byte) in [(Way::Calls, 1), (Way::Results, 2)] {
            let mut found = Vec::new();
            segment.get(way, 0, RING, &mut found);
            assert!(found.iter().all(|found| *found == byte));
        }
    }
}
