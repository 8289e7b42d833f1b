//! CPython's `ProcessPoolExecutor` for Rust: run functions in other processes.
//!
//! For work that must be killable, for C libraries that crash, leak or are not thread-safe, for decoders of
//! untrusted input. A worker that dies costs the one call it was running; the pool replaces it and goes on.
//! Nothing hangs, and no worker outlives its parent.
//!
//! ```
//! use process_pool::Executor;
//!
//! fn square(n: u64) -> u64 {
//!     n * n
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     process_pool::init(); // First: in a worker this does not return.
//!
//!     let pool = Executor::new()?;
//!     let handle = pool.submit(square, 12)?;
//!     assert_eq!(handle.result()?, 144);
//!
//!     let squares: Result<Vec<_>, _> = pool.map(square, 1..=4).collect();
//!     assert_eq!(squares?, [1, 4, 9, 16]);
//!     Ok(())
//! }
//! ```
//!
//! # `init()`
//! Workers are this program, started again. [`init`] at the top of `main` makes it one: in the parent it
//! returns at once, in a worker never. **What stands before it in `main` runs in each worker too.** A program
//! that does not call it gets a clear error from [`Executor::new`]. Tests have no `main` of their own: there,
//! [`auto_init!`] does the same before the harness starts.
//!
//! # What can be sent
//! A function item or a closure that captures nothing (anything else does not compile), with one argument and
//! a result that serde can carry. Several arguments go in a tuple; blobs in [`Bytes`].
//!
//! # What can go wrong
//! [`SubmitError`]: the call was not accepted and never ran. [`TaskError`]: it has no result, because it
//! panicked, its worker was lost, or a value could not be carried. A call runs at most once, always.
//!
//! # Features
//! They only add names: `exec`, `pipe` and `shm`, on by default; `forkserver` and `fork`, which Unix has; `ipc`;
//! `attach`; and the codecs `bincode` and `messagepack`. What is the [default](Context) does not depend on them.
//! [`available`] lists the contexts that a program has.
//!
//! The [`guide`] shows the rest, one thing at a time.

#[doc = include_str!("guide.md")]
#[cfg_attr(feature = "attach", doc = include_str!("guide_attach.md"))]
#[doc = include_str!("guide_transport.md")]
pub mod guide {}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

pub use pool_core::{
    Asked, BrokenPool, BuildError, Builder, Bytes, CallOptions, Codec, Context, Executor, Function, FunctionWith,
    Initialized, Map, OnWorkerLoss, ResizeError, RestartLimit, Retry, ReturnWhen, Settled, Shared, Shutdown,
    ShutdownReport, Submission, SubmitError, TaskError, TaskHandle, TaskState, TrySubmitError, Waited, With,
    WorkerEnd, WorkerId, WorkerMain, WorkerSettings, as_completed, available, wait,
};
pub use pool_core::{codec, context, error, future, spawner, task, transport, worker};

/// Start methods: how a worker process comes to be.
pub mod spawn {
    #[cfg(feature = "attach")]
    pub use pool_spawn_attach::{Attach, Invitation, Invitations, InviteError, NoInvitation};
    #[cfg(feature = "exec")]
    pub use pool_spawn_exec::Exec;
    #[cfg(feature = "fork")]
    pub use pool_spawn_fork::Fork;
    #[cfg(feature = "forkserver")]
    pub use pool_spawn_fork::ForkServer;
    #[cfg(all(unix, feature = "fork"))]
    pub use pool_spawn_fork::TooManyThreads;
    #[cfg(any(feature = "fork", feature = "forkserver"))]
    pub use pool_spawn_fork::after_fork;
}

/// Transports: how calls and results travel.
pub mod carry {
    #[cfg(feature = "ipc")]
    pub use pool_transport_ipc::Ipc;
    #[cfg(feature = "pipe")]
    pub use pool_transport_pipe::Pipe;
    #[cfg(feature = "shm")]
    pub use pool_transport_shm::Shm;
}

/// Becomes a worker if this process was started as one; else returns at once.
///
/// Call it first in `main`. Short for `worker_main().run()`.
pub fn init() {
    worker_main().run();
}

/// The entry with everything that the features of this crate bring, to add named tasks or transports of your
/// own to before it [runs](WorkerMain::run).
pub fn worker_main() -> WorkerMain {
    let main = WorkerMain::new();
    #[cfg(feature = "exec")]
    let main = main.start_method(context::StartMethod {
        name: "exec",
        make: || Box::new(spawn::Exec::new()),
        entry: Some(Box::new(pool_spawn_exec::ExecEntry)),
    });
    // By value they are there everywhere, and say that they cannot work; by name only where they can.
    #[cfg(all(unix, feature = "forkserver"))]
    let main = main.start_method(context::StartMethod {
        name: "forkserver",
        make: || Box::new(spawn::ForkServer::new()),
        entry: Some(Box::new(pool_spawn_fork::ForkServerEntry)),
    });
    #[cfg(all(unix, feature = "fork"))]
    let main = main.start_method(context::StartMethod {
        name: "fork",
        make: || Box::new(spawn::Fork::new()),
        entry: None,
    });
    #[cfg(feature = "attach")]
    let main = main.entry(Box::new(pool_spawn_attach::AttachEntry)); // Last: an invitation is inherited.
    #[cfg(feature = "pipe")]
    let main = main.transport(context::Way { name: "pipe", make: || Box::new(carry::Pipe::new()) });
    #[cfg(feature = "ipc")]
    let main = main.transport(context::Way { name: "ipc", make: || Box::new(carry::Ipc::new()) });
    #[cfg(all(any(target_os = "linux", target_os = "android"), feature = "shm"))]
    let main = main
        .transport(context::Way { name: "shm", make: || Box::new(carry::Shm::new()) })
        .default_transport(|| if carry::Shm::is_supported() { "shm" } else { "pipe" });
    main
}

/// Runs [`init`] before `main`. For test binaries, whose `main` is not yours; once, at the top of the file.
///
/// Workers then begin and end before the test harness does. Life before `main` is outside of what the standard
/// library promises, though what workers need works there; programs with a `main` call [`init`].
///
/// ```standalone_crate
/// process_pool::auto_init!();
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let pool = process_pool::Executor::new()?;
///     assert_eq!(pool.submit(|n: u64| n * n, 12)?.result()?, 144);
///     Ok(())
/// }
/// ```
#[macro_export]
macro_rules! auto_init {
    () => {
        const _: () = {
            extern "C" fn auto_init() {
                $crate::init();
            }
            #[used]
            #[cfg_attr(all(unix, not(target_vendor = "apple")), unsafe(link_section = ".init_array"))]
            #[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func,mod_init_funcs"))]
            #[cfg_attr(windows, unsafe(link_section = ".CRT$XCU"))]
            static AUTO_INIT: extern "C" fn() = auto_init;
        };
    };
}
