//! Shared memory with claim words: the fastest transport of process-pool.
//!
//! Each worker shares one segment of memory with the parent, and with nobody else: two rings of bytes, the claim words,
//! and a few control words. Two pipes beside it are bells, rung only for a side that sleeps, and what tells each side
//! that the other is gone.
//!
//! ```text
//!  parent                                                          worker
//!  send ─► OutQueue ─ flush ─► copy ═══ ring (shared) ═══► copy ─► recv
//!  revoke ──────────────────────► claim words (shared) ◄───────── claim
//!  frame ◄─ Decoder ◄─ copy ◄═══════════ ring (shared) ═══ copy ◄─ send
//!             (asleep?) ··········· bells: two pipes ··········· (asleep?)
//! ```
//!
//! - The segment is an anonymous file without a name in any file system, sealed against being cut short or grown, and
//!   given to one worker by descriptor. It goes with the last of the two processes.
//! - Of its 4 MiB only what was used takes memory, and stays: 1 MiB at most where no more than 512 KiB was sent at
//!   once.
//! - What the worker writes is not believed. A control word is loaded once, checked, and the copy used; no reference is
//!   ever formed to bytes in the segment: they are copied out before anybody looks at them. A worker that scribbles
//!   over all of it costs its own link, and nothing else.
//! - A frame counts when it is complete: what its worker had written of it before it died is discarded, and what it had
//!   completed is delivered.
//!
//! Knows nothing of calls, codecs and processes. Frames, claim words and the reactor are `pool-link`'s. Reading order:
//! `layout`, `ring`, `parent`, `worker`.
//!
//! # Where it is missing
//! It is for Linux. Elsewhere [`Shm`] is there as well, and opens no link: [`Shm::is_supported`] tells.
#![forbid(unsafe_code)]

cfg_if::cfg_if! {
    if #[cfg(any(target_os = "linux", target_os = "android"))] {
        mod layout;
        mod parent;
        mod ring;
        mod ticket;
        mod worker;
        pub use worker::ShmConnector;
        use parent::Host;
    } else {
        mod elsewhere;
        pub use elsewhere::ShmConnector;
        use elsewhere::Host;
    }
}

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use pool_core::transport::{Connector, Link, LinkEvents, Ticket, Transport};
use pool_link::SPIN;
use pool_link::frame::{FRAME_MAX, LENGTH_LIMIT};

/// The transport's name, in tickets and in the names of contexts such as `exec+shm`.
const NAME: &str = "shm";

/// Carries frames through memory that is shared with each worker.
///
/// Clones share what serves the links: a thread, which starts with the first pool, or the first link, and ends when all clones and
/// all links are dropped.
#[derive(Clone)]
pub struct Shm {
    frame_max: usize,
    spin: Duration,
    host: Arc<Host>,
}

impl Shm {
    /// The transport, with frames of up to 1 GiB.
    pub fn new() -> Self {
        Self { frame_max: FRAME_MAX, spin: SPIN, host: Arc::default() }
    }

    /// Whether links can be opened on this system at all: on Linux, unless the kernel is older than 3.17 or a filter
    /// keeps this process from `memfd_create`. Asked once.
    pub fn is_supported() -> bool {
        Host::supported().is_ok()
    }

    /// Sets the largest frame, in bytes, of links opened from now on; at most 4 GiB less two bytes.
    pub fn frame_max(self, bytes: usize) -> Self {
        Self { frame_max: bytes.min(LENGTH_LIMIT - 1), ..self }
    }

    /// Sets how long a caller that waits for a result, and a worker that waits for a call, may look for it before they
    /// sleep; zero switches that off. 50 µs by default, which is about what waking a sleeping process costs. Nobody looks
    /// unless a core is free for it and looking has paid off lately. To be set before the first link is opened.
    pub fn spin(self, limit: Duration) -> Self {
        Self { spin: limit, ..self }
    }
}

impl Default for Shm {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Shm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frame_max, spin, host: _ } = self;
        f.debug_struct("Shm").field("frame_max", frame_max).field("spin", spin).finish_non_exhaustive()
    }
}

impl Transport for Shm {
    fn name(&self) -> &str {
        NAME
    }

    fn frame_max(&self) -> usize {
        self.frame_max
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(ShmConnector)
    }

    fn supported(&self) -> io::Result<()> {
        Host::supported()
    }

    fn prepare(&self) -> io::Result<()> {
        self.host.prepare(self.spin)
    }

    fn open(&self, events: Arc<dyn LinkEvents>) -> io::Result<(Box<dyn Link>, Ticket)> {
        self.host.open(self.frame_max, self.spin, events)
    }
}
