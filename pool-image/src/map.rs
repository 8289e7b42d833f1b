//! Where the segments of an image lie: plain numbers, no memory is touched here.

/// The segments of one loaded image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Map {
    /// Where the first segment starts.
    base: usize,
    segments: Vec<Segment>,
}

/// A range of memory that the loader filled from the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) start: usize,
    /// One past the last byte.
    pub(crate) end: usize,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

impl Map {
    /// A map of `segments`; `None` if there are none that hold anything.
    pub(crate) fn new(mut segments: Vec<Segment>) -> Option<Self> {
        segments.retain(|segment| segment.start < segment.end);
        let base = segments.iter().map(|segment| segment.start).min()?;
        Some(Self { base, segments })
    }

    pub(crate) fn offset_of(&self, address: usize) -> Option<usize> {
        let inside = self.segments.iter().any(|segment| (segment.start..segment.end).contains(&address));
        inside.then(|| address - self.base)
    }

    pub(crate) fn resolve(&self, offset: usize, len: usize, align: usize) -> Option<usize> {
        let start = self.base.checked_add(offset)?;
        let end = start.checked_add(len)?;
        // An address one past a segment's last byte is outside, so an empty range there is refused too.
        let inside = |segment: &&Segment| segment.start <= start && start < segment.end && end <= segment.end;
        self.segments.iter().find(inside).filter(|segment| segment.readable)?;
        (align.is_power_of_two() && start.is_multiple_of(align)).then_some(start)
    }

    /// The segments that nobody writes to, so that they read the same in every process: code and constants.
    pub(crate) fn constant(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.readable && !segment.writable)
    }
}

/// FNV-1a over eight bytes at a time; the tail is padded with zeros and the length goes in last.
///
/// It tells builds apart that nobody forges; it is no defence against somebody who tries.
pub(crate) fn hash(state: u64, bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let step = |state: u64, word: u64| (state ^ word).wrapping_mul(PRIME).rotate_left(23);
    let mut chunks = bytes.chunks_exact(8);
    let state = chunks.by_ref().fold(state, |state, chunk| {
        step(state, u64::from_le_bytes(chunk.try_into().expect("invariant: chunks_exact(8) yields eight bytes")))
    });
    let mut tail = [0; 8];
    tail[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    step(step(state, u64::from_le_bytes(tail)), bytes.len() as u64)
}

/// Where [`hash`] starts: FNV's offset basis.
pub(crate) const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

#[cfg(test)]
mod tests {
    use super::*;

    fn two_segments() -> Map {
        let code = Segment { start: 0x1000, end: 0x2000, readable: true, writable: false };
        let secret = Segment { start: 0x3000, end: 0x3800, readable: false, writable: false };
        Map::new(vec![secret, code]).expect("two segments")
    }

    #[test]
    fn an_address_is_told_only_inside_a_segment() {
        let map = two_segments();
        assert_eq!(map.offset_of(0x1000), Some(0));
        assert_eq!(map.offset_of(0x1fff), Some(0xfff));
        assert_eq!(map.offset_of(0x2000), None);
        assert_eq!(map.offset_of(0xfff), None);
        assert_eq!(map.offset_of(0x3000), Some(0x2000));
    }

    #[test]
    fn a_range_is_resolved_only_if_all_of_it_can_be_read() {
        let map = two_segments();
        assert_eq!(map.resolve(0, 0x1000, 8), Some(0x1000));
        assert_eq!(map.resolve(0, 0x1001, 8), None);
        assert_eq!(map.resolve(0xff8, 8, 8), Some(0x1ff8));
        assert_eq!(map.resolve(0xff8, 9, 8), None);
        assert_eq!(map.resolve(0x1000, 0, 1), None);
        assert_eq!(map.resolve(0x2000, 1, 1), None, "not readable");
        assert_eq!(map.resolve(usize::MAX, 1, 1), None);
        assert_eq!(map.resolve(8, usize::MAX, 1), None);
    }

    #[test]
    fn a_misaligned_address_is_refused() {
        let map = two_segments();
        assert_eq!(map.resolve(4, 4, 8), None);
        assert_eq!(map.resolve(4, 4, 4), Some(0x1004));
        assert_eq!(map.resolve(0, 4, 0), None);
        assert_eq!(map.resolve(0, 4, 3), None);
    }

    #[test]
    fn a_map_of_nothing_is_none() {
        assert_eq!(Map::new(vec![Segment { start: 8, end: 8, readable: true, writable: false }]), None);
    }
}
