//! From messages back to frames.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::mem;
use std::ops::Range;

use crate::wire::Malformed;

/// Puts the stream together again and cuts it into frames.
#[derive(Debug)]
pub(crate) struct Decoder {
    frame_max: usize,
    /// The message that is being read, from `at` on.
    message: Vec<u8>,
    at: usize,
    /// Those after it, without their headers.
    later: VecDeque<Vec<u8>>,
    /// The part of a length field that has arrived, if it was cut.
    length_part: Vec<u8>,
    /// How long the frame is that has begun.
    length: Option<usize>,
    /// What has arrived of it in earlier messages.
    part: Vec<u8>,
}

enum Found {
    InMessage(Range<usize>),
    Joined,
}

impl Decoder {
    pub(crate) fn new(frame_max: usize) -> Self {
        let (message, later, length_part, part) = (Vec::new(), VecDeque::new(), Vec::new(), Vec::new());
        Self { frame_max, message, at: 0, later, length_part, length: None, part }
    }

    /// Adds a message, whose first `header` bytes are not part of the stream.
    pub(crate) fn push(&mut self, message: Vec<u8>, header: usize) {
        if self.at == self.message.len() && self.later.is_empty() {
            self.message = message;
            self.at = header;
        } else {
            // Copied, because what ipc-channel received into is large however little came.
            self.later.push_back(message[header..].to_vec());
        }
    }

    /// The next frame, if all of it is here.
    pub(crate) fn next(&mut self) -> Result<Option<Cow<'_, [u8]>>, Malformed> {
        Ok(match self.find()? {
            None => None,
            Some(Found::InMessage(range)) => Some(Cow::Borrowed(&self.message[range])),
            Some(Found::Joined) => Some(Cow::Owned(mem::take(&mut self.part))),
        })
    }

    /// Whether the end would be no surprise, once [`next`](Self::next) has found nothing.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.length.is_none() && self.length_part.is_empty()
    }

    fn find(&mut self) -> Result<Option<Found>, Malformed> {
        loop {
            if self.at == self.message.len() {
                self.at = 0;
                let Some(later) = self.later.pop_front() else {
                    // Nothing is kept while nothing comes.
                    self.message = Vec::new();
                    return Ok(None);
                };
                self.message = later;
                // It may have nothing of the stream in it.
                continue;
            }
            let Some(length) = self.length()? else { continue };
            let rest = &self.message[self.at..];
            let missing = length - self.part.len();
            if rest.len() < missing {
                reserve(&mut self.part, rest.len(), length);
                self.part.extend_from_slice(rest);
                self.at = self.message.len();
                continue;
            }
            let range = self.at..self.at + missing;
            self.at = range.end;
            self.length = None;
            if self.part.is_empty() {
                return Ok(Some(Found::InMessage(range)));
            }
            self.part.extend_from_slice(&self.message[range]);
            return Ok(Some(Found::Joined));
        }
    }

    /// The length of the frame that comes next or has begun, if it is known yet.
    fn length(&mut self) -> Result<Option<usize>, Malformed> {
        if self.length.is_some() {
            return Ok(self.length);
        }
        let rest = &self.message[self.at..];
        let taken = rest.len().min(size_of::<u32>() - self.length_part.len());
        self.length_part.extend_from_slice(&rest[..taken]);
        self.at += taken;
        let Ok(bytes) = <[u8; 4]>::try_from(&self.length_part[..]) else { return Ok(None) };
        self.length_part.clear();
        let (length, limit) = (u32::from_le_bytes(bytes) as usize, self.frame_max);
        if length > limit {
            return Err(Malformed(format!("a frame of {length} bytes, but {limit} is the limit")));
        }
        self.length = Some(length);
        Ok(self.length)
    }
}

/// Makes room for `more` bytes, and for the whole frame once half of it has arrived: the word of a length field
/// is worth no more memory than has come already.
fn reserve(part: &mut Vec<u8>, more: usize, length: usize) {
    let arrived = part.len() + more;
    if part.capacity() < arrived {
        part.reserve_exact((2 * arrived).min(length) - part.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(frames: &[Vec<u8>]) -> Vec<u8> {
        frames.iter().flat_map(|frame| [&(frame.len() as u32).to_le_bytes()[..], frame].concat()).collect()
    }

    #[test]
    fn frames_come_out_however_the_stream_is_cut() {
        let frames: Vec<Vec<u8>> = (0..60).map(|i| vec![i; [0, 1, 3, 4, 5, 50][usize::from(i) % 6]]).collect();
        let stream = stream(&frames);
        for (size, ahead) in [(1, 1), (1, 7), (2, 3), (3, 1), (7, 2), (60, 1), (usize::MAX, 1)] {
            let (mut decoder, mut out) = (Decoder::new(50), Vec::new());
            let messages: Vec<_> = stream.chunks(size.min(stream.len())).collect();
            for some in messages.chunks(ahead) {
                for piece in some {
                    decoder.push([b"header", *piece].concat(), 6);
                }
                while let Some(frame) = decoder.next().unwrap() {
                    out.push(frame.into_owned());
                }
            }
            assert_eq!(out, frames, "{size} {ahead}");
            assert!(decoder.is_between_frames());
        }
    }

    #[test]
    fn messages_with_nothing_of_the_stream_hide_none_behind_them() {
        let frames = [vec![1; 5], vec![2; 3]];
        let mut decoder = Decoder::new(50);
        for piece in [&b""[..], &stream(&frames[..1]), b"", b"", &stream(&frames[1..]), b""] {
            decoder.push([b"header", piece].concat(), 6);
        }
        let out: Vec<_> = std::iter::from_fn(|| decoder.next().unwrap().map(Cow::into_owned)).collect();
        assert_eq!(out, frames);
        assert!(decoder.is_between_frames());
    }

    #[test]
    fn an_end_within_a_frame_is_noticed() {
        for cut in [1, 3, 4, 6] {
            let mut decoder = Decoder::new(50);
            decoder.push(stream(&[vec![1; 3]])[..cut].to_vec(), 0);
            assert_eq!(decoder.next(), Ok(None));
            assert!(!decoder.is_between_frames(), "{cut}");
        }
    }

    #[test]
    fn memory_is_taken_as_bytes_arrive() {
        let mut decoder = Decoder::new(1 << 30);
        let mut message = (1_u32 << 30).to_le_bytes().to_vec();
        message.extend([0; 5000]);
        decoder.push(message, 0);
        assert_eq!(decoder.next(), Ok(None));
        assert!(decoder.part.capacity() <= 10_000, "{}", decoder.part.capacity());
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused() {
        let mut decoder = Decoder::new(1000);
        decoder.push(1001_u32.to_le_bytes().to_vec(), 0);
        let Err(Malformed(why)) = decoder.next() else { panic!("taken") };
        assert!(why.contains("1001") && why.contains("1000"), "{why}");
    }
}
