//! What process-pool's links over streams of bytes share.
//!
//! A transport that moves bytes both ways between the pool and one worker, by whatever means (pipes, rings in shared
//! memory), has everything else from here: frames, claim words, a parent's end that never blocks, and a reactor that
//! waits for all links at once, in a thread of its own or in callers that lend theirs.
//!
//! ```text
//!  parent                                                           worker
//!  send ─► OutQueue ─ flush ─► Stream::write ═══ bytes ═══► Decoder ─► recv
//!  revoke ───────────────────────► claim words ◄─────────────────────── claim
//!  frame ◄─ Decoder ◄─ Reactor (own thread, or a driver) ◄═══ bytes ═══ send
//! ```
//!
//! Knows nothing of calls, codecs and processes, nor what the bytes travel through. Reading order: `frame` (the wire),
//! `claims`, `stream` (what a transport brings), `channel` (the worker), `link` (the parent), `reactor`.
//!
//! For the transports of this workspace. It promises nothing to others.
#![deny(unsafe_code)]

pub mod channel;
pub mod claims;
pub mod frame;
pub mod inbox;
pub mod out;

cfg_if::cfg_if! {
    if #[cfg(any(target_os = "linux", target_os = "android"))] {
        pub mod mapping;
        pub mod page;
        pub mod sealed;
    } else if #[cfg(windows)] {
        pub mod mapping;
        pub mod page;
    } else {
        #[path = "page_none.rs"]
        pub mod page;
    }
}

cfg_if::cfg_if! {
    if #[cfg(unix)] {
        mod input;
        #[cfg_attr(
            not(all(any(target_os = "linux", target_os = "android"), not(pool_pipe_poll))),
            allow(dead_code, reason = "where links cannot be driven, nobody looks at them by himself")
        )]
        mod link;
        mod output;
        mod reactor;
        #[cfg_attr(
            not(all(any(target_os = "linux", target_os = "android"), not(pool_pipe_poll))),
            allow(dead_code, reason = "where links cannot be driven, nobody looks at them by himself")
        )]
        mod spin;
        pub mod stream;
        pub mod sys;
        pub use link::{Host, LinkParts, Pipes};
    }
}

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long to spin unless told otherwise: about what it costs to be woken.
pub const SPIN: Duration = Duration::from_micros(50);

/// Locks a mutex of a transport. None is held while foreign code runs, except one that nobody else waits for; so a
/// panic in a callback leaves no half-changed state behind.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
