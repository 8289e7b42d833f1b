//! What is said on a connection once both sides have shown their secrets: a byte that tells the kind, the length
//! of what follows in four, and that.

use std::borrow::Cow;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Either side's: a frame.
    Frame = 1,
    /// The parent's: it has the frame.
    Receipt = 2,
    /// The worker's: may it start the call of this number?
    Ask = 3,
    /// The parent's: it may.
    Yes = 4,
    /// The parent's: the call was taken back.
    No = 5,
    /// The worker's: it lives.
    Beat = 6,
}

/// How many bytes come before each message.
pub(crate) const HEADER: usize = 5;

/// The bytes before a message; its length is at most `u32::MAX`.
pub(crate) fn header(kind: Kind, len: usize) -> [u8; HEADER] {
    let [a, b, c, d] = (len as u32).to_le_bytes();
    [kind as u8, a, b, c, d]
}

/// What these bytes announce, if that is something a side would say to the other.
pub(crate) fn announced(header: [u8; HEADER], frame_max: usize) -> Result<(Kind, usize), String> {
    let [kind, length @ ..] = header;
    let len = u32::from_le_bytes(length) as usize;
    let (kind, len_max) = match kind {
        1 => (Kind::Frame, frame_max),
        2 => (Kind::Receipt, 0),
        3 => (Kind::Ask, 8),
        4 => (Kind::Yes, 0),
        5 => (Kind::No, 0),
        6 => (Kind::Beat, 0),
        other => return Err(format!("a message of the kind {other}, which there is not")),
    };
    if len > len_max {
        return Err(format!("a message of {len} bytes, where {len_max} is the limit"));
    }
    Ok((kind, len))
}

/// A whole one: what it is, and what follows its header.
type Message<'a> = (Kind, Cow<'a, [u8]>);

/// Cuts what arrives into messages. Takes memory as bytes arrive, whatever a header announces.
#[derive(Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    /// So many of them were handed out.
    taken: usize,
}

/// A message from so many bytes on is handed out without a copy.
const LARGE: usize = 64 * 1024;

impl Inbox {
    /// Whether all that came was whole messages.
    pub(crate) fn is_between(&self) -> bool {
        self.taken == self.bytes.len()
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message.
    pub(crate) fn next(&mut self, frame_max: usize) -> Result<Option<Message<'_>>, String> {
        let Some((header, rest)) = self.bytes[self.taken..].split_first_chunk() else { return Ok(None) };
        let (kind, len) = announced(*header, frame_max)?;
        if rest.len() < len {
            return Ok(None);
        }
        let start = self.taken + HEADER;
        self.taken = start + len;
        if len >= LARGE && self.is_between() {
            let mut bytes = std::mem::take(&mut self.bytes);
            self.taken = 0;
            bytes.drain(..start);
            bytes.shrink_to_fit();
            return Ok(Some((kind, Cow::Owned(bytes))));
        }
        Ok(Some((kind, Cow::Borrowed(&self.bytes[start..self.taken]))))
    }
}
