//! What parent and worker say to each other, inside the frames of a link.
//!
//! ```text
//!  worker                          parent
//!         ◄─────────────────────── the ticket: token, the transport's part, terms (image, codec, limits)
//!  Hello  ───────────────────────►             magic, version, token, image, what it knows
//!         ◄─────────────────────── Initialize  where the terms announce one
//!  Ready | InitFailed | SettingFailed ►
//!         ◄─────────────────────── Call …      seq, function, time if limited, argument; before it
//!         ◄─────────────────────── Share …     id, shared value: those that it refers to, once; and
//!         ◄─────────────────────── Forget …    id: those that nothing refers to any more
//!  Reply … ──────────────────────►            seq, status, time taken, result; before it, once,
//!  Worn    ──────────────────────►            if the worker takes more memory than it may
//!         ◄─────────────────────── Stop
//!  Bye    ───────────────────────►            and the end
//! ```
//!
//! The terms come with the ticket so that a worker without an initializer waits for nothing before its first
//! call: with many starting at once, each wait is a wake-up on both sides.
//!
//! The first byte of a frame says which it is. `Hello` begins with a magic number and the version, which
//! never change their place, so that a worker of another release is told from one that talks nonsense: token and
//! transport come first in the ticket for the same reason. The frames of the hot path are laid out by hand; the
//! others are postcard.

use std::time::Duration;

use pool_settings::WorkerSettings;
use serde::{Deserialize, Serialize};

use crate::call::Argument;
use crate::error::CodecStep;
use crate::function::{Native, TaskRef};
use crate::share::Share;
use crate::transport::Seq;

/// Counts up with each change to what is said here.
pub(crate) const VERSION: u16 = 5;
const MAGIC: [u8; 8] = *b"prcpool\x1a";

/// The first byte of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Initialize = 1,
    Call = 2,
    Stop = 3,
    Share = 4,
    Forget = 5,
    Hello = 65,
    Ready = 66,
    InitFailed = 67,
    Reply = 68,
    Bye = 69,
    SettingFailed = 70,
    Worn = 71,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Initialize,
        Self::Call,
        Self::Stop,
        Self::Share,
        Self::Forget,
        Self::Hello,
        Self::Ready,
        Self::InitFailed,
        Self::Reply,
        Self::Bye,
        Self::SettingFailed,
        Self::Worn,
    ];

    /// The frame's kind and the rest of it.
    pub(crate) fn split(frame: &[u8]) -> Option<(Self, &[u8])> {
        let (first, rest) = frame.split_first()?;
        let kind = Self::ALL.into_iter().find(|kind| *kind as u8 == *first)?;
        Some((kind, rest))
    }
}

/// 128 bits that only the parent and the worker it started know.
pub(crate) type Token = [u8; 16];

/// What the core puts around a transport's own bytes in a ticket.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) token: Token,
    pub(crate) transport: Vec<u8>,
    /// `None` if they are not of this release.
    pub(crate) terms: Option<Terms>,
}

/// What the parent lays down for a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    /// The parent's. Empty if it cannot be told.
    pub(crate) image: Vec<u8>,
    pub(crate) codec: String,
    pub(crate) frame_max: u64,
    /// What the pool calls it.
    pub(crate) worker: u64,
    /// A frame to initialize it follows its greeting.
    pub(crate) initializes: bool,
    /// What it takes on first.
    pub(crate) settings: WorkerSettings,
    /// How much memory it may take, in bytes, before it is replaced.
    pub(crate) memory_max: Option<u64>,
    /// What it runs last, if it ends because it is told to.
    pub(crate) exit: Option<WireFunction>,
}

impl Envelope {
    pub(crate) fn encode(token: &Token, transport: &[u8], terms: &Terms) -> Vec<u8> {
        [to_bytes(&(token, transport)), to_bytes(terms)].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let ((token, transport), rest) = postcard::take_from_bytes(bytes).ok()?;
        Some(Self { token, transport, terms: from_bytes(rest) })
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) token: Token,
    /// Empty if the image cannot be told.
    pub(crate) image: Vec<u8>,
    pub(crate) codecs: Vec<String>,
}

/// Why a `Hello` was not understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoHello {
    Version(u16),
    Garbage(&'static str),
}

impl Hello {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut frame = vec![Kind::Hello as u8];
        frame.extend(MAGIC);
        frame.extend(VERSION.to_le_bytes());
        frame.extend(to_bytes(self));
        frame
    }

    pub(crate) fn decode(frame: &[u8]) -> Result<Self, NoHello> {
        let Some((Kind::Hello, rest)) = Kind::split(frame) else {
            return Err(NoHello::Garbage("its first frame is no greeting"));
        };
        let rest = rest.strip_prefix(&MAGIC).ok_or(NoHello::Garbage("its greeting lacks the magic number"))?;
        let (version, rest) = rest.split_first_chunk().ok_or(NoHello::Garbage("its greeting is too short"))?;
        let version = u16::from_le_bytes(*version);
        if version != VERSION {
            return Err(NoHello::Version(version));
        }
        postcard::from_bytes(rest).map_err(|_| NoHello::Garbage("its greeting is malformed"))
    }
}

/// A setting that a worker could not take on.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SettingFailed {
    pub(crate) setting: String,
    pub(crate) why: String,
}

/// What the frame to initialize a worker takes beside the argument: two tags, two numbers of up to ten bytes or a
/// name and its length, and the argument's length.
pub(crate) const INITIALIZE_HEAD_MAX: usize = 2 + 10 + NAME_MAX + 10;

/// A function and its encoded argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Initializer {
    pub(crate) function: WireFunction,
    pub(crate) argument: Vec<u8>,
}

/// A function, as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WireFunction {
    Native { offset: u64, type_hash: u64 },
    Named(String),
}

impl WireFunction {
    pub(crate) fn native(native: Native) -> Option<Self> {
        let (offset, type_hash) = native.address()?;
        Some(Self::Native { offset, type_hash })
    }

    /// As a call would name it.
    pub(crate) fn as_call(&self) -> CallFunction<'_> {
        match self {
            Self::Native { offset, type_hash } => CallFunction::Native { offset: *offset, type_hash: *type_hash },
            Self::Named(name) => CallFunction::Named(name),
        }
    }
}

/// A failure that a worker reports; the parent adds the task's and the worker's names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    Panicked {
        message: String,
        location: Option<String>,
        backtrace: Option<String>,
    },
    Codec {
        step: CodecStep,
        type_name: String,
        message: String,
    },
    TooLarge {
        size: u64,
        max: u64,
    },
    UnknownTask(String),
    /// An initializer's own error.
    Failed(String),
}

impl Failure {
    /// What it says of a function that nobody waits for, and the backtrace of a panic.
    pub(crate) fn in_words(self) -> (String, Option<String>) {
        match self {
            Self::Failed(text) | Self::UnknownTask(text) => (text, None),
            Self::Panicked { message, location, backtrace } => {
                let place = location.unwrap_or_else(|| "an unknown place".to_owned());
                (format!("panicked at {place}: {message}"), backtrace)
            }
            Self::Codec { step, type_name, message } => (format!("{step} of type `{type_name}`: {message}"), None),
            Self::TooLarge { size, max } => (format!("{size} bytes exceed the limit of {max}"), None),
        }
    }

    /// Cuts the texts so that all of it, encoded, takes at most `max` bytes. Short texts go before long ones.
    fn cut(&mut self, max: usize) {
        let texts = match self {
            Self::Panicked { message, location, backtrace } => {
                [location.as_mut(), Some(message), backtrace.as_mut()]
            }
            Self::Codec { type_name, message, .. } => [Some(message), Some(type_name), None],
            Self::UnknownTask(text) | Self::Failed(text) => [Some(text), None, None],
            Self::TooLarge { .. } => [None, None, None],
        };
        let mut room = max.saturating_sub(FAILURE_HEAD_MAX);
        for text in texts.into_iter().flatten() {
            if text.len() > room {
                text.truncate(text.floor_char_boundary(room.saturating_sub(CUT.len())));
                text.push_str(if room < CUT.len() { "" } else { CUT });
            }
            room -= text.len();
        }
    }
}

/// Stands where a text was cut.
const CUT: &str = "…";
/// What a failure takes beside its texts: at most six tags, of one byte each, and three lengths of up to ten.
const FAILURE_HEAD_MAX: usize = 6 + 3 * 10;

/// A failure, encoded; cut if that is what it takes to stay within `max` bytes.
pub(crate) fn failure(mut failure: Failure, max: usize) -> Vec<u8> {
    let bytes = to_bytes(&failure);
    if bytes.len() <= max {
        return bytes;
    }
    failure.cut(max);
    to_bytes(&failure)
}

/// The second part of a `Reply`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// The body is the encoded result.
    Ok = 0,
    /// The body is a [`Failure`].
    Failed = 1,
    /// The body is the encoded result together with its blobs.
    OkWithBlobs = 2,
}

/// A frame of one of the kinds that postcard lays out.
pub(crate) fn frame<T: Serialize>(kind: Kind, body: &T) -> Vec<u8> {
    let mut frame = vec![kind as u8];
    frame.extend(to_bytes(body));
    frame
}

pub(crate) fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("invariant: our own messages are plain structs, which postcard can encode")
}

pub(crate) fn from_bytes<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

/// The length of the head of a call to a function of this image, and the most for one with a name.
pub(crate) const CALL_HEAD_MAX: usize = 1 + 8 + 1 + 2 + NAME_MAX + 8;
/// The longest name of a task, in bytes.
pub(crate) const NAME_MAX: usize = 200;

const BY_PLACE: u8 = 0;
const BY_NAME: u8 = 1;
/// Added to one of them: the body is the argument together with its blobs.
const WITH_BLOBS: u8 = 2;
/// Added to one of them: the argument refers to shared values.
const WITH_SHARES: u8 = 4;

/// Added to one of them: what follows says how long the call may take.
const WITH_TIME: u8 = 8;

/// Lays out the head of a call; the argument follows as the body.
pub(crate) fn call_head<'a>(
    seq: Seq,
    task: &TaskRef,
    argument: &Argument,
    room: &'a mut [u8; CALL_HEAD_MAX],
) -> &'a [u8] {
    let blobs = if argument.blobs().is_some() { WITH_BLOBS } else { 0 };
    let form = blobs | if argument.shares().is_empty() { 0 } else { WITH_SHARES };
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        room[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&[Kind::Call as u8]);
    put(&seq.0.to_le_bytes());
    match task {
        TaskRef::Native(native) => {
            // A function outside of the main image was refused at `submit`.
            let (offset, hash) = native.address().unwrap_or_default();
            put(&[form | BY_PLACE]);
            put(&offset.to_le_bytes());
            put(&hash.to_le_bytes());
        }
        TaskRef::Named(name) => {
            let length = u16::try_from(name.len()).expect("invariant: `submit_named` refuses long names");
            put(&[form | BY_NAME]);
            put(&length.to_le_bytes());
            put(name.as_bytes());
        }
    }
    &room[..at]
}

/// The same, for a call that may not take longer than this.
pub(crate) fn limited_call_head<'a>(
    seq: Seq,
    task: &TaskRef,
    argument: &Argument,
    time: Duration,
    room: &'a mut [u8; CALL_HEAD_MAX],
) -> &'a [u8] {
    let len = call_head(seq, task, argument, room).len();
    room[FORM] |= WITH_TIME;
    let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    room[len..len + 8].copy_from_slice(&time.to_le_bytes());
    &room[..len + 8]
}

/// Where in a call's head its form stands.
const FORM: usize = 1 + 8;

/// A call as the worker reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CallFrame<'a> {
    pub(crate) seq: Seq,
    pub(crate) function: CallFunction<'a>,
    /// The argument comes together with its blobs.
    pub(crate) has_blobs: bool,
    /// It refers to shared values.
    pub(crate) has_shares: bool,
    /// In nanoseconds, if it may not take as long as it likes.
    pub(crate) time: Option<Duration>,
    pub(crate) argument: &'a [u8],
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CallFunction<'a> {
    Native { offset: u64, type_hash: u64 },
    Named(&'a str),
}

impl<'a> CallFrame<'a> {
    /// `rest`: what follows the kind.
    pub(crate) fn decode(rest: &'a [u8]) -> Option<Self> {
        let (seq, rest) = rest.split_first_chunk()?;
        let seq = Seq(u64::from_le_bytes(*seq));
        let (by, rest) = rest.split_first()?;
        let (function, rest) = match *by & !(WITH_BLOBS | WITH_SHARES | WITH_TIME) {
            BY_PLACE => {
                let (offset, rest) = rest.split_first_chunk()?;
                let (hash, rest) = rest.split_first_chunk()?;
                let (offset, type_hash) = (u64::from_le_bytes(*offset), u64::from_le_bytes(*hash));
                (CallFunction::Native { offset, type_hash }, rest)
            }
            BY_NAME => {
                let (length, rest) = rest.split_first_chunk()?;
                let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
                (CallFunction::Named(std::str::from_utf8(name).ok()?), rest)
            }
            _ => return None,
        };
        let (has_blobs, has_shares) = (by & WITH_BLOBS != 0, by & WITH_SHARES != 0);
        let (time, argument) = match by & WITH_TIME {
            0 => (None, rest),
            _ => {
                let (time, rest) = rest.split_first_chunk()?;
                (Some(Duration::from_nanos(u64::from_le_bytes(*time))), rest)
            }
        };
        Some(Self { seq, function, has_blobs, has_shares, time, argument })
    }
}

/// The head of a shared value; the value follows as the body.
pub(crate) fn share_head(share: &Share) -> [u8; 10] {
    let mut head = [0; 10];
    head[0] = Kind::Share as u8;
    head[1..9].copy_from_slice(&share.id.to_le_bytes());
    head[9] = u8::from(share.value.blobs().is_some());
    head
}

/// Reads what follows the kind of a shared value: its id, whether it has blobs, and where it begins.
pub(crate) fn share(rest: &[u8]) -> Option<(u64, bool, usize)> {
    let (id, rest) = rest.split_first_chunk()?;
    Some((u64::from_le_bytes(*id), *rest.first()? != 0, 10))
}

/// A frame.
pub(crate) fn forget(id: u64) -> Vec<u8> {
    [[Kind::Forget as u8].as_slice(), &id.to_le_bytes()].concat()
}

/// The length of the head of a reply.
pub(crate) const REPLY_HEAD: usize = 14;

/// `took`: how long the call took, which is told in nanoseconds, up to four seconds.
pub(crate) fn reply_head(seq: Seq, status: Status, took: Duration) -> [u8; REPLY_HEAD] {
    let mut head = [0; REPLY_HEAD];
    head[0] = Kind::Reply as u8;
    head[1..9].copy_from_slice(&seq.0.to_le_bytes());
    head[9] = status as u8;
    head[10..].copy_from_slice(&u32::try_from(took.as_nanos()).unwrap_or(u32::MAX).to_le_bytes());
    head
}

/// Reads what follows the kind of a reply.
pub(crate) fn reply(rest: &[u8]) -> Option<(Seq, Status, Duration, &[u8])> {
    let (seq, rest) = rest.split_first_chunk()?;
    let (status, rest) = rest.split_first()?;
    let (took, body) = rest.split_first_chunk()?;
    let status = match *status {
        0 => Status::Ok,
        1 => Status::Failed,
        2 => Status::OkWithBlobs,
        _ => return None,
    };
    let took = Duration::from_nanos(u32::from_le_bytes(*took).into());
    Some((Seq(u64::from_le_bytes(*seq)), status, took, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::Beside;

    fn panicked(text: &str) -> Failure {
        let text = || text.to_owned();
        Failure::Panicked { message: text(), location: Some(text()), backtrace: Some(text()) }
    }

    #[test]
    fn a_call_says_how_long_it_may_take_only_if_that_is_limited() {
        let (task, argument) = (TaskRef::Named("a name".into()), Argument::of(vec![1, 2], Beside::default()));
        let lengths =
            [None, Some(Duration::ZERO), Some(Duration::from_nanos(7)), Some(Duration::MAX)].map(|time| {
                let mut room = [0; CALL_HEAD_MAX];
                let head = match time {
                    None => call_head(Seq(3), &task, &argument, &mut room),
                    Some(time) => limited_call_head(Seq(3), &task, &argument, time, &mut room),
                };
                let frame = [head, &[1, 2]].concat();
                let call = CallFrame::decode(&frame[1..]).expect("a call");
                assert_eq!((call.seq, &call.function), (Seq(3), &CallFunction::Named("a name")));
                assert_eq!((call.argument, call.has_blobs, call.has_shares), ([1, 2].as_slice(), false, false));
                assert_eq!(call.time, time.map(|time| time.min(Duration::from_nanos(u64::MAX))));
                frame.len()
            });
        assert_eq!(lengths.map(|length| length - lengths[0]), [0, 8, 8, 8]);
        let mut room = [0; CALL_HEAD_MAX];
        let whole = limited_call_head(Seq(3), &task, &argument, Duration::ZERO, &mut room);
        assert!((1..whole.len()).all(|cut| CallFrame::decode(&whole[1..cut]).is_none()));
    }

    #[test]
    fn a_failure_that_fits_is_left_alone() {
        let whole = to_bytes(&panicked("text"));
        assert_eq!(failure(panicked("text"), whole.len()), whole);
        assert!(failure(panicked("text"), whole.len() - 1).len() < whole.len());
    }

    #[test]
    fn what_every_release_must_find_in_a_ticket_comes_first() {
        let settings = WorkerSettings::new().env("A", "b").current_dir("c").affinity([0, 3]).open_files_max(99);
        let terms = Terms {
            image: vec![7; 20],
            codec: "postcard".to_owned(),
            frame_max: 1 << 40,
            worker: 7,
            initializes: true,
            exit: Some(WireFunction::Named("last".to_owned())),
            settings,
            memory_max: Some(1),
        };
        let bytes = Envelope::encode(&[3; 16], b"transport", &terms);
        assert_eq!(bytes[..26], [[3; 16].as_slice(), &[9], b"transport"].concat());
        for cut in [0, 16, 25] {
            assert!(Envelope::decode(&bytes[..cut]).is_none(), "{cut}");
        }
        for (cut, expected) in [(26, None), (bytes.len() - 1, None), (bytes.len(), Some(terms))] {
            let envelope = Envelope::decode(&bytes[..cut]).unwrap();
            assert_eq!((envelope.token, envelope.transport.as_slice()), ([3; 16], b"transport".as_slice()));
            assert_eq!(envelope.terms, expected, "{cut}");
        }
    }

    #[test]
    fn a_failure_is_cut_to_what_fits() {
        let texts = ["short", &"long ".repeat(100), &"é".repeat(1000), &"\u{1f4a5}".repeat(70_000)];
        let codec = |text: &str| Failure::Codec {
            step: CodecStep::EncodeResult,
            type_name: text.to_owned(),
            message: text.to_owned(),
        };
        for max in [0, FAILURE_HEAD_MAX, FAILURE_HEAD_MAX + 1, 50, 100, 1000, 70_000, 300_000] {
            for text in texts {
                for whole in [panicked(text), codec(text), Failure::Failed(text.to_owned())] {
                    let bytes = failure(whole, max);
                    assert!(bytes.len() <= max.max(FAILURE_HEAD_MAX), "{} for {max}", bytes.len());
                    assert!(from_bytes::<Failure>(&bytes).is_some());
                }
            }
        }
    }
}
