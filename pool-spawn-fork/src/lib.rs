//! The ForkServer and Fork start methods of process-pool: workers are forked, by a process that has no threads.
//!
//! A program with threads must not fork: its child would have one thread, and the locks of all. So here a
//! *server* forks: a process that has never had a second thread. For [`ForkServer`] that is this program, started
//! again, waiting in `init()`; for [`Fork`] a copy of the program as it is when the pool is built, before it has
//! threads. All else is the same for both.
//!
//! ```text
//!  parent                                     server                          worker
//!  Server::spawn                              serve
//!    ├─ the worker's socket, its parcel in it
//!    ├─ request ═══ control socket ═════════► fork ─────────────────────────► arrive over its socket: handles,
//!    ◄── pid, pidfd ═══ reply socket ════════ ┤                               lifeline, empty standard input
//!  on_exit ◄── end ═══ control socket ═══════ reap ◄───────────────────────── run, end
//!    │                                        │                               │
//!    └── lifeline: nobody but the parent holds its end ───────────────────────┤ end of file: die
//!        end of file: die ────────────────────┘ parent-death signal: die ─────┘
//! ```
//!
//! Where systems have no `fork`, the types exist, and [`prepare`](pool_core::spawner::Spawner::prepare) says so.
//!
//! This crate knows nothing of calls and links. Descriptors, parcels and lifelines are `pool-os`'s. Read on in
//! `protocol` (what the three say to each other), `parent`, `server` and `worker` (one for each of them), `strays`
//! (what workers leave), then `forkserver` and `fork` (how each server comes to be).

mod hooks;

cfg_if::cfg_if! {
    if #[cfg(unix)] {
        mod protocol;

        mod parent;
        mod server;
        mod strays;
        mod worker;

        mod entry;
        mod fork;
        mod forkserver;

        mod alone;
        mod sys;

        pub use alone::TooManyThreads;
        pub use entry::ForkServerEntry;
        pub use fork::Fork;
        pub use forkserver::ForkServer;
    } else {
        mod elsewhere;

        pub use elsewhere::{Fork, ForkServer, ForkServerEntry};
    }
}

pub use hooks::after_fork;

/// The names of the start methods.
const FORK_SERVER: &str = "forkserver";
const FORK: &str = "fork";

/// The environment variable that tells a program that it may have been started by this library, the same as for
/// other start methods. It decides nothing alone, since every program further down inherits it.
#[cfg(unix)]
const MARKER: &str = "PROCESS_POOL_WORKER";

/// What the marker says: the start method, and for people its version.
#[cfg(unix)]
const MARK: &str = "forkserver/1";
