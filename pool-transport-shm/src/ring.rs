//! The two ends of a ring, and the bells.
//!
//! Each end keeps its own position to itself, and tells it by a control word; the other side's word is loaded, checked
//! and then believed for that one moment. What it says can at worst be wrong by what the ring holds.
//!
//! # Narrow and wide
//! Small frames go through the same few pages for ever, large ones are to find room without a sleep for each piece
//! of them. So the writer begins at the ring's front again when it finds everything read, and decides then how
//! much of the ring to use from there on: its [`Extent`]. Nobody has anything under way by the old one at that
//! moment. It tells the new one before the position up to which it has written by it, so a reader that sees bytes
//! sees their extent too, and sees it change at its base only. What is larger than a narrow ring waits until that
//! is empty; what is not goes on in it as it is.
//!
//! One large frame after the other goes round the wide ring, though it is empty between them. To begin at its front
//! again would be to write what the reader has in a cache of its own since it has just read it, and each line of that
//! has to be taken away from there first: that is several times as slow as to write what has left that cache for the
//! one that both share, or for memory.
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

use crate::layout::{Extent, NARROW, Segment, Sleeper, WIDE, Way};

/// To be woken when something has been written.
pub(crate) const DATA: u64 = 1;
/// To be woken when half of what is in use of the ring is free.
pub(crate) const ROOM: u64 = 2;
/// To be woken when everything is read.
pub(crate) const EMPTY: u64 = 4;

/// A large frame is shown piece by piece: one is copied on one side while the next is copied on the other.
pub(crate) const PIECE: usize = 64 * 1024;

/// So much is written before it is worth a look whether the ring is empty: the reader's word is in its cache.
const AHEAD: u64 = 64 * 1024;
/// So much of a large frame is shown without a bell: half of the ring.
const SILENT: u64 = WIDE as u64 / 2;
/// So much is read at once at most, so that the writer learns of the room soon.
const TAKE: usize = 256 * 1024;

/// The writing end.
#[derive(Debug)]
pub(crate) struct Writer {
    segment: Arc<Segment>,
    way: Way,
    extent: Extent,
    written: u64,
    /// Up to where the other side may read.
    shown: u64,
    /// Up to where it was read when this was looked at last.
    read: u64,
    /// Where to look next whether the ring is empty.
    due: u64,
    /// Up to where a piece is not worth a bell.
    silent_to: u64,
    /// [`EMPTY`] if it goes on only when everything is read, else [`ROOM`].
    wants: u64,
    /// The other side does not keep to the rules: it gets no second chance.
    is_broken: bool,
}

/// The reading end.
#[derive(Debug)]
pub(crate) struct Reader {
    segment: Arc<Segment>,
    way: Way,
    extent: Extent,
    read: u64,
    /// Up to where it was written when this was looked at last.
    written: u64,
}

impl Writer {
    pub(crate) fn new(segment: Arc<Segment>, way: Way) -> Self {
        let extent = Extent::FIRST;
        let (written, shown, read, silent_to) = (0, 0, 0, 0);
        Self { segment, way, extent, written, shown, read, due: AHEAD, silent_to, wants: ROOM, is_broken: false }
    }

    /// Copies as much of `bytes` as there is room for, which nobody sees before it is [shown](Self::show). `left`
    /// is how much is to be written from here on, `bytes` included.
    pub(crate) fn put(&mut self, bytes: &[u8], left: usize) -> io::Result<usize> {
        if left > self.room() || self.written >= self.due {
            self.look()?;
            self.due = self.written + AHEAD;
            let is_wide = left > NARROW;
            if self.read == self.written && !(is_wide && self.extent.is_wide) {
                self.extent = Extent { base: self.written, is_wide };
            }
        }
        self.wants = if left > NARROW && !self.extent.is_wide { EMPTY } else { ROOM };
        if self.wants == EMPTY {
            return Ok(0);
        }
        let count = bytes.len().min(self.room());
        self.segment.put(self.way, self.extent, self.written, &bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    /// Lets the other side see everything that was put. It is to be rung for.
    pub(crate) fn show(&mut self) {
        self.tell();
        self.silent_to = self.written;
    }

    /// Lets the other side see a piece of something larger. Returns whether to ring: for the first piece, so that a
    /// sleeper is awake when there is more, and long before the ring is full. Who falls asleep in between is not to
    /// be woken for each piece.
    pub(crate) fn show_piece(&mut self) -> bool {
        self.tell();
        let is_due = self.written > self.silent_to;
        if is_due {
            self.silent_to = self.written + SILENT;
        }
        is_due
    }

    fn tell(&mut self) {
        if self.shown != self.written {
            self.shown = self.written;
            // With the position, which is stored after it, it is seen.
            self.segment.extent(self.way).store(self.extent.to_word(), Ordering::Relaxed);
            self.segment.written(self.way).store(self.written, Ordering::Release);
        }
    }

    /// What to wish for after nothing, or not all, was put.
    pub(crate) fn wants(&self) -> u64 {
        self.wants
    }

    /// Whether that has come true.
    pub(crate) fn is_roomy(&mut self) -> io::Result<bool> {
        self.look()?;
        Ok(if self.wants == EMPTY { self.read == self.written } else { self.room() >= self.extent.size() / 2 })
    }

    fn look(&mut self) -> io::Result<()> {
        let read = self.segment.read(self.way).load(Ordering::Acquire);
        // It never goes back, and never beyond what is there to be read.
        if self.is_broken || read < self.read || read > self.shown {
            self.is_broken = true;
            return Err(broken(format!(
                "a ring is read up to {read}, which is not within {} to {}",
                self.read, self.shown
            )));
        }
        self.read = read;
        Ok(())
    }

    /// How much room there is, as far as is known.
    fn room(&self) -> usize {
        self.extent.size() - (self.written - self.read) as usize
    }
}

impl Reader {
    pub(crate) fn new(segment: Arc<Segment>, way: Way) -> Self {
        Self { segment, way, extent: Extent::FIRST, read: 0, written: 0 }
    }

    pub(crate) fn position(&self) -> u64 {
        self.read
    }

    /// How many bytes are there.
    pub(crate) fn available(&mut self) -> io::Result<usize> {
        let written = self.segment.written(self.way).load(Ordering::Acquire);
        if written < self.written {
            return Err(broken(format!("a ring is written up to {written}, and was up to {}", self.written)));
        }
        if written == self.read {
            return Ok(0);
        }
        // The writer leaves it alone until what is there is read.
        let extent = Extent::from_word(self.segment.extent(self.way).load(Ordering::Relaxed));
        if extent != self.extent && extent.base != self.read {
            return Err(broken(format!("a ring read up to {} begins at {}", self.read, extent.base)));
        }
        let count = written - self.read;
        if count > extent.size() as u64 {
            return Err(broken(format!(
                "a ring of {} bytes, read up to {}, is written up to {written}",
                extent.size(),
                self.read
            )));
        }
        (self.written, self.extent) = (written, extent);
        Ok(count as usize)
    }

    /// Appends up to `max` bytes to `to`. Returns how many, and what of it may wake the writer.
    pub(crate) fn take(&mut self, to: &mut Vec<u8>, max: usize) -> io::Result<(usize, u64)> {
        let available = self.available()?;
        let count = available.min(max).min(TAKE);
        if count == 0 {
            return Ok((0, 0));
        }
        self.segment.get(self.way, self.extent, self.read, count, to);
        self.read += count as u64;
        self.segment.read(self.way).store(self.read, Ordering::Release);
        let left = available - count;
        let room = if left <= self.extent.size() / 2 { ROOM } else { 0 };
        Ok((count, if left == 0 { room | EMPTY } else { room }))
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

/// A control word is what it cannot be.
fn broken(why: String) -> io::Error {
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

    /// Puts and shows as much as there is room for, as if that were all that is to be written.
    fn write(writer: &mut Writer, bytes: &[u8]) -> usize {
        let mut total = 0;
        for piece in bytes.chunks(PIECE) {
            total += writer.put(piece, bytes.len() - total).unwrap();
        }
        writer.show();
        total
    }

    fn read(reader: &mut Reader, max: usize) -> (usize, u64) {
        let (mut total, mut all) = (0, 0);
        while total < max {
            let (count, events) = reader.take(&mut Vec::new(), max - total).unwrap();
            if count == 0 {
                break;
            }
            total += count;
            all |= events;
        }
        (total, all)
    }

    #[test]
    fn bytes_come_in_order_whatever_the_pieces() {
        let (_, mut writer, mut reader) = ends();
        let (mut next, mut expected, mut size) = (0_u8, 0_u8, 1_usize);
        let (mut extents, mut queue) = (Vec::new(), Vec::new());
        for n in 0..2000 {
            size = (size * 31 + 7) % 9973;
            // A large one now and then.
            let len = if n % 200 == 199 { 200 * size } else { size };
            queue.extend((0..len).map(|n| next.wrapping_add(n as u8)));
            next = next.wrapping_add(len as u8);
            let count = write(&mut writer, &queue);
            queue.drain(..count);
            extents.push(writer.extent);
            let mut found = Vec::new();
            while reader.take(&mut found, size / 3 + 1).unwrap().0 > 0 && found.len() < 200_000 {}
            let right: Vec<_> = (0..found.len()).map(|n| expected.wrapping_add(n as u8)).collect();
            assert!(found == right, "{n}");
            expected = expected.wrapping_add(found.len() as u8);
        }
        let changes =
            |extents: &[Extent]| extents.windows(2).filter(|two| two[0].is_wide != two[1].is_wide).count();
        assert!(changes(&extents) > 4, "{}", changes(&extents));
    }

    #[test]
    fn nothing_is_seen_before_it_is_shown_and_a_full_ring_takes_no_more() {
        for (size, left) in [(NARROW, NARROW), (WIDE, 2 * WIDE)] {
            let (_, mut writer, mut reader) = ends();
            assert_eq!(writer.put(&vec![7; 2 * WIDE], left).unwrap(), size);
            assert_eq!(reader.available().unwrap(), 0);
            writer.show();
            assert_eq!((writer.put(&[1], 1).unwrap(), writer.is_roomy().unwrap()), (0, false));
            assert_eq!(read(&mut reader, 1), (1, 0));
            assert_eq!((writer.put(&[1, 2], 2).unwrap(), writer.put(&[2], 1).unwrap()), (1, 0));
            writer.show();
            assert_eq!((read(&mut reader, size / 2 - 1), writer.is_roomy().unwrap()), ((size / 2 - 1, 0), false));
            assert_eq!(read(&mut reader, 1), (1, ROOM));
            assert!(writer.is_roomy().unwrap());
        }
    }

    #[test]
    fn what_is_small_stays_at_the_front_and_what_is_large_gets_all_of_the_ring() {
        let (_, mut writer, mut reader) = ends();
        for n in 0..100 {
            assert_eq!(write(&mut writer, &[0; 20_000]), 20_000);
            assert!(!writer.extent.is_wide && writer.written - writer.extent.base <= AHEAD + 20_000, "{n}");
            assert_eq!(read(&mut reader, 20_000), (20_000, ROOM | EMPTY));
        }
        assert_eq!(write(&mut writer, &vec![0; WIDE]), WIDE);
        assert_eq!(writer.extent, Extent { base: 2_000_000, is_wide: true });
        assert_eq!((read(&mut reader, WIDE).0, reader.extent), (WIDE, writer.extent));
        assert_eq!(write(&mut writer, &[0]), 1);
        assert_eq!(writer.extent, Extent { base: 2_000_000 + WIDE as u64, is_wide: false });
        assert_eq!((read(&mut reader, 1).0, reader.extent), (1, writer.extent));
    }

    #[test]
    fn what_is_large_goes_round_the_ring_though_it_is_empty_each_time() {
        let (_, mut writer, mut reader) = ends();
        let bytes: Vec<u8> = (0..3 * WIDE / 4).map(|n| (n % 251) as u8).collect();
        for n in 0..10 {
            assert_eq!(write(&mut writer, &bytes), bytes.len());
            assert_eq!(writer.extent, Extent { base: 0, is_wide: true }, "{n}");
            let mut found = Vec::new();
            while reader.take(&mut found, WIDE).unwrap().0 > 0 {}
            assert!(found == bytes, "{n}");
        }
    }

    #[test]
    fn what_is_large_waits_until_a_narrow_ring_is_empty_and_nobody_else_does() {
        let (_, mut writer, mut reader) = ends();
        write(&mut writer, &[0; 10]);
        assert_eq!((writer.put(&[0; 100], NARROW + 1).unwrap(), writer.wants()), (0, EMPTY));
        assert_eq!((read(&mut reader, 9).1, writer.is_roomy().unwrap()), (ROOM, false));
        assert_eq!((writer.put(&[0; 100], NARROW + 1).unwrap(), writer.wants()), (0, EMPTY));
        assert_eq!((read(&mut reader, 1).1, writer.is_roomy().unwrap()), (ROOM | EMPTY, true));
        assert_eq!((writer.put(&[0; 100], NARROW + 1).unwrap(), writer.wants()), (100, ROOM));
        assert_eq!((writer.put(&[0; 100], NARROW - 99).unwrap(), writer.wants()), (100, ROOM));
        // What would fit an empty one takes what there is.
        let (_, mut writer, _reader) = ends();
        write(&mut writer, &vec![0; NARROW - 10]);
        assert_eq!((writer.put(&[0; 100], NARROW).unwrap(), writer.wants()), (10, ROOM));
    }

    #[test]
    fn pieces_ring_at_first_and_then_for_each_half_of_the_ring() {
        let (_, mut writer, mut reader) = ends();
        let mut left = 3 * WIDE / 2;
        let mut rung = Vec::new();
        while left > 0 {
            writer.put(&[0; PIECE], left).unwrap();
            left -= PIECE;
            if writer.show_piece() {
                rung.push(writer.written as usize / PIECE);
            }
            assert_eq!(read(&mut reader, WIDE).0, PIECE, "it is shown, rung for or not");
        }
        assert_eq!(rung, [1, 18, 35]);
        writer.show();
        writer.put(&[0; PIECE], PIECE).unwrap();
        assert!(writer.show_piece(), "the next one is not of the same");
    }

    #[test]
    fn positions_that_cannot_be_are_not_believed() {
        for wrong in [u64::MAX, NARROW as u64 + 11, 9, 1 << 63] {
            let (segment, mut writer, mut reader) = ends();
            write(&mut writer, &[0; 10]);
            read(&mut reader, 10);
            segment.written(Way::Results).store(wrong, Ordering::Relaxed);
            assert_eq!(reader.available().unwrap_err().kind(), io::ErrorKind::InvalidData, "{wrong}");
            assert!(reader.take(&mut Vec::new(), 10).is_err());
        }
        // Beyond what was shown, be it put or not.
        for wrong in [u64::MAX, 11, 1 << 63] {
            let (segment, mut writer, _reader) = ends();
            write(&mut writer, &[0; 10]);
            writer.put(&[0; 10], 10).unwrap();
            segment.read(Way::Results).store(wrong, Ordering::Relaxed);
            assert_eq!(writer.is_roomy().unwrap_err().kind(), io::ErrorKind::InvalidData, "{wrong}");
            segment.read(Way::Results).store(0, Ordering::Relaxed);
            assert!(writer.is_roomy().is_err(), "once is enough");
        }
        let (segment, mut writer, _reader) = ends();
        write(&mut writer, &[0; 10]);
        segment.read(Way::Results).store(5, Ordering::Relaxed);
        assert!(writer.is_roomy().unwrap());
        assert_eq!(writer.room(), NARROW - 5);
        segment.read(Way::Results).store(4, Ordering::Relaxed);
        assert!(writer.is_roomy().is_err(), "it went back");
    }

    #[test]
    fn a_position_that_was_seen_is_not_taken_back() {
        let (segment, mut writer, mut reader) = ends();
        write(&mut writer, &[0; 10]);
        assert_eq!(reader.available().unwrap(), 10);
        segment.written(Way::Results).store(9, Ordering::Relaxed);
        assert!(reader.available().is_err());
    }

    #[test]
    fn an_extent_is_believed_at_its_base_only() {
        let is_wide = true;
        for (base, good) in [(10, true), (0, false), (9, false), (11, false), (u64::MAX >> 1, false)] {
            let (segment, mut writer, mut reader) = ends();
            write(&mut writer, &[0; 10]);
            read(&mut reader, 10);
            write(&mut writer, &[0; 10]);
            segment.extent(Way::Results).store(Extent { base, is_wide }.to_word(), Ordering::Relaxed);
            assert_eq!(reader.available().is_ok(), good, "{base}");
        }
        // More than a narrow ring holds.
        let (segment, mut writer, mut reader) = ends();
        write(&mut writer, &vec![0; WIDE]);
        segment.extent(Way::Results).store(Extent::FIRST.to_word(), Ordering::Relaxed);
        assert!(reader.available().is_err());
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
