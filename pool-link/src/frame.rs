//! Frames in a stream of bytes: a length (`u32`, little endian), then that many bytes.
//!
//! Pure: [`Decoder`] says how many bytes it wants and where; somebody else reads them. Small frames are taken
//! out of one reused buffer, many per read; a large one is read straight into its own vector.
//!
//! A length field is only believed as far as the limit goes, and memory is used as bytes arrive: a liar costs us at most
//! twice what it has really sent, plus 1 MiB. On Unix, after the first of these, address space is reserved for all of the
//! frame; it becomes memory as it is written to.

use std::io;
use std::ops::Range;

use pool_core::transport::Seq;

/// How many bytes a length field takes.
pub const HEADER: usize = 4;
/// The size of the reused buffer: that of a pipe, so that one read can take all that is there.
const BUFFER: usize = 64 * 1024;
/// Frames above this have a vector of their own. A frame of this size fits the buffer together with its header.
const SMALL_MAX: usize = BUFFER - HEADER;
/// How much is read at first where a large frame is expected: what comes of it is copied once more.
const GLIMPSE: usize = 2048;
/// The first reservation for a large frame: 1 MiB, and what else comes with so much.
const STEP: usize = 1024 * 1024 + 4096;
/// No frame may be this long: the last value of the length field is kept free.
pub const LENGTH_LIMIT: usize = u32::MAX as usize;

/// The largest frame unless told otherwise.
pub const FRAME_MAX: usize = 1 << 30;

/// The header of a frame of `len` bytes, or `None` if that exceeds `frame_max`.
pub fn header(len: usize, frame_max: usize) -> Option<[u8; HEADER]> {
    if len > frame_max || len >= LENGTH_LIMIT {
        return None;
    }
    Some((len as u32).to_le_bytes())
}

/// Stands in a worker's stream in the place of a frame: the parent asks for the end of this call. For links that have no
/// other way to say it to a worker that is at a call.
pub fn request(seq: Seq) -> [u8; REQUEST] {
    let mut bytes = [0xff; REQUEST];
    bytes[HEADER..].copy_from_slice(&seq.0.to_le_bytes());
    bytes
}

/// How many bytes a request takes, with what announces it: the value of a length field that no frame has.
const REQUEST: usize = HEADER + 8;

/// Why a frame was not sent.
pub fn too_long_to_send(len: usize, limit: usize) -> String {
    format!("a frame of {len} bytes was to be sent, the limit is {limit}")
}

/// What arrived is not a frame; the text says why.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

/// A complete frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// These bytes of the buffer.
    Small(&'a [u8]),
    /// What is in the vector that was passed as `large`.
    Large,
    /// The end of this call is asked for.
    Request(Seq),
}

/// Finds the frames in a stream of bytes.
#[derive(Debug)]
pub struct Decoder {
    frame_max: usize,
    buffer: Vec<u8>,
    /// Where the first byte lies that belongs to no frame taken so far.
    start: usize,
    /// The length of the large frame that is arriving.
    large: Option<usize>,
    /// The last frame was a large one: so may the next be.
    expects_large: bool,
    /// There may be requests among the frames.
    has_requests: bool,
}

impl Decoder {
    /// Frames of more than `frame_max` bytes are none.
    pub fn new(frame_max: usize) -> Self {
        let buffer = Vec::with_capacity(BUFFER);
        Self { frame_max, buffer, start: 0, large: None, expects_large: false, has_requests: false }
    }

    /// The same, in a stream that has [requests](request) too.
    pub fn with_requests(self) -> Self {
        Self { has_requests: true, ..self }
    }

    /// Lets `read` append bytes, as many as it is told (at least one, at most `limit`) or fewer. Returns what
    /// it returned: how many.
    ///
    /// `large` must be the same vector from call to call while a large frame arrives.
    pub fn fill(
        &mut self,
        large: &mut Vec<u8>,
        limit: usize,
        read: impl FnOnce(&mut Vec<u8>, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let (target, room) = match self.large {
            Some(len) => {
                let room = room_for_large(large, len);
                (large, room)
            }
            None => {
                self.compact();
                let end = if self.expects_large && self.buffer.is_empty() { GLIMPSE } else { BUFFER };
                let room = end - self.buffer.len();
                (&mut self.buffer, room)
            }
        };
        read(target, room.min(limit))
    }

    /// Takes the next complete frame, if there is one.
    pub fn next(&mut self, large: &mut Vec<u8>) -> Result<Option<Item<'_>>, Malformed> {
        if let Some(len) = self.large {
            if large.len() < len {
                return Ok(None);
            }
            self.large = None;
            self.expects_large = true;
            return Ok(Some(Item::Large));
        }
        let Some(len) = self.length()? else { return Ok(None) };
        let body = self.start + HEADER;
        if len > SMALL_MAX {
            if len == LENGTH_LIMIT && self.has_requests {
                return Ok(self.request().map(Item::Request));
            }
            self.begin_large(large, body, len);
            // The buffer never holds a whole large frame, so there is nothing to take yet.
            return Ok(None);
        }
        match self.buffer.get(body..body + len) {
            None => Ok(None),
            Some(frame) => {
                self.expects_large = false;
                self.start = body + len;
                Ok(Some(Item::Small(frame)))
            }
        }
    }

    /// Whether every byte so far belongs to a complete frame that was taken.
    pub fn is_between_frames(&self) -> bool {
        self.large.is_none() && self.start == self.buffer.len()
    }

    /// Whether a part of a large frame has arrived.
    pub fn is_in_large_frame(&self) -> bool {
        self.large.is_some()
    }

    /// Gives the memory back. Nothing is filled in after this.
    pub fn clear(&mut self) {
        self.buffer = Vec::new();
        self.start = 0;
        self.large = None;
    }

    fn length(&self) -> Result<Option<usize>, Malformed> {
        let rest = &self.buffer[self.start..];
        let Some(header) = rest.first_chunk::<HEADER>() else { return Ok(None) };
        let len = u32::from_le_bytes(*header) as usize;
        if len > self.frame_max && !(self.has_requests && len == LENGTH_LIMIT) {
            let limit = self.frame_max;
            return Err(Malformed(format!("a frame of {len} bytes was announced, the limit is {limit}")));
        }
        Ok(Some(len))
    }

    /// Takes a request that is announced here, if all of it is.
    fn request(&mut self) -> Option<Seq> {
        let number = self.buffer.get(self.start + HEADER..)?.first_chunk()?;
        self.start += REQUEST;
        Some(Seq(u64::from_le_bytes(*number)))
    }

    fn begin_large(&mut self, large: &mut Vec<u8>, body: usize, len: usize) {
        large.clear();
        if large.capacity() == 0 {
            *large = pool_core::transport::spare_buffer(len);
        }
        large.reserve_exact(len.min(STEP));
        let arrived: Range<usize> = body..self.buffer.len();
        large.extend_from_slice(&self.buffer[arrived]);
        self.buffer.clear();
        self.start = 0;
        self.large = Some(len);
    }

    /// Moves the beginning of an incomplete frame to the front, so that the rest of it has room.
    fn compact(&mut self) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
        } else if self.start > 0 {
            self.buffer.drain(..self.start);
        }
        self.start = 0;
    }
}

/// Makes room for more of a frame of `len` bytes.
fn room_for_large(large: &mut Vec<u8>, len: usize) -> usize {
    let missing = len - large.len();
    if large.len() == large.capacity() {
        grow(large, missing);
    }
    missing.min(large.capacity() - large.len())
}

/// Makes room for what is missing, or for some of it.
fn grow(large: &mut Vec<u8>, missing: usize) {
    #[cfg(unix)]
    if large.len() >= STEP && large.try_reserve_exact(missing).is_ok() {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        crate::sys::expect_use(large);
        return;
    }
    large.reserve_exact(missing.min(large.len().max(STEP)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `stream` in pieces whose sizes `piece` chooses, and collects the frames.
    fn decode(
        stream: &[u8],
        frame_max: usize,
        mut piece: impl FnMut() -> usize,
    ) -> Result<Vec<Vec<u8>>, Malformed> {
        let (mut large, mut frames) = (Vec::new(), Vec::new());
        let mut decoder = Decoder::new(frame_max);
        decoder.has_requests = frame_max < LENGTH_LIMIT;
        let mut rest = stream;
        while !rest.is_empty() {
            let size = piece().clamp(1, rest.len());
            let got = decoder
                .fill(&mut large, size, |target, room| {
                    assert!(room > 0, "the decoder always has room");
                    target.extend_from_slice(&rest[..room]);
                    Ok(room)
                })
                .unwrap();
            rest = &rest[got..];
            loop {
                match decoder.next(&mut large)? {
                    None => break,
                    Some(Item::Small(frame)) => frames.push(frame.to_vec()),
                    Some(Item::Large) => frames.push(std::mem::take(&mut large)),
                    Some(Item::Request(seq)) => frames.push(request(seq).to_vec()),
                }
            }
        }
        assert!(decoder.is_between_frames());
        Ok(frames)
    }

    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let x = *state;
        (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
    }

    #[test]
    fn any_cut_of_a_stream_gives_the_same_frames_and_requests() {
        for seed in 0..60 {
            let mut state = seed;
            let frames: Vec<Vec<u8>> = (0..30)
                .map(|_| {
                    let range = [1, 40, 5_000, SMALL_MAX as u64 + 3, 300_000][random(&mut state) as usize % 5];
                    let len = (random(&mut state) % range) as usize;
                    (0..len).map(|i| (i as u64 ^ state) as u8).collect()
                })
                .collect();
            let mut stream = Vec::new();
            let mut expected = Vec::new();
            for frame in frames {
                stream.extend(header(frame.len(), LENGTH_LIMIT).unwrap());
                stream.extend(&frame);
                expected.push(frame);
                if random(&mut state).is_multiple_of(4) {
                    let request = request(Seq(random(&mut state)));
                    stream.extend(request);
                    expected.push(request.to_vec());
                }
            }
            let cut = [1_u64, 7, 1000, 100_000][seed as usize % 4];
            let cut = if cut == 1 { cut + 50 } else { cut };
            let decoded = decode(&stream, 1 << 20, || (random(&mut state) % cut) as usize).unwrap();
            assert!(decoded == expected, "seed {seed}");
        }
    }

    #[test]
    fn frames_around_the_small_limit_are_taken_whole() {
        for len in [0, 1, SMALL_MAX - 1, SMALL_MAX, SMALL_MAX + 1, BUFFER, STEP + 1] {
            let mut stream = header(len, LENGTH_LIMIT).unwrap().to_vec();
            stream.resize(HEADER + len, 7);
            stream.extend([1, 0, 0, 0, 9]);
            let frames = decode(&stream, LENGTH_LIMIT, || usize::MAX).unwrap();
            assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), [len, 1], "{len}");
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_any_memory_is_taken() {
        let (mut decoder, mut large) = (Decoder::new(1000), Vec::new());
        let bytes = 1001_u32.to_le_bytes();
        decoder
            .fill(&mut large, usize::MAX, |target, _| {
                target.extend(bytes);
                Ok(4)
            })
            .unwrap();
        let Malformed(why) = decoder.next(&mut large).unwrap_err();
        assert!(why.contains("1001") && why.contains("1000"), "{why}");
        assert_eq!(large.capacity(), 0);
        assert!(header(1001, 1000).is_none() && header(1000, 1000).is_some());
    }

    #[test]
    fn a_large_length_alone_takes_no_more_than_one_step() {
        let (mut decoder, mut large) = (Decoder::new(1 << 30), Vec::new());
        for bytes in [&(1_u32 << 30).to_le_bytes()[..], &[1, 2, 3]] {
            let read = |target: &mut Vec<u8>, room: usize| {
                target.extend_from_slice(bytes);
                Ok(room.min(bytes.len()))
            };
            decoder.fill(&mut large, usize::MAX, read).unwrap();
            assert!(decoder.next(&mut large).unwrap().is_none());
        }
        assert!(large.capacity() <= STEP, "{}", large.capacity());
        assert!(!decoder.is_between_frames());
    }
}
