//! The seam between the pool and whatever carries its frames.
//!
//! A [`Transport`] opens one [`Link`] for each worker. The link has a worker's side, a [`Channel`], which
//! the worker makes from a [`Ticket`] through a [`Connector`] of the same name. Nothing is shared between
//! two links, so a dying worker can hurt no other.
//!
//! A transport knows nothing of calls, codecs or processes: it carries frames (byte strings with a
//! beginning and an end) both ways, says when the other side is gone, and, if it can, decides in one atomic
//! step whether a frame was started by the worker or taken back by the parent.
//!
//! # Laws
//! Every transport keeps these; `xtests::transport` has a case or several for each, and judges any transport.
//!
//! - **T1** Frames arrive whole, in the order sent, and at most once, in each direction, whatever their size
//!   up to [`LinkCaps::frame_max`]; those too that the parent sent before the worker connected.
//! - **T2** A frame that the worker had sent completely before it died is delivered before
//!   [`LinkEvents::closed`]; one that it had not is never delivered.
//! - **T3** `closed` comes exactly once and is the last event, whoever ends the link. A `Link` that is dropped
//!   before that delivers nothing more.
//! - **T4** [`Link::send`] and [`Link::flush`] never wait for the worker. What cannot be written yet is
//!   queued, in memory, and written later without anybody's help.
//! - **T5** A frame larger than [`LinkCaps::frame_max`], a truncated one and one that is not of this
//!   transport's making close the link with a reason; memory is taken as bytes arrive, never on the word of
//!   a length field.
//! - **T6** Of [`Link::revoke`] and [`Channel::claim`] for the same [`Seq`] exactly one succeeds, once. A
//!   link whose caps are not `revocable` answers [`Claim::Unknown`], and its channel claims always; so may
//!   one that is, for a call whose number is [`LinkCaps::revocable`] or more beyond that of the oldest
//!   unsettled one. While no such call was sent it always knows, also when the worker or the link is gone.
//! - **T7** After [`Link::close`] what has already arrived is delivered, then `closed`, without waiting for
//!   the worker, even where somebody else still holds the worker's end, or nobody has taken it.
//! - **T8** [`Link::drive`]: events stay ordered, and none comes twice or gets lost across a change of
//!   driver. It returns soon after `until` is satisfied, its deadline has passed or [`Link::interrupt`] was
//!   called. A link whose caps are not `drivable` says so, at once.
//! - **T9** Dropping the `Link` frees its descriptors and memory. Dropping the last link and the transport
//!   ends their threads, which sleep while nothing happens. An `open` that fails leaves nothing behind.
//! - **T10** No descriptor or handle of a link can be inherited by a process that somebody else starts.
//! - **T11** Events come one at a time, and after each run of frames comes [`LinkEvents::drained`], before
//!   `closed` as well. The receiver may call the link's methods from within an event, or drop the link.
//! - **T12** Where the link ends, by `close` or by being dropped, the worker learns of it: [`Channel::recv`]
//!   gives the frames that arrived whole, then the end, or an error in the middle of a frame; and
//!   [`Channel::send`] fails. Neither waits for ever.
//! - **T13** Transport, connector and ticket go by one name, and a connector refuses a ticket of another.
//! - **T14** Where [`Link::ask_to_stop`] says true of a call, [`StopRequests::is_asked`] soon says so of that call, in
//!   whatever thread of the worker, until it is answered; and of no other. Looking waits for no caller of the parent's,
//!   and changes nothing of what arrives. A link whose caps are not `asks` never says true.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// An operating-system handle that travels in a [`Ticket`].
#[cfg(unix)]
pub type Handle = std::os::fd::OwnedFd;
/// An operating-system handle that travels in a [`Ticket`].
#[cfg(windows)]
pub type Handle = std::os::windows::io::OwnedHandle;

pub use crate::cores::cores;

/// An empty buffer for a frame of `len` bytes: one with room for it, in which an earlier large result lay, if there is
/// such a one; else one without room.
///
/// To read large frames into, whose pages are known to the system then. Frames that are given to
/// [`LinkEvents::frame`] as vectors come back to here when nothing refers to them any more; no more than 16 MiB in all
/// are kept.
pub fn spare_buffer(len: usize) -> Vec<u8> {
    crate::spare::take(len)
}

/// The place of a call in the order in which one link carried them: 0, 1, 2, ….
///
/// Each dispatch has its own: a call that is sent again, to whichever worker, gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// What a worker needs to reach its link: carried to it by a [`Spawner`](crate::spawner::Spawner).
pub struct Ticket {
    /// The name of the transport, under which the worker looks up its [`Connector`].
    pub transport: String,
    /// What the transport wants to tell its other half. Small: it must fit a socket's buffer.
    pub bytes: Vec<u8>,
    /// What the transport wants to hand to its other half, in order; the spawner sees to it that the
    /// worker owns them and that nobody else inherits them.
    pub handles: Vec<Handle>,
}

impl fmt::Debug for Ticket {
    /// Without the bytes: they may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, bytes, handles } = self;
        let bytes = format_args!("{} bytes", bytes.len());
        f.debug_struct("Ticket")
            .field("transport", transport)
            .field("bytes", &bytes)
            .field("handles", handles)
            .finish()
    }
}

impl Ticket {
    /// The ticket as bytes and handles, for spawners that send it: the transport's name, after its length in two
    /// bytes, and the ticket's own bytes.
    ///
    /// # Errors
    /// If the transport's name is too long to be one.
    pub fn pack(self) -> Result<(Vec<u8>, Vec<Handle>), &'static str> {
        let name = self.transport.as_bytes();
        let len = u16::try_from(name.len()).map_err(|_| "the transport's name is too long")?;
        Ok(([len.to_le_bytes().as_slice(), name, &self.bytes].concat(), self.handles))
    }

    /// What was [packed](Self::pack).
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn unpack(bytes: &[u8], handles: Vec<Handle>) -> Result<Self, &'static str> {
        const SHORT: &str = "the ticket is cut short";
        let (len, rest) = bytes.split_first_chunk::<2>().ok_or(SHORT)?;
        let (name, bytes) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len))).ok_or(SHORT)?;
        let transport = std::str::from_utf8(name).map_err(|_| "the transport's name is not text")?.to_owned();
        Ok(Self { transport, bytes: bytes.to_vec(), handles })
    }
}

/// What a link can do. Data, not wishes: the conformance kit chooses its cases by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkCaps {
    /// How many calls may be under way at once whose start the link can decide (see [`Link::revoke`]);
    /// `None` if it cannot.
    pub revocable: Option<usize>,
    /// The largest frame, in bytes.
    pub frame_max: usize,
    /// Whether a caller can lend its thread (see [`Link::drive`]).
    pub drivable: bool,
    /// Whether a worker can be asked to stop a call while it runs it (see [`Link::ask_to_stop`]).
    pub asks: bool,
}

impl LinkCaps {
    /// A link that can neither revoke nor be driven nor ask, and takes frames up to `frame_max` bytes.
    pub const fn new(frame_max: usize) -> Self {
        Self { revocable: None, frame_max, drivable: false, asks: false }
    }

    /// The same link, able to revoke among up to `slots` calls at once.
    pub const fn revocable(self, slots: usize) -> Self {
        Self { revocable: Some(slots), ..self }
    }

    /// The same link, able to be driven or not.
    pub const fn drivable(self, drivable: bool) -> Self {
        Self { drivable, ..self }
    }

    /// The same link, able to ask a worker to stop a call or not.
    pub const fn asks(self, asks: bool) -> Self {
        Self { asks, ..self }
    }
}

/// A frame on its way out: `head`, then `body`, delivered as one.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Set if the frame carries a call, which the worker will [claim](Channel::claim) under this number.
    pub seq: Option<Seq>,
    /// The first part. Seldom more than a few bytes; it is to be copied.
    pub head: &'a [u8],
    /// The rest. A link that has to keep a large one clones the [`Payload`], not its bytes.
    pub body: &'a Payload,
}

/// Immutable bytes that are cheap to clone: short ones lie inside, long ones are shared.
#[derive(Clone)]
pub struct Payload(Repr);

#[derive(Clone)]
enum Repr {
    Inline {
        len: u8,
        bytes: [u8; Payload::INLINE_MAX],
    },
    Shared(Arc<Vec<u8>>),
    /// Another's.
    Blob(Arc<bytes::Bytes>),
}

impl Payload {
    /// Up to so many bytes lie inside: a `Payload` is 32 bytes then, and most small arguments need no
    /// allocation of their own.
    pub const INLINE_MAX: usize = 30;

    /// No bytes.
    pub const EMPTY: Payload = Payload(Repr::Inline { len: 0, bytes: [0; Self::INLINE_MAX] });

    /// Copies `bytes` if they are short, else into an allocation of exactly their size.
    pub fn copied(bytes: &[u8]) -> Self {
        if bytes.len() > Self::INLINE_MAX {
            return Self(Repr::Shared(Arc::new(bytes.to_vec())));
        }
        let mut inline = [0; Self::INLINE_MAX];
        inline[..bytes.len()].copy_from_slice(bytes);
        Self(Repr::Inline { len: bytes.len() as u8, bytes: inline })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Shared(bytes) => bytes,
            Repr::Blob(bytes) => bytes,
        }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() <= Self::INLINE_MAX { Self::copied(&bytes) } else { Self(Repr::Shared(Arc::new(bytes))) }
    }
}

impl From<bytes::Bytes> for Payload {
    /// Without a copy, if they are not short.
    fn from(bytes: bytes::Bytes) -> Self {
        if bytes.len() <= Self::INLINE_MAX { Self::copied(&bytes) } else { Self(Repr::Blob(Arc::new(bytes))) }
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

/// What a link knows of a call's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Sent, and neither started nor revoked.
    Queued,
    /// The worker has claimed it. Final.
    Started,
    /// The parent has taken it back: the worker will never claim it. Final.
    Revoked,
    /// This link cannot tell.
    Unknown,
}

/// Why a link closed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// The worker's end is gone, between two frames.
    Eof,
    /// The worker's end is gone, in the middle of a frame, which is discarded.
    Truncated,
    /// [`Link::close`] was called.
    Ours,
    /// What arrived is not a frame, or one beyond the limit; the text says which.
    Malformed(String),
    /// The operating system refused to go on.
    Io(String),
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eof => f.write_str("the worker closed its end"),
            Self::Truncated => f.write_str("the worker closed its end in the middle of a frame"),
            Self::Ours => f.write_str("the pool closed the link"),
            Self::Malformed(what) => write!(f, "malformed frame: {what}"),
            Self::Io(what) => f.write_str(what),
        }
    }
}

/// Where a link pushes what happens, from whatever thread it likes, but one event at a time.
///
/// The receiver never blocks on the link's own progress, does not panic, and may call the link's methods from
/// within, or drop the link.
pub trait LinkEvents: Send + Sync {
    /// A frame that takes its time has begun to arrive. A link need not tell; who does, says it once for a frame, and
    /// before it. Whoever still keeps what the frame answers may let go of it.
    fn arriving(&self);

    /// A frame from the worker. Borrowed from the link's buffer if small, owned if large.
    fn frame(&self, frame: Cow<'_, [u8]>);

    /// No further frame is at hand just now. Comes at least once after each run of `frame` events, so
    /// that the receiver can act on several at once.
    fn drained(&self);

    /// The end (T3).
    fn closed(&self, why: Closed);
}

/// When [`Link::drive`] should return.
pub struct Until<'a> {
    /// Asked after each event and at the start; cheap; true means return.
    pub done: &'a dyn Fn() -> bool,
    /// Return at this time at the latest.
    pub deadline: Option<Instant>,
}

impl fmt::Debug for Until<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Until").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// How [`Link::drive`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driven {
    /// `until.done()` is true.
    Done,
    /// `until.deadline` has passed.
    TimedOut,
    /// Another thread drives already, or the link is closed: wait in some other way.
    Busy,
    /// This link cannot be driven; its own thread does everything. [`LinkCaps::drivable`] says the same.
    Unsupported,
}

/// The parent's end of the way to one worker. All methods may be called from any thread.
pub trait Link: Send + Sync {
    /// What this link can do. Constant.
    fn caps(&self) -> LinkCaps;

    /// Takes a frame, to be on its way after the next [`flush`](Self::flush) at the latest. Never blocks
    /// on a slow worker (T4). On a closed link it does nothing: `closed` tells.
    ///
    /// Calls come in the order of their `seq`, which counts up; one that is missing was taken back before it
    /// was sent. The caller keeps at most [`LinkCaps::revocable`] of them unsettled at once, and sends from
    /// one thread at a time.
    fn send(&self, frame: Outgoing<'_>);

    /// Sends what [`send`](Self::send) took, in as few system calls as possible.
    fn flush(&self);

    /// Takes a sent call back if it has not started: [`Claim::Revoked`] if that is so now, whether by this
    /// or an earlier call; [`Claim::Started`] if the worker was first; [`Claim::Unknown`] if this link
    /// cannot tell. Works after the worker's death too.
    fn revoke(&self, seq: Seq) -> Claim;

    /// Looks at a sent call without changing anything.
    fn claim_state(&self, seq: Seq) -> Claim;

    /// Asks the worker to stop a call that it has claimed, or, where the caps are not `revocable`, may have. Whether it
    /// can know now, or will soon (T14), as long as it lives. Never blocks on a slow worker. A link that does not do it
    /// (see [`LinkCaps::asks`]) leaves this as it is: false.
    fn ask_to_stop(&self, _seq: Seq) -> bool {
        false
    }

    /// Ends the link: delivers what has arrived, then `closed` (T7), on this thread or another. Frames not yet
    /// written are dropped. Idempotent.
    fn close(&self);

    /// Lends the calling thread, which has nothing else to do, to the link: it waits for events and
    /// delivers them itself, so that no other thread has to be woken. One driver at a time; where nobody
    /// drives, the link's own thread does the work.
    fn drive(&self, until: &Until<'_>) -> Driven;

    /// Makes a driving thread look at `until.done` again. Does nothing if nobody drives.
    fn interrupt(&self);
}

/// Opens links. The parent's half of a way to carry frames.
pub trait Transport: fmt::Debug + Send + Sync {
    /// The name under which a worker knows the other half, such as `"pipe"`.
    fn name(&self) -> &str;

    /// The largest frame its links carry, in bytes. Constant.
    fn frame_max(&self) -> usize;

    /// The worker's half, which takes this transport's tickets.
    fn connector(&self) -> Box<dyn Connector>;

    /// Whether this system has what links are made of. Asked when a pool is built, and by
    /// [`Context::supported`](crate::Context::supported). Changes nothing.
    ///
    /// # Errors
    /// What it lacks, and what to use instead; usually of the kind [`Unsupported`](io::ErrorKind::Unsupported).
    fn supported(&self) -> io::Result<()> {
        Ok(())
    }

    /// Makes ready what links have in common, so that the first of them is opened sooner. Called when a pool is built,
    /// and not relied on: [`open`](Self::open) makes what is missing.
    ///
    /// # Errors
    /// What the operating system says. The pool does not look at it.
    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }

    /// Opens a link and makes the ticket to its other end. Called by the supervisor thread.
    ///
    /// `events` may be called before `open` has returned.
    ///
    /// # Errors
    /// What the operating system says, typically that descriptors have run out; nothing is left behind,
    /// and a later call may succeed. A panic is taken for one that will come again.
    fn open(&self, events: Arc<dyn LinkEvents>) -> io::Result<(Box<dyn Link>, Ticket)>;
}

/// Makes the worker's end of a link. The worker's half of a [`Transport`].
pub trait Connector: fmt::Debug + Send + Sync {
    /// The name of the transport whose tickets this takes.
    fn name(&self) -> &str;

    /// Connects. Called once, on the worker's main thread, before anything else is done there.
    ///
    /// # Errors
    /// If the ticket is not one of this transport's, or its handles do not work.
    fn connect(&self, ticket: Ticket) -> io::Result<Box<dyn Channel>>;
}

/// The worker's end of a link, used by the worker's calling thread only.
pub trait Channel: Send {
    /// Waits for the next frame and puts it into `frame`, replacing what was there. `false`: the parent
    /// has closed the link, between two frames.
    ///
    /// # Errors
    /// If the link broke or what arrived is no frame; the worker then ends.
    fn recv(&mut self, frame: &mut Vec<u8>) -> io::Result<bool>;

    /// Starts a call, unless the parent has taken it back: then false, and the frame is to be ignored.
    fn claim(&mut self, seq: Seq) -> bool;

    /// Sends `head` and `body` as one frame; returns when it is written completely.
    ///
    /// # Errors
    /// If the parent is gone, or the frame exceeds the limit ([`io::ErrorKind::InvalidInput`]; nothing was
    /// sent then, and the channel is usable).
    fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()>;

    /// Where to see what the parent [asks for](Link::ask_to_stop). Called once, before the first frame. Where links do
    /// not ask, it stays as it is.
    fn stop_requests(&self) -> Arc<dyn StopRequests> {
        Arc::new(NeverAsked)
    }
}

/// What the parent asks of the call that is running. For any thread of the worker, and also when the channel is gone.
pub trait StopRequests: Send + Sync {
    /// Whether it has asked for the end of this call, which was claimed and not answered; of others the answer means
    /// nothing. Called again and again by calls that are busy with something else: it takes little time.
    fn is_asked(&self, seq: Seq) -> bool;
}

/// Where nobody can ask for anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NeverAsked;

impl StopRequests for NeverAsked {
    fn is_asked(&self, _: Seq) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_survives_the_journey() {
        for (transport, bytes) in [("pipe", vec![1, 2, 3]), ("", vec![]), ("x", vec![0; 300])] {
            let ticket = Ticket { transport: transport.to_owned(), bytes: bytes.clone(), handles: vec![] };
            let (packed, handles) = ticket.pack().expect("packed");
            let back = Ticket::unpack(&packed, handles).expect("unpacked");
            assert_eq!((back.transport.as_str(), back.bytes), (transport, bytes));
        }
    }

    #[test]
    fn cut_off_tickets_are_refused() {
        for bytes in [vec![], vec![1], vec![1, 0], vec![9, 0, b'a'], vec![1, 0, 0xff]] {
            assert!(Ticket::unpack(&bytes, vec![]).is_err());
        }
    }
}
