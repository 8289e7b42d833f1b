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
//! Knows nothing of calls, codecs and processes. Frames, claim words and the reactor are `pool-link`'s; here is what is
//! about pipes: what a ticket carries, and on Windows, which cannot wait for several, the threads.
//!
//! # SIGPIPE
//! Writing to a pipe whose reader is gone raises SIGPIPE, which Rust programs ignore from the start. In a
//! program that has set it back to its default, a worker's death can end the program.
#![deny(unsafe_code)]

mod channel;
mod ticket;

cfg_if::cfg_if! {
    if #[cfg(unix)] {
        mod host;
    } else {
        mod windows;
        use windows as host;
    }
}

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use pool_core::transport::{Connector, Link, LinkEvents, Ticket, Transport};

pub use channel::PipeConnector;

use pool_link::SPIN;
use pool_link::frame::{FRAME_MAX, LENGTH_LIMIT};

/// Carries frames over two pipes per worker.
///
/// Clones share what serves the links: a thread, which starts with the first pool, or the first link, and ends when all clones and
/// all links are dropped.
#[derive(Clone)]
pub struct Pipe {
    frame_max: usize,
    spin: Duration,
    host: Arc<host::Host>,
}

impl Pipe {
    /// The transport, with frames of up to 1 GiB.
    pub fn new() -> Self {
        Self { frame_max: FRAME_MAX, spin: SPIN, host: Arc::default() }
    }

    /// Sets the largest frame, in bytes, of links opened from now on; at most 4 GiB less two bytes.
    pub fn frame_max(self, bytes: usize) -> Self {
        Self { frame_max: bytes.min(LENGTH_LIMIT - 1), ..self }
    }

    /// Sets how long a caller that waits for a result, and a worker that waits for a call, may look for it before they
    /// sleep; zero switches that off. 50 µs by default, which is about what waking a sleeping process costs. Nobody looks
    /// unless a core is free for it and looking has paid off lately. To be set before the first link is opened.
    ///
    /// On Linux; elsewhere nobody looks.
    pub fn spin(self, limit: Duration) -> Self {
        Self { spin: limit, ..self }
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

    fn prepare(&self) -> io::Result<()> {
        self.host.prepare(self.spin)
    }

    fn open(&self, events: Arc<dyn LinkEvents>) -> io::Result<(Box<dyn Link>, Ticket)> {
        self.host.open(self.frame_max, self.spin, events)
    }
}
