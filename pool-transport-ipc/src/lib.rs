//! process-pool's transport over the crate ipc-channel: a worker needs a name to connect, no handles.
//!
//! ```text
//!  parent                                                                          worker
//!  open: one-shot server ◄─── Hello: secret, and one end of each channel ───────── connect(ticket: name, secret)
//!  send ─► OutQueue ─ flush, within the credit ═══ bytes channel ═══════► Decoder ─► recv
//!  frame ◄─ Decoder ◄─ Receiver (a thread for each link) ◄═══ channel ════ send, within the credit
//! ```
//!
//! What it is good for: the ticket is a few bytes, so it reaches a worker to which handles cannot be passed. Where
//! they can, `pool-transport-pipe` is faster, and it can revoke.
//!
//! Reading order: `wire` (what is said), `flow` (the credit, why nothing ever blocks), `rendezvous`, `channel` (the
//! worker), `link` and `receiver` (the parent).
//!
//! # What ipc-channel does, and what this crate does about it
//! - Its `send` blocks when the buffer is full, and cannot be called back: each side sends within a credit.
//! - It cuts long messages up and opens a socket pair for each: frames are cut here, below that size.
//! - A failed serialisation leaks what was in it, and makes it panic later: only bytes that are encoded already
//!   go through it, and one greeting that cannot fail.
//! - It keeps its descriptors to itself, so a process that is forked and runs on (start method Fork) has copies of
//!   those of all links there are: no end of a link is told by closing alone, each is a message.
//! - Its `accept` has no time-out, lets others inherit the connection, and answers a lack of descriptors with a panic:
//!   on Linux and the BSDs the worker is waited for without it.
//! - On Windows it keeps a copy of each handle it receives, so a dropped sender may not be noticed: the end is a message.
//!   And no handle is sent to the parent, which would lose two for each link; a worker loses one, with its end.
//! - On Windows what a set of receivers is given may have more than one message read already, and says nothing of the
//!   second: a worker sends nothing between its greeting and the answer to it.
//! - `IpcReceiverSet` takes out everything there is before it returns: the credit bounds it.
//!
//! # Limits
//! - Not [revocable](pool_core::transport::LinkCaps::revocable). Claim words need memory that both sides map and
//!   neither can shrink; ipc-channel's shared memory is not sealed, and gives nothing but references to it, which
//!   must not be formed over memory that another process writes. So the pool keeps its small window.
//! - A link cannot be [driven](pool_core::transport::Link::drive): a reply wakes the link's thread first.
//! - What ipc-channel answers with a panic is contained and ends the link, the panic's message appears on
//!   standard error. But whoever holds the worker's raw socket and sends what ipc-channel would not (a length
//!   without its bytes, handles in a message) can keep the link's thread until it is gone, make the parent
//!   allocate, leak descriptors or, with debug assertions, abort. The worker's own process is trusted that far.
//! - On Linux and the BSDs the name is a socket in the temporary directory. Another process of the same user can
//!   connect before the worker does; it lacks the secret, and the link closes with a reason. One that connects
//!   and says nothing keeps a thread and a descriptor of ours until it is gone, but not the link from closing.
//! - If parent and worker are both killed before the worker has connected, the socket's directory stays.
//! - Writing to a channel whose reader is gone raises SIGPIPE, which Rust programs ignore from the start.
//! - On Windows ipc-channel makes the pipe that it connects to, if there is none: a worker that comes after its parent
//!   has given up or died waits in [`recv`](pool_core::transport::Channel::recv) until its lifeline ends it.
//! - Android and iOS: ipc-channel has nothing there that works between processes.
#![forbid(unsafe_code)]

mod channel;
mod decoder;
mod flow;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod link;
mod out;
mod queue;
mod receiver;
mod rendezvous;
mod ticket;
mod wire;

use std::io;
use std::sync::Arc;

use pool_core::transport::{Connector, Link, LinkEvents, Ticket, Transport};

pub use channel::IpcConnector;

/// Carries frames over two channels of ipc-channel per worker.
#[derive(Clone, Debug)]
pub struct Ipc {
    frame_max: usize,
}

/// What a link carries at most unless [`Ipc::frame_max`] says otherwise.
const FRAME_MAX: usize = 1 << 30;

impl Ipc {
    /// The transport, with frames of up to 1 GiB.
    pub fn new() -> Self {
        Self { frame_max: FRAME_MAX }
    }

    /// Sets the largest frame, in bytes, of links opened from now on; at most 4 GiB less two bytes.
    pub fn frame_max(self, bytes: usize) -> Self {
        Self { frame_max: bytes.min(u32::MAX as usize - 1) }
    }
}

impl Default for Ipc {
    fn default() -> Self {
        Self::new()
    }
}

impl Transport for Ipc {
    fn name(&self) -> &str {
        ticket::NAME
    }

    fn frame_max(&self) -> usize {
        self.frame_max
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(IpcConnector)
    }

    fn open(&self, events: Arc<dyn LinkEvents>) -> io::Result<(Box<dyn Link>, Ticket)> {
        link::open(self.frame_max, events)
    }
}
