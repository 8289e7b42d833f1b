//! The executor and its builder: CPython's `ProcessPoolExecutor`.
//!
//! It is what users hold. What it decides is decided in [`machine`](crate::machine), and what it does is done
//! through the two seams, [`transport`](crate::transport) and [`spawner`](crate::spawner), on whose laws it rests.
//!
//! # Laws
//! Every pool keeps these, whichever its start method and transport. `xtests/executor_laws.md` names for each the
//! tests that hold it.
//!
//! - **E1** Every accepted call is settled, once, and whoever waits for it is told: of its result, or of an error
//!   of its own. One that is refused never ran. Nothing here hangs unless a call does.
//! - **E2** A call runs at most once. It is sent again only if it provably never started: it was taken back, or
//!   its worker is dead and had not come to it, and then twice at most.
//! - **E3** A worker that dies, however it does, costs one call at most: that which it was running, or, where the
//!   link cannot tell whether it had begun, that whose turn it was. It is replaced. (A pool that is built to break
//!   breaks instead.)
//! - **E4** A result that was sent whole before its worker died counts. One that was not is never seen.
//! - **E5** A panic, and a value that cannot be encoded, decoded or carried, fails its own call only, and says
//!   what it was. The worker lives on.
//! - **E6** Where [`cancel`](TaskHandle::cancel) says true the call never ran and never will, and it is done at
//!   once. Where the link can revoke, it says so for every call that has not started.
//! - **E7** A pool breaks only for a reason that it names: an initializer failed, workers came to nothing several
//!   times in a row, none came up in time, or it was built to break. Then every call fails with that reason, and
//!   later ones are refused with it.
//! - **E8** Shutting down, or dropping the pool, finishes what was submitted, or cancels what has not started if
//!   that is asked for. One that waits returns when no worker is left, and a forced one waits for no call.
//! - **E9** However its parent ends, by `SIGKILL` too, no worker outlives it by a second, nor does what forks
//!   workers.
//! - **E10** Nothing is left behind by calls, by deaths or by pools: no process, thread, descriptor, shared memory
//!   or file.
//! - **E11** What the system is short of is waited for, or named in an error. Nothing panics for want of it.
//! - **E12** What is bounded stays within its bound: workers, calls beyond the reach of `cancel`, the inputs that
//!   a map takes ahead, a frame's size, the calls that a worker runs in its life.
//! - **E13** No caller waits for a worker in `submit`, and no call behind another that takes long while a worker
//!   is free, where the link can revoke. Nobody has the pool's lock while it waits.
//! - **E14** The user's code (callbacks, wakers, values as they are encoded, decoded and dropped) may use the pool
//!   and may panic, and no other call is harmed. A callback that takes long delays no call.
//! - **E15** A function runs only in a worker that is known to mean the same by it. One that is of another program
//!   or version, or breaks the rules, is ended, and an error says so. Nothing that it sends is taken on trust.
//! - **E16** A map yields one item for each input, in order unless asked otherwise, and an error in its place.
//! - **E17** A call ends when its time is up, or somebody kills it, and no other call is harmed: where the link can
//!   revoke never; where it cannot, but the one that starts in that moment at the same worker. One that ends so before
//!   it starts never runs.

#![cfg_attr(
    all(windows, target_env = "gnu"),
    expect(
        clippy::missing_const_for_thread_local,
        reason = "it is const, which clippy does not see on this target"
    )
)]

use std::cell::Cell;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::{Argument, Call, Origin};
use crate::codec::Codec;
use crate::context::{Context, ContextError, ResolveError};
use crate::driver::{Pool, Settings};
use crate::error::{BrokenPool, BuildError, CodecError, CodecStep, SubmitError};
use crate::function::{self, Function, Initialized, Stateless, TaskRef};
use crate::future::{self, TaskHandle};
use crate::machine::{Config, EXTRA_QUEUED_CALLS, Input, Limits, OnWorkerLoss, RestartLimit};
use crate::map::Map;
use crate::spawner::{Signal, SpawnError};
use crate::supervisor::Supervisor;
use crate::wire::{self, Initializer, WireFunction};
use crate::worker::WorkerEntry;

/// The argument of an initializer, encoded once the codec is known.
type EncodeArgument = Box<dyn FnOnce(Codec) -> Result<Vec<u8>, CodecError> + Send>;

/// Settings for a pool; [`build`](Self::build) makes it.
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    max_workers: Option<usize>,
    context: Context,
    codec: Codec,
    call_queue_bound: Option<usize>,
    window_max: usize,
    max_tasks_per_child: Option<usize>,
    on_worker_loss: OnWorkerLoss,
    restart_limit: RestartLimit,
    start_deadline: Duration,
    stop_grace: Duration,
    initializer: Option<(function::Native, EncodeArgument)>,
    call_options: CallOptions,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            max_workers: None,
            context: Context::default(),
            codec: Codec::default(),
            call_queue_bound: None,
            window_max: 256,
            max_tasks_per_child: None,
            on_worker_loss: OnWorkerLoss::default(),
            restart_limit: RestartLimit::default(),
            start_deadline: Duration::from_secs(10),
            stop_grace: Duration::from_secs(5),
            initializer: None,
            call_options: CallOptions::default(),
        }
    }
}

impl Builder {
    /// The most workers at a time. They are started as calls come for them.
    ///
    /// Default: what the environment variable `PROCESS_POOL_WORKERS` says ([`BuildError::Variable`] if that is not
    /// a number from 1 on), else as many as this process may use at once
    /// ([`std::thread::available_parallelism`], which on Linux honours affinity and cgroup quota). The variable
    /// is not looked at where this method was called.
    ///
    /// It may be more than the system has descriptors or processes for: the pool goes on with the workers it
    /// has, and from time to time tries to start another one. If there is none at all until the
    /// [start deadline](Self::start_deadline), it is broken, and says what ran out.
    pub fn max_workers(self, max_workers: usize) -> Self {
        Self { max_workers: Some(max_workers), ..self }
    }

    /// The start method and the transport; see [`Context`].
    pub fn context(self, context: impl Into<Context>) -> Self {
        Self { context: context.into(), ..self }
    }

    /// How arguments and results are encoded. Default: postcard.
    pub fn codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    /// Runs `f(argument)` in each worker before its first call. If it panics or returns an error, the pool
    /// is broken, and the error that its calls get has this one's text.
    ///
    /// `f` returns nothing or a `Result<(), E>` with `E: Display`.
    pub fn initializer<F, A, T>(self, f: F, argument: A) -> Self
    where
        F: Function<A, T>,
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Initialized + 'static,
    {
        let () = Stateless::<F>::CHECK;
        let encode: EncodeArgument = Box::new(move |codec| encode(codec, &argument));
        Self { initializer: Some((function::initializer(f), encode)), ..self }
    }

    /// After so many calls a worker is replaced by a fresh one. Default: never.
    pub fn max_tasks_per_child(self, calls: usize) -> Self {
        Self { max_tasks_per_child: Some(calls), ..self }
    }

    /// How many calls may wait at busy workers where `cancel` cannot reach them: on transports that cannot
    /// take a sent call back. Default: `max_workers + 1`, as in CPython. Pipes on Linux can take calls
    /// back, so there this bound is never used up.
    pub fn call_queue_bound(self, calls: usize) -> Self {
        Self { call_queue_bound: Some(calls), ..self }
    }

    /// What becomes of the pool when a worker is lost. Default: it is replaced, and only the call it was
    /// running fails.
    pub fn on_worker_loss(self, on_worker_loss: OnWorkerLoss) -> Self {
        Self { on_worker_loss, ..self }
    }

    /// When to give up on workers that come to nothing. Default: 5 in a row, with pauses from 10 ms to 1 s.
    pub fn restart_limit(self, restart_limit: RestartLimit) -> Self {
        Self { restart_limit, ..self }
    }

    /// How long a worker may take from its start until it is ready, its initializer included; and how long
    /// calls wait while no worker at all can be started. Default: 10 s.
    pub fn start_deadline(self, start_deadline: Duration) -> Self {
        Self { start_deadline, ..self }
    }

    /// How long a worker that was told to stop may take before it is killed. Default: 5 s.
    pub fn stop_grace(self, stop_grace: Duration) -> Self {
        Self { stop_grace, ..self }
    }

    /// How calls are treated that say nothing else; also those of [`map`](Executor::map), for which a call is a chunk.
    /// Default: nobody waits for them but who wants to.
    pub fn call_options(self, call_options: CallOptions) -> Self {
        Self { call_options, ..self }
    }

    /// Builds the pool. No worker is started before the first call.
    ///
    /// # Errors
    /// If a size is zero, `PROCESS_POOL_WORKERS` or a name makes no sense, `init()` was not called, or it is plain
    /// already that no worker could start. Nothing was started then.
    pub fn build(self) -> Result<Executor, BuildError> {
        // Asked once: on Linux it takes a look into several files.
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let max_workers = self.max_workers.map_or_else(|| default_workers(cores), Ok)?;
        let bound = self.call_queue_bound.unwrap_or(max_workers.saturating_add(EXTRA_QUEUED_CALLS));
        let sizes = [
            ("max_workers", max_workers),
            ("call_queue_bound", bound),
            ("max_tasks_per_child", self.max_tasks_per_child.unwrap_or(1)),
            ("restart_limit.failures", self.restart_limit.failures as usize),
        ];
        if let Some((name, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(BuildError::Zero(name));
        }
        let (spawner, transport) = self.context.resolve().map_err(|error| match error {
            ResolveError::Spawn(error) => BuildError::Spawn(error),
            ResolveError::Context(error) => BuildError::Context(error),
        })?;
        let initializer = match self.initializer {
            None => None,
            Some((native, encode)) => {
                let function = WireFunction::native(native).ok_or(SpawnError::ForeignImage)?;
                let argument = encode(self.codec)?;
                let (size, max) =
                    (argument.len(), transport.frame_max().saturating_sub(wire::INITIALIZE_HEAD_MAX));
                if size > max {
                    return Err(BuildError::TooLarge { task: native.name().to_owned(), size, max });
                }
                Some((TaskRef::Native(native), Initializer { function, argument }))
            }
        };
        // Last of what may fail for a user's mistake: it may make a process.
        spawner.prepare(WorkerEntry::new(transport.as_ref()))?;
        let settings = Settings {
            machine: Config {
                max_workers,
                call_queue_bound: bound,
                window_max: self.window_max,
                max_tasks_per_child: self.max_tasks_per_child.map(|calls| calls as u64),
                on_worker_loss: self.on_worker_loss,
                restart_limit: self.restart_limit,
                start_deadline: self.start_deadline,
                stop_grace: self.stop_grace,
                cores,
                certain_ends: spawner.caps().child,
            },
            codec: self.codec,
            frame_max: transport.frame_max(),
            same_image: spawner.caps().same_image,
            initializer,
            call_options: self.call_options,
        };
        let context = format!("{}+{}", spawner.name(), transport.name());
        let (sender, orders) = crossbeam_channel::unbounded();
        let pool = Arc::new(Pool::new(settings, sender));
        let supervisor = Supervisor { pool: Arc::clone(&pool), transport, spawner, orders };
        supervisor.start().map_err(BuildError::Thread)?;
        let origin = Arc::new(Origin { pool: Arc::downgrade(&pool), codec: self.codec, name: None });
        Ok(Executor { pool, origin, context })
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("max_workers", &self.max_workers)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl From<ContextError> for ResolveError {
    fn from(error: ContextError) -> Self {
        Self::Context(error)
    }
}

/// Says how many workers a pool has whose builder does not.
const WORKERS_VARIABLE: &str = "PROCESS_POOL_WORKERS";

fn default_workers(cores: usize) -> Result<usize, BuildError> {
    match std::env::var_os(WORKERS_VARIABLE) {
        Some(text) => workers_from(text),
        None => Ok(cores),
    }
}

fn workers_from(text: OsString) -> Result<usize, BuildError> {
    match text.to_str().and_then(|text| text.trim().parse().ok()) {
        Some(workers @ 1..) => Ok(workers),
        _ => Err(BuildError::Variable {
            name: WORKERS_VARIABLE,
            value: text.to_string_lossy().into_owned(),
            expected: "a number from 1 on",
        }),
    }
}

/// How to shut a pool down. The default: finish everything that was submitted, and wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Return only when the last worker has ended and everything the pool held is freed.
    pub wait: bool,
    /// Cancel every call that has not started.
    pub cancel_futures: bool,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { wait: true, cancel_futures: false }
    }
}

/// A pool of worker processes that run functions of this program.
///
/// All methods take `&self` and may be called from any thread, also at the same time, and from
/// done-callbacks. Share it by reference or in an [`Arc`].
///
/// Dropping it finishes what was submitted, and waits for that: as `shutdown(Shutdown::default())`. Call
/// [`shutdown`](Self::shutdown) or [`kill_workers`](Self::kill_workers) first for another end. A program
/// that exits without dropping it takes its workers with it.
#[derive(Debug)]
pub struct Executor {
    pool: Arc<Pool>,
    /// What all its calls have in common.
    origin: Arc<Origin>,
    context: String,
}

impl Executor {
    /// A pool with the default settings.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// Settings for a pool.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Has a worker call `f(argument)`, and returns a handle for the result.
    ///
    /// `f` is a fn item or a closure that captures nothing; anything else does not compile. For several
    /// arguments pass a tuple: `submit(|(base, exponent)| u64::pow(base, exponent), (2, 10))`.
    ///
    /// Argument and result own what they hold: `String`, not `&str`. (Of a reference the compiler says that its
    /// implementation of `Deserialize` is not general enough.)
    ///
    /// The argument is encoded here, in the calling thread. The call never blocks on a busy worker; there
    /// is no limit to the number of pending calls but memory.
    ///
    /// # Errors
    /// If the pool takes no more calls, or the argument cannot be encoded or is too large. The call was not
    /// run then and never will be; the pool is as before.
    pub fn submit<F, A, R>(&self, f: F, argument: A) -> Result<TaskHandle<R>, SubmitError>
    where
        F: Function<A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let () = Stateless::<F>::CHECK;
        self.submit_native(f, &argument, self.limits())
    }

    /// Has a worker call the task that it registered under `name`
    /// ([`WorkerMain::task`](crate::worker::WorkerMain::task)). For workers that run another program.
    ///
    /// The types are not checked but by what the codec finds: they must be those of the registered
    /// function.
    ///
    /// # Errors
    /// As [`submit`](Self::submit). A name that the worker does not know fails the call, not the pool.
    pub fn submit_named<A, R>(&self, name: &str, argument: A) -> Result<TaskHandle<R>, SubmitError>
    where
        A: Serialize,
        R: DeserializeOwned,
    {
        self.submit_task(name, &argument, self.limits())
    }

    /// This executor for calls that are to be treated in a certain way.
    pub fn with(&self, options: CallOptions) -> With<'_> {
        With { executor: self, limits: options.or(self.pool.settings.call_options) }
    }

    /// Calls `f` for each input, in the workers, and yields the results in the order of the inputs.
    ///
    /// See [`Map`] for what can be set: chunks, bound, timeout, order.
    pub fn map<F, A, R, I>(&self, f: F, inputs: I) -> Map<'_, F, A, R, I::IntoIter>
    where
        F: Function<A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        let () = Stateless::<F>::CHECK;
        Map::new(self, f, inputs.into_iter())
    }

    /// Takes no more calls, finishes those it has (or cancels what has not started), then lets the workers
    /// go. May be called again, and by several threads.
    pub fn shutdown(&self, how: Shutdown) {
        self.pool.tell(Input::ShutdownCalled { cancel_pending: how.cancel_futures });
        if how.wait {
            self.pool.wait_ended();
        }
    }

    /// Shuts down without waiting, cancels what has not started, and asks the workers to end (`SIGTERM`; on
    /// Windows they are killed). What they are running fails. Those that do not end within the stop grace
    /// are killed.
    pub fn terminate_workers(&self) {
        self.pool.tell(Input::ForceCalled(Signal::Terminate));
    }

    /// As [`terminate_workers`](Self::terminate_workers), with `SIGKILL`.
    pub fn kill_workers(&self) {
        self.pool.tell(Input::ForceCalled(Signal::Kill));
    }

    /// The most workers at a time.
    pub fn max_workers(&self) -> usize {
        self.pool.settings.machine.max_workers
    }

    /// How many workers are starting or live just now.
    pub fn workers(&self) -> usize {
        self.pool.workers()
    }

    /// The process ids of the workers that are there just now, for people and tests. Whoever has answered a call is
    /// among them, as long as it lives: a worker that was quicker than the call that starts it is waited for.
    pub fn worker_pids(&self) -> Vec<u32> {
        self.pool.pids()
    }

    /// How many calls are pending or running.
    pub fn pending(&self) -> usize {
        self.pool.unsettled()
    }

    /// Why the pool is broken, if it is.
    pub fn broken(&self) -> Option<BrokenPool> {
        self.pool.broken()
    }

    /// The start method and the transport, such as `"exec+pipe"`.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// Whether the pool takes calls.
    pub(crate) fn accepts(&self) -> Result<(), SubmitError> {
        self.pool.accepts()
    }

    pub(crate) fn codec(&self) -> Codec {
        self.pool.settings.codec
    }

    /// The largest payload of a call, in bytes.
    pub(crate) fn payload_max(&self) -> usize {
        self.pool.settings.frame_max.saturating_sub(wire::CALL_HEAD_MAX)
    }

    /// Those of a call that has none of its own.
    pub(crate) fn limits(&self) -> Limits {
        self.pool.settings.call_options.limits
    }

    pub(crate) fn submit_encoded(
        &self,
        task: TaskRef,
        argument: Argument,
        limits: Limits,
    ) -> Result<Arc<Call>, SubmitError> {
        if argument.len() > self.payload_max() {
            let (size, max) = (argument.len(), self.payload_max());
            return Err(SubmitError::TooLarge { task: task.name().to_owned(), size, max });
        }
        let call = Arc::new(Call::new(task, &self.origin, argument));
        self.pool.submit(&call, limits)?;
        Ok(call)
    }

    fn submit_native<F, A, R>(&self, f: F, argument: &A, limits: Limits) -> Result<TaskHandle<R>, SubmitError>
    where
        F: Function<A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let native = function::call(f);
        if native.address().is_none() {
            return Err(SubmitError::ForeignImage(native.name()));
        }
        let argument = encode_argument(self.codec(), argument)?;
        let call = self.submit_encoded(TaskRef::Native(native), argument, limits)?;
        Ok(TaskHandle::new(call, future::decode_reply::<R>))
    }

    fn submit_task<A, R>(&self, name: &str, argument: &A, limits: Limits) -> Result<TaskHandle<R>, SubmitError>
    where
        A: Serialize,
        R: DeserializeOwned,
    {
        if name.len() > wire::NAME_MAX {
            let (task, size) = (name.to_owned(), name.len());
            return Err(SubmitError::TooLarge { task, size, max: wire::NAME_MAX });
        }
        let argument = encode_argument(self.codec(), argument)?;
        let call = self.submit_encoded(TaskRef::Named(name.into()), argument, limits)?;
        Ok(TaskHandle::new(call, future::decode_reply::<R>))
    }
}

/// How a call is to be treated; what is not set here is as the pool's
/// [default](Builder::call_options) says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallOptions {
    limits: Limits,
}

impl CallOptions {
    /// Nothing is set.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the call may run. Then its worker is killed, and the call fails with
    /// [`TaskError::TimedOut`](crate::TaskError::TimedOut).
    ///
    /// No other call is touched by that: what waits behind it is taken back first, and goes to other workers. (On
    /// transports that cannot take back what was sent, which is all but those of Linux, the next call is lost with the
    /// worker if it starts in that very moment; it fails with [`WorkerLost`](crate::TaskError::WorkerLost) then.)
    ///
    /// The time begins when the call's turn comes at a worker that is ready; it includes what it takes to bring the
    /// argument there. A call that has not started when its time is up, because its worker is held up, say, goes to
    /// another, and its time begins anew. (Where that cannot be known, it fails.)
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limits.run = Some(limit);
        self
    }

    /// How long the call may take from its submission on, the time that it waits included. If it runs then, it ends as
    /// with a [`time_limit`](Self::time_limit); if it does not, it never will.
    pub fn total_limit(mut self, limit: Duration) -> Self {
        self.limits.total = Some(limit);
        self
    }

    fn or(self, default: Self) -> Limits {
        Limits { run: self.limits.run.or(default.limits.run), total: self.limits.total.or(default.limits.total) }
    }
}

/// An executor that treats calls in a certain way: [`Executor::with`].
#[derive(Clone, Copy, Debug)]
pub struct With<'a> {
    executor: &'a Executor,
    limits: Limits,
}

impl With<'_> {
    /// As [`Executor::submit`].
    ///
    /// # Errors
    /// As there.
    pub fn submit<F, A, R>(&self, f: F, argument: A) -> Result<TaskHandle<R>, SubmitError>
    where
        F: Function<A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let () = Stateless::<F>::CHECK;
        self.executor.submit_native(f, &argument, self.limits)
    }

    /// As [`Executor::submit_named`].
    ///
    /// # Errors
    /// As there.
    pub fn submit_named<A, R>(&self, name: &str, argument: A) -> Result<TaskHandle<R>, SubmitError>
    where
        A: Serialize,
        R: DeserializeOwned,
    {
        self.executor.submit_task(name, &argument, self.limits)
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.shutdown(Shutdown::default());
    }
}

fn encode<A: Serialize>(codec: Codec, argument: &A) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    codec.encode(argument, &mut bytes).map_err(|message| encode_error::<A>(codec, message))?;
    Ok(bytes)
}

thread_local! {
    /// Where arguments are encoded, so that short ones, which are copied from here, take no allocation.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

fn encode_argument<A: Serialize>(codec: Codec, argument: &A) -> Result<Argument, CodecError> {
    // Taken out: an argument may submit calls of its own while it is encoded.
    let room = ROOM.try_with(Cell::take).unwrap_or_default();
    let (argument, room) = Argument::encode(codec, argument, room)?;
    if let Some(room) = room {
        // A thread at its end has no room any more, and needs none.
        let _ = ROOM.try_with(|place| place.set(room));
    }
    Ok(argument)
}

/// What the codec said of an argument.
pub(crate) fn encode_error<A>(codec: Codec, message: String) -> CodecError {
    let type_name = std::any::type_name::<A>().to_owned();
    CodecError { step: CodecStep::EncodeArgument, type_name, codec: codec.name(), message }
}
