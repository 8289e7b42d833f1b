//! The core of `process-pool`: CPython's `ProcessPoolExecutor` over pluggable transports and start methods.
//!
//! Use it through the crate `process-pool`, which adds the backends. This crate holds what they have in
//! common, and makes no call to the operating system itself.
//!
//! ```text
//!  caller's thread                      a link's thread, or a waiting caller        worker process
//!  submit ─encode─► Machine ─► Send ─► link.send ═════════════════════════════════► recv · claim · call
//!                              link event ─► Machine ─► settle, Send the next ◄════ reply
//!  handle.result() ◄─ decode ◄─────────────── settle (wake the waiter)
//! ```
//!
//! Read in this order:
//! - [`executor`]: the front, with the laws of every pool; `submission`: how calls get in; [`future`] and [`map`]: what
//!   it hands out.
//! - [`transport`] and [`spawner`]: the two seams, with their laws. This is what a backend implements.
//! - [`machine`]: the pure state machine.
//! - `driver`, `slot`, `call`, `admission`, `supervisor`: who tells the machine what happened and does what it orders.
//! - [`worker`]: the other side; `wire`: what the two say to each other; `function`: how a function is named;
//!   `chunk`: how a part of a map is run; `item`: what it consists of; `desk`, `blob`, `share`: what travels
//!   beside an encoded value; `held`: what an initializer leaves; [`task`]: what a call can learn of itself.

#![deny(unsafe_code)]

pub mod executor;
pub mod future;
pub mod map;
mod submission;

pub mod spawner;
pub mod transport;

pub mod machine;

mod admission;
mod call;
mod cores;
mod driver;
mod retry;
mod share;
mod slot;
mod spare;
mod supervisor;

mod blob;
mod chunk;
pub mod codec;
pub mod context;
mod desk;
pub mod error;
mod function;
mod held;
mod item;
pub mod task;
mod wire;
pub mod worker;

#[doc(hidden)]
pub mod counted;

pub use blob::Bytes;
pub use codec::Codec;
pub use context::{Context, available};
pub use error::{BrokenPool, BuildError, ResizeError, SubmitError, TaskError, TrySubmitError};
pub use executor::{Builder, CallOptions, Executor, Shutdown, ShutdownReport, WorkerEnd};
pub use function::{Function, FunctionWith, Initialized};
pub use future::{Asked, ReturnWhen, Settled, TaskHandle, TaskState, Waited, as_completed, wait};
pub use machine::{OnWorkerLoss, RestartLimit};
pub use map::Map;
pub use pool_settings::{Surroundings, WorkerSettings};
pub use retry::Retry;
pub use share::Shared;
pub use submission::{Submission, With};
pub use worker::WorkerMain;

/// The pool's name for a worker, unique in its pool for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u64);
