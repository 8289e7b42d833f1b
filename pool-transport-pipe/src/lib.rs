//! OS pipes with claim words: the default transport of process-pool.
//!
//! Each worker has two pipes of its own, one each way, and where the system allows it a page of
//! claim words that it shares with the parent.
//!
//! ```text
//!  parent                                                        worker
//!  send ─► OutQueue ─ flush ─► non-blocking write ═══ pipe ═══► Decoder ─► recv
//!  revoke ────────────────────────► page of claim words ◄──────────────── claim
//!  frame ◄─ Decoder ◄─ Reactor (own thread, or a driver) ◄═══ pipe ═════ send
//! ```
//!
//! - The parent's ends never block. On Linux one *reactor* for all links of a [`Pipe`] waits for them with
//!   epoll; a caller that waits anyway can [drive](pool_core::transport::Link::drive) it. Other Unix systems
//!   have one thread with `poll`, Windows two threads for each link.
//! - The worker's ends block: it has nothing else to do.
//!
//! Knows nothing of calls, codecs and processes. Reading order: `frame` (the wire), `claims`, `channel` (the
//! worker), `link` (the parent), `reactor`.
//!
//! # SIGPIPE
//! Writing to a pipe whose reader is gone raises SIGPIPE, which Rust programs ignore from the start. In a
//! program that has set it back to its default, a worker's death can end the program.
#![deny(unsafe_code)]

mod channel;
mod claims;
mod frame;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod inbox;
mod out;
mod ticket;

cfg_if::cfg_if! {
    if #[cfg(any(target_os = "linux", target_os = "android"))] {
        mod page;
    } else {
        #[path = "page_none.rs"]
        mod page;
    }
}

cfg_if::cfg_if! {
    if #[cfg(unix)] {
        mod input;
        mod link;
        mod output;
        mod reactor;
        mod sys;
    } else {
        mod windows;
        use windows as link;
        use windows as sys;
    }
}

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pool_core::transport::{Connector, Link, LinkEvents, Ticket, Transport};

pub use channel::PipeConnector;

use frame::LENGTH_LIMIT;

/// Carries frames over two pipes per worker.
///
/// Clones share what serves the links: a thread, which starts with the first link and ends when all clones and
/// all links are dropped.
#[derive(Clone)]
pub struct Pipe {
    frame_max: usize,
    host: Arc<link::Host>,
}

/// What a link carries at most unless [`Pipe::frame_max`] says otherwise.
const FRAME_MAX: usize = 1 << 30;

impl Pipe {
    /// The transport, with frames of up to 1 GiB.
    pub fn new() -> Self {
        Self { frame_max: FRAME_MAX, host: Arc::default() }
    }

    /// Sets the largest frame, in bytes, of links opened from now on; at most 4 GiB less two bytes.
    pub fn frame_max(self, bytes: usize) -> Self {
        Self { frame_max: bytes.min(LENGTH_LIMIT - 1), ..self }
    }
}

impl Default for Pipe {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").field("frame_max", &self.frame_max).finish_non_exhaustive()
    }
}

impl Transport for Pipe {
    fn name(&self) -> &str {
        ticket::NAME
    }

    fn frame_max(&self) -> usize {
        self.frame_max
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(PipeConnector)
    }

    fn open(&self, events: Arc<dyn LinkEvents>) -> io::Result<(Box<dyn Link>, Ticket)> {
        self.host.open(self.frame_max, events)
    }
}

/// Locks a mutex of this crate. None is held while foreign code runs, except one that nobody else waits for; so a
/// panic in a callback leaves no half-changed state behind.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
