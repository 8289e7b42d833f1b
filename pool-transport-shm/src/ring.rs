//! The two ends of a ring, and the bells.
//!
//! Each end keeps its own position to itself, and tells it by a control word; the other side's word is loaded, checked
//! and then believed for that one moment. What it says can at worst be wrong by what the ring holds.
//!
//! # Bells
//! A side that is about to sleep says in its bell what it wants to be woken for, and looks once more. The other side
//! looks at that bell after it has told its new position. Both put a fence between the two, so at least one of them sees
//! what the other did: nobody sleeps while there is something to do. Who rings takes the wish back, so that the next
//! byte does not ring again.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use crate::layout::{RING, Segment, Sleeper, Way};

/// To be woken when something has been written.
pub(crate) const DATA: u64 = 1;
/// To be woken when half of the ring is free.
pub(crate) const ROOM: u64 = 2;

/// So much is enough room to go on.
const ROOMY: usize = RING / 2;

/// The writing end.
#[derive(Debug)]
pub(crate) struct Writer {
    segment: Arc<Segment>,
    way: Way,
    written: u64,
    /// Up to where it was read when this was looked at last.
    read: u64,
}

/// The reading end.
#[derive(Debug)]
pub(crate) struct Reader {
    segment: Arc<Segment>,
    way: Way,
    read: u64,
}

impl Writer {
    pub(crate) fn new(segment: Arc<Segment>, way: Way) -> Self {
        Self { segment, way, written: 0, read: 0 }
    }

    /// How many bytes there is room for. Looks again only if that is less than `wanted` as far as is known.
    pub(crate) fn room(&mut self, wanted: usize) -> io::Result<usize> {
        let known = RING - self.used();
        if known >= wanted {
            return Ok(known);
        }
        let read = self.segment.read(self.way).load(Ordering::Acquire);
        // It never goes back, and never beyond what is there.
        if read < self.read || read > self.written {
            return Err(broken("read", read, self.read, self.written));
        }
        self.read = read;
        Ok(RING - self.used())
    }

    /// Whether there is room enough to go on.
    pub(crate) fn is_roomy(&mut self) -> io::Result<bool> {
        Ok(self.room(RING)? >= ROOMY)
    }

    /// Copies as much of `bytes` as there is room for, which nobody sees before it is [shown](Self::show).
    pub(crate) fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room(bytes.len())?);
        self.segment.put(self.way, self.written, &bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    pub(crate) fn show(&self) {
        self.segment.written(self.way).store(self.written, Ordering::Release);
    }

    fn used(&self) -> usize {
        (self.written - self.read) as usize
    }
}

impl Reader {
    pub(crate) fn new(segment: Arc<Segment>, way: Way) -> Self {
        Self { segment, way, read: 0 }
    }

    pub(crate) fn position(&self) -> u64 {
        self.read
    }

    /// How many bytes are there.
    pub(crate) fn available(&self) -> io::Result<usize> {
        let written = self.segment.written(self.way).load(Ordering::Acquire);
        match written.checked_sub(self.read).map(usize::try_from) {
            Some(Ok(count)) if count <= RING => Ok(count),
            _ => Err(broken("written", written, self.read, self.read + RING as u64)),
        }
    }

    /// Appends up to `max` bytes to `to`. Returns how many, and whether there is room enough now for a writer that waits.
    pub(crate) fn take(&mut self, to: &mut Vec<u8>, max: usize) -> io::Result<(usize, bool)> {
        let available = self.available()?;
        let count = available.min(max);
        self.segment.get(self.way, self.read, count, to);
        self.read += count as u64;
        self.segment.read(self.way).store(self.read, Ordering::Release);
        Ok((count, available - count <= RING - ROOMY))
    }
}

impl Segment {
    /// A side is about to sleep until this. It has to look once more after it.
    pub(crate) fn wish(&self, sleeper: Sleeper, wish: u64) {
        self.bell(sleeper).fetch_or(wish, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// It does not sleep.
    pub(crate) fn take_back(&self, sleeper: Sleeper, wish: u64) {
        self.bell(sleeper).fetch_and(!wish, Ordering::SeqCst);
    }

    /// Wakes the other side if it wants to be woken for this, which has been told.
    pub(crate) fn ring(&self, sleeper: Sleeper, event: u64, bell: impl AsFd) {
        fence(Ordering::SeqCst);
        let wishes = self.bell(sleeper);
        if wishes.load(Ordering::Relaxed) & event != 0 && wishes.fetch_and(!event, Ordering::SeqCst) & event != 0 {
            // A full pipe rings, and who has gone need not be woken.
            let _ = rustix::io::write(bell, &[1]);
        }
    }
}

/// A position is where it cannot be.
fn broken(what: &str, found: u64, from: u64, to: u64) -> io::Error {
    let why = format!("the position up to which a ring is {what} is {found}, which is not within {from} to {to}");
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> (Arc<Segment>, Writer, Reader) {
        let (segment, _) = Segment::create().unwrap();
        let segment = Arc::new(segment);
        let (ours, theirs) = (Arc::clone(&segment), Arc::clone(&segment));
        (segment, Writer::new(ours, Way::Results), Reader::new(theirs, Way::Results))
    }

    #[test]
    fn bytes_come_in_order_whatever_the_pieces() {
        let (_, mut writer, mut reader) = ends();
        let (mut next, mut expected, mut size) = (0_u8, 0_u8, 1_usize);
        for _ in 0..2000 {
            size = (size * 31 + 7) % 9973;
            let bytes: Vec<u8> = (0..size).map(|n| next.wrapping_add(n as u8)).collect();
            let count = writer.put(&bytes).unwrap();
            next = next.wrapping_add(count as u8);
            writer.show();
            let mut found = Vec::new();
            while reader.take(&mut found, size / 3 + 1).unwrap().0 > 0 && found.len() < size / 2 {}
            for byte in found {
                assert_eq!(byte, expected);
                expected = expected.wrapping_add(1);
            }
        }
    }

    #[test]
    fn nothing_is_seen_before_it_is_shown_and_a_full_ring_takes_no_more() {
        let (_, mut writer, mut reader) = ends();
        assert_eq!(writer.put(&vec![7; 2 * RING]).unwrap(), RING);
        assert_eq!(reader.available().unwrap(), 0);
        writer.show();
        assert_eq!((writer.put(&[1]).unwrap(), writer.is_roomy().unwrap()), (0, false));
        let mut found = Vec::new();
        assert_eq!(reader.take(&mut found, 1).unwrap(), (1, false));
        assert_eq!((writer.put(&[1, 2]).unwrap(), writer.put(&[2]).unwrap()), (1, 0));
        assert!(reader.take(&mut found, RING / 2).unwrap().1);
        assert!(writer.is_roomy().unwrap());
    }

    #[test]
    fn positions_that_cannot_be_are_not_believed() {
        for wrong in [u64::MAX, RING as u64 + 11, 9, 1 << 63] {
            let (segment, mut writer, mut reader) = ends();
            writer.put(&[0; 10]).unwrap();
            writer.show();
            reader.take(&mut Vec::new(), 10).unwrap();
            segment.written(Way::Results).store(wrong, Ordering::Relaxed);
            assert_eq!(reader.available().unwrap_err().kind(), io::ErrorKind::InvalidData, "{wrong}");
            assert!(reader.take(&mut Vec::new(), 10).is_err());
        }
        for wrong in [u64::MAX, 11, 1 << 63] {
            let (segment, mut writer, _reader) = ends();
            writer.put(&[0; 10]).unwrap();
            segment.read(Way::Results).store(wrong, Ordering::Relaxed);
            assert_eq!(writer.room(RING).unwrap_err().kind(), io::ErrorKind::InvalidData, "{wrong}");
        }
        let (segment, mut writer, _reader) = ends();
        writer.put(&[0; 10]).unwrap();
        segment.read(Way::Results).store(5, Ordering::Relaxed);
        assert_eq!(writer.room(RING).unwrap(), RING - 5);
        segment.read(Way::Results).store(4, Ordering::Relaxed);
        assert!(writer.room(RING).is_err(), "it went back");
    }

    #[test]
    fn a_bell_rings_once_for_what_was_wished_for() {
        let (segment, ..) = ends();
        let (heard, bell) = io::pipe().unwrap();
        let rings = |event| {
            let before = rustix::io::ioctl_fionread(&heard).unwrap();
            segment.ring(Sleeper::Parent, event, &bell);
            rustix::io::ioctl_fionread(&heard).unwrap() - before
        };
        assert_eq!(rings(DATA), 0, "nobody sleeps");
        segment.wish(Sleeper::Parent, DATA);
        assert_eq!((rings(ROOM), rings(DATA), rings(DATA)), (0, 1, 0));
        segment.wish(Sleeper::Parent, DATA | ROOM);
        segment.take_back(Sleeper::Parent, DATA);
        assert_eq!((rings(DATA), rings(ROOM)), (0, 1));
    }
}
