//! The Exec start method of process-pool: this program again, or another program.
//!
//! [`Exec`] is the parent's half, a [`Spawner`](pool_core::spawner::Spawner); [`ExecEntry`] the worker's, an
//! [`Entry`](pool_core::spawner::Entry). Between them goes one parcel, the ticket, over the worker's standard
//! input; how, and what ties the worker's life to its parent's, is `pool-os`'s to know. This crate knows
//! which program to run and how to name what went wrong.
//!
//! CPython calls this start method "spawn".

mod entry;
mod exec;
mod program;

pub use entry::ExecEntry;
pub use exec::Exec;

/// The name of the start method.
const NAME: &str = "exec";

/// The environment variable that tells a program that it may have been started as a worker. It decides
/// nothing alone, since every program further down inherits it.
const MARKER: &str = "PROCESS_POOL_WORKER";

/// What the marker says: the start method, and for people its version.
const MARK: &str = "exec/1";
