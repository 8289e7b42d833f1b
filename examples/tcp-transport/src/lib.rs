//! A transport of one's own, as an example: frames over TCP on the loopback interface, with a lease.
//!
//! ```text
//!  parent                                                                              worker
//!  open: a listener, a thread                        ticket: address, secrets, lease ► connect
//!  accept; strangers are dropped  ◄──────────────────────────────────────── secret ───
//!                                 ─── the other secret ──────────────────────────────►
//!  send ─► desk ─ flush           ═══ Frame ═════════════════════════════════════════► recv
//!  claim or revoke, by the desk   ◄════════════════════════════════════════════ Ask ══ claim
//!                                 ═══ Yes, No ═══════════════════════════════════════►
//!  LinkEvents::frame              ◄══════════════════════════════════════════ Frame ══ send
//!                                 ═══ Receipt ═══════════════════════════════════════►
//!  the lease begins anew          ◄═══════════════════════════════════════════ Beat ══ a thread
//! ```
//!
//! The worker need not be a child, nor anything else but a process that can reach the address. So its link is
//! all that tells of its life: a link that is silent for longer than its [lease](Tcp::lease) is closed, and its
//! calls are settled without it. A worker that was stopped meanwhile (`SIGSTOP`, a debugger) may go on
//! afterwards. It must not run what others run by then.
//!
//! # Who decides that a call starts
//! The parent. [`claim`](pool_core::transport::Channel::claim) is a question, answered by the link's thread,
//! which notes the start before it says yes; once the link is closed nobody answers. What was not granted has
//! started nowhere, so it can be taken back ([`LinkCaps::revocable`]), and a call that the pool sends again is
//! never granted to the first worker. **No call runs twice.** It costs one round trip for each call.
//!
//! A yes that is older than half a lease, by the worker's clock since it asked, is not acted upon: it may have
//! lain there while the worker was stopped. The worker asks again, and finds out. A younger one came over a link
//! that cannot have expired since.
//!
//! What this cannot exclude: a stop between that look at the clock and the first instruction of the call. The
//! parent has noted the start, so the call is settled as lost and sent to nobody else; but it runs, once, when
//! the worker goes on, perhaps after its caller was told of the loss. The same holds for a stop within the call.
//! Where the worker is a child, or attached on the same machine, the pool kills it with the link, stopped or
//! not, and nothing goes on.
//!
//! # What TCP does not do by itself
//! - A socket that is closed with something unread sends a reset, which may destroy what its process has sent
//!   and the other side has not read (T2). So each frame from the worker is confirmed, and
//!   [`send`](pool_core::transport::Channel::send) returns when it is: another round trip.
//! - Anybody on the machine can connect. The listener belongs to one link, and is closed when the worker has
//!   shown its secret. The parent answers with another one, so that the worker takes no calls from whoever may
//!   listen there by then.
//! - A silent peer is not an error, for hours. Hence the lease.
//!
//! # Limits
//! - Nothing is encrypted: it is for the loopback interface, and binds no other.
//! - A link cannot be [driven](pool_core::transport::Link::drive): a reply wakes the link's thread first.
//! - The worker has a second thread, which sends the heartbeats. A call that runs for long does not silence the
//!   link; it says that the process lives, not that the call gets on.
//! - On Windows a program that is started in the moment of an `accept` can inherit the connection.
//!
//! Reading order: `wire` (what is said), `channel` (the worker), `link` (what the pool asks for), `watch` (the
//! thread).
#![forbid(unsafe_code)]

mod channel;
mod link;
mod ticket;
mod watch;
mod wire;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pool_core::context::Way;
#[cfg(doc)]
use pool_core::transport::LinkCaps;
use pool_core::transport::{Connector, Link, LinkEvents, Ticket, Transport};

pub use channel::TcpConnector;

/// Carries frames over a TCP connection for each worker, on the loopback interface.
#[derive(Clone, Debug)]
pub struct Tcp {
    lease: Duration,
    frame_max: usize,
}

impl Tcp {
    /// The transport, with a lease of 10 s and frames of up to 1 GiB.
    pub fn new() -> Self {
        Self { lease: Duration::from_secs(10), frame_max: 1 << 30 }
    }

    /// How long a link may be silent before it is closed, at least 20 ms; links that are opened from now on. The
    /// worker is heard four times as often, unless it is stopped, or the machine is too busy to let it run.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease: lease.clamp(Duration::from_millis(20), Duration::from_hours(1)), ..self }
    }

    /// The largest frame, in bytes, of links that are opened from now on; at most 4 GiB less one byte.
    #[must_use]
    pub fn frame_max(self, bytes: usize) -> Self {
        Self { frame_max: bytes.min(u32::MAX as usize), ..self }
    }

    /// What makes the transport known by its name, `"tcp"`, to a program and its workers.
    pub fn way() -> Way {
        Way { name: ticket::NAME, make: || Box::new(Self::new()) }
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Self::new()
    }
}

impl Transport for Tcp {
    fn name(&self) -> &str {
        ticket::NAME
    }

    fn frame_max(&self) -> usize {
        self.frame_max
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(TcpConnector)
    }

    fn open(&self, events: Arc<dyn LinkEvents>) -> io::Result<(Box<dyn Link>, Ticket)> {
        link::open(self.lease, self.frame_max, events)
    }
}
