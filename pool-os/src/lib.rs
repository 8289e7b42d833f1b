//! Child processes, handle passing and lifelines: the operating-system ground under process-pool's start
//! methods.
//!
//! ```text
//!  parent                                                        child, "the worker"
//!  Launcher::launch(command, parcel, on_ended)
//!    │  a socketpair; magic, version, bytes and handles
//!    │  are written before the child exists ═══ stdin ═══════►   arrive(): peek for the magic, receive,
//!    ├─ spawn, in a process group of its own                               move the socket away, empty stdin
//!    ▼                                                                     │
//!  Child: pid, signal      lifeline: nobody writes any more ───────────────┤ watcher thread: end of file → die
//!  on_ended(status, last words) ◄──────── last words ──────────────────────┘
//! ```
//!
//! What a child has started ends with it, as long as it has not left the child's process group or its job.
//!
//! On Windows the parcel follows over a pipe after the start, the lifeline is a job and the parent's process
//! handle, and the last words have a pipe of their own.
//!
//! Nothing here blocks on the child, ever, and no descriptor or handle can be inherited by a process that
//! somebody else starts at the same time (on Windows, but for the standard streams of a child that is just
//! being started: an end to read from, and what this process shares with its children anyhow). The child in
//! turn inherits its standard streams and nothing else: no socket that its program has accepted. The start does not copy the parent: there is no `pre_exec`, so
//! `std` keeps to `posix_spawn`, which takes as long in a parent of 8 GiB as in one of 8 MiB.
//!
//! A process that somebody else has started can have a parcel too, over a connection that it has made
//! ([`admit`], [`arrive_as_guest`]); from there on it is like a child, but for its exit status.
//!
//! This crate knows nothing of pools, links or tickets. It is a private part of process-pool; the start
//! methods are its users. Read on in `parcel` (what travels), `launch` and `guest` (the parent's half) and the folder of
//! your system.

mod guest;
mod launch;
mod parcel;
mod program;
#[cfg(unix)]
mod unix;
mod waiter;
#[cfg(windows)]
mod windows;

pub use launch::{Ended, LaunchError, Launcher, OnEnded};
pub use parcel::{Arrival, BYTES_MAX, HANDLES_MAX, Handle, LAST_WORDS_MAX, Parcel, Signal};
#[cfg(target_os = "linux")]
pub use program::threads;
pub use program::{is_elevated, locate};
#[cfg(unix)]
pub use program::{own_name, own_path};
#[cfg(unix)]
use unix as platform;
#[cfg(windows)]
use windows as platform;

pub use platform::{Child, Guest, LastWords, Peer, admit, arrive, arrive_as_guest, forget_variable, is_ours};
/// The exit code of a process that this crate has ended. Of the form that the system leaves to applications (the bits for an
/// error and for a customer's code); nobody else uses it.
#[cfg(windows)]
pub const KILLED: i32 = 0xE04B_494C_u32.cast_signed();
#[cfg(unix)]
pub use platform::{Lifeline, arrive_alone, arrive_over, pack, parent_fds};
