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
//! - **E2** A call runs at most once, unless its own [`Retry`] policy says otherwise. It is sent again only if it
//!   provably never started: it was taken back, or its worker is dead and had not come to it, and then twice at most.
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
//!   that is asked for. One that waits returns when no worker is left, and a forced one waits for no call. One that has
//!   a timeout ends by it, and by the grace that follows, whatever calls and workers do; of several the strictest holds.
//! - **E9** However its parent ends, by `SIGKILL` too, no worker outlives it by a second, nor does what forks
//!   workers.
//! - **E10** Nothing is left behind by calls, by deaths or by pools: no process, thread, descriptor, shared memory
//!   or file.
//! - **E11** What the system is short of is waited for, or named in an error. Nothing panics for want of it.
//! - **E12** What is bounded stays within its bound: workers, calls beyond the reach of `cancel`, the inputs that
//!   a map takes ahead, a frame's size, the calls that a worker runs in its life. A successor of a worker that is about
//!   to leave may be there besides; it gets no call before there is a place for it. In a pool that is made smaller a worker
//!   that is one too many ends after the call that it runs, and no call is lost.
//! - **E13** No caller waits for a worker in `submit`, unless the pool is bounded and full, and no call behind another that
//!   takes long while a worker is free, where the link can revoke; but for a call with a key, whose worker is not. Nobody
//!   has the pool's lock while it waits.
//! - **E14** The user's code (callbacks, wakers, values as they are encoded, decoded and dropped) may use the pool
//!   and may panic, and no other call is harmed. A callback that takes long delays no call.
//! - **E15** A function runs only in a worker that is known to mean the same by it. One that is of another program
//!   or version, or breaks the rules, is ended, and an error says so. Nothing that it sends is taken on trust.
//! - **E16** A map yields one item for each input, in order unless asked otherwise, and an error in its place.
//! - **E17** A call ends when its time is up, or somebody kills it, and no other call is harmed: where the link can
//!   revoke never; where it cannot, but the one that starts in that moment at the same worker. One that ends so before
//!   it starts never runs.
//! - **E18** What a worker has started ends with it, however it ends, and no other worker's processes do. That holds for
//!   what stays in the worker's process group (Windows: its job); under fork servers on Linux for all that descends from
//!   it, and when the parent is killed, too.
//! - **E19** A worker is what its pool's settings ask for, before its initializer and its first call; or the error names
//!   the setting. The parent and other pools' workers are not touched.
//! - **E20** A call that has a [`Retry`] policy is made again as often as that says and no oftener, and is settled once.
//! - **E21** Of the calls that wait, those of the highest priority start first. Where the link can revoke, what was sent
//!   ahead waits too, but for a millisecond's worth of short calls.
//! - **E22** A bounded pool has no more unsettled calls than it may have. Who submits to a full one waits, is told, or lets
//!   a task wait, as it likes; who came first gets room first, and one who gives up takes nobody's. Who waits is told
//!   of the pool's end.
//! - **E23** Calls with the same key are run by one worker as long as it lives, one after the other, in the order in which
//!   they were submitted; and in that order by another one after that. (One that is made again comes when it has rested.)
//! - **E24** A call that is asked to stop, or whose soft limit has passed, can see it, it and no other; what it returns is
//!   its result, and its worker lives on. One that was asked starts nowhere any more if it has not, and where it was given
//!   a grace it ends with that. Nothing else happens to a call that does not look.
//! - **E25** What an initializer returns is made once in each worker, before its first call. Calls that take it have it one
//!   after the other, and no other type in its place: such a call is refused. It goes when its worker is told to end,
//!   with the exit hook, which runs once, within its own time, and in no worker that ends otherwise.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use pool_settings::{Surroundings, WorkerSettings};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::WorkerId;
use crate::call::{Argument, Call, Origin};
use crate::codec::Codec;
use crate::context::Context;
use crate::cores::cores;
use crate::driver::{Pool, Settings, call_queue_bound};
use crate::error::{
    BrokenPool, BuildError, CodecError, CodecStep, Exit, ResizeError, SubmitError, TrySubmitError,
};
use crate::function::{self, Function, FunctionWith, Initialized, Native, Stateless, TaskRef};
use crate::future::TaskHandle;
use crate::held::ContextType;
use crate::machine::{Config, Input, Ladder, Limits, OnWorkerLoss, RestartLimit, Treatment};
use crate::map::Map;
use crate::retry::Retry;
use crate::spawner::{Settled, Signal, SpawnError, Spawner};
use crate::submission::{Submission, Way, With};
use crate::supervisor::Supervisor;
use crate::transport::Transport;
use crate::wire::{self, Initializer, WireFunction};
use crate::worker::{WorkerEntry, resident_memory};

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
    max_memory_per_child: Option<u64>,
    idle_timeout: Option<Duration>,
    min_workers: usize,
    max_pending: Option<usize>,
    on_worker_loss: OnWorkerLoss,
    restart_limit: RestartLimit,
    start_deadline: Duration,
    stop_grace: Duration,
    initializer: Option<(Native, EncodeArgument)>,
    /// What it leaves in each worker.
    context_type: ContextType,
    /// What a worker runs last, and what that takes.
    exit: Option<(Native, ContextType)>,
    exit_grace: Duration,
    call_options: CallOptions,
    worker_settings: WorkerSettings,
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
            max_memory_per_child: None,
            idle_timeout: None,
            min_workers: 0,
            max_pending: None,
            on_worker_loss: OnWorkerLoss::default(),
            restart_limit: RestartLimit::default(),
            start_deadline: Duration::from_secs(10),
            stop_grace: Duration::from_secs(5),
            initializer: None,
            context_type: ContextType::of::<()>(),
            exit: None,
            exit_grace: Duration::from_secs(5),
            call_options: CallOptions::default(),
            worker_settings: WorkerSettings::default(),
        }
    }
}

impl Builder {
    /// The most workers at a time. They are started as calls come for them. [`Executor::resize`] changes it later.
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
    /// `f` returns nothing or a `Result<T, E>` with `E: Display`. The `T` is the *worker context*: it stays in the
    /// worker, and calls that are [submitted with it](Executor::submit_with) get it as a `&mut T`. It needs to be neither
    /// `Send` nor serde's, since it never leaves the thread that it was made in, which runs all calls. It is dropped when
    /// the worker ends because it is told to, not in one that is killed or exits in a call.
    pub fn initializer<F, A, T>(self, f: F, argument: A) -> Self
    where
        F: Function<A, T>,
        A: Serialize + DeserializeOwned + Send + 'static,
        T: Initialized + 'static,
    {
        let () = Stateless::<F>::CHECK;
        let encode: EncodeArgument = Box::new(move |codec| encode(codec, &argument));
        let context_type = ContextType::of::<T::Context>();
        Self { initializer: Some((function::initializer(f), encode)), context_type, ..self }
    }

    /// Runs `f(context)` in each worker that is told to end: when the pool shuts down, when the worker is replaced
    /// ([`max_tasks_per_child`](Self::max_tasks_per_child), [`max_memory_per_child`](Self::max_memory_per_child)), when it
    /// has had nothing to do ([`idle_timeout`](Self::idle_timeout)), or is one too many
    /// ([`resize`](Executor::resize)). It is the last thing there, and gets the worker context
    /// that the [initializer](Self::initializer) has made, for good; without one, `()`.
    ///
    /// It has a [time of its own](Self::exit_grace). What it panics with is written to the worker's standard error,
    /// and costs nothing else. It does not run in a worker that is killed, that is lost, or that ends in a call; nor
    /// where the program exits without dropping its pool.
    pub fn worker_exit<C, F>(self, f: F) -> Self
    where
        C: 'static,
        F: Function<C, ()>,
    {
        let () = Stateless::<F>::CHECK;
        Self { exit: Some((function::exit(f), ContextType::of::<C>())), ..self }
    }

    /// How long the [exit hook](Self::worker_exit) may take, the drop of the worker context included, before its worker
    /// is killed. Default: 5 s.
    pub fn exit_grace(self, exit_grace: Duration) -> Self {
        Self { exit_grace, ..self }
    }

    /// After so many calls a worker is replaced by a fresh one. Default: never.
    ///
    /// Its successor is started while it is at the last of them, and waits until it has gone: there may be up to twice
    /// as many processes as workers for that time, but no more workers are at calls than there may be.
    pub fn max_tasks_per_child(self, calls: usize) -> Self {
        Self { max_tasks_per_child: Some(calls), ..self }
    }

    /// A worker that takes more memory than this after a call is replaced by a fresh one. Default: never.
    ///
    /// It is the resident memory that counts, as the system tells it: shared and mapped pages too; in forked workers also
    /// what they have of the process that they are forked from. A worker looks after a call, once it has run calls for a
    /// millisecond; so it runs one at least. Short calls that were sent ahead may follow, what waits longer goes to others.
    /// (A worker of another program looks if that is built with this release.)
    pub fn max_memory_per_child(self, bytes: u64) -> Self {
        Self { max_memory_per_child: Some(bytes), ..self }
    }

    /// A worker that has had nothing to do for so long is let go, down to [`min_workers`](Self::min_workers). Others are
    /// started when calls come. Default: never.
    pub fn idle_timeout(self, idle_timeout: Duration) -> Self {
        Self { idle_timeout: Some(idle_timeout), ..self }
    }

    /// So many workers stay, however long they have [nothing to do](Self::idle_timeout). They too are started as calls
    /// come for them. Default: 0.
    pub fn min_workers(self, min_workers: usize) -> Self {
        Self { min_workers, ..self }
    }

    /// How many calls may wait at busy workers where `cancel` cannot reach them: on transports that cannot
    /// take a sent call back. Default: `max_workers + 1`, as in CPython. Pipes on Linux can take calls
    /// back, so there this bound is never used up.
    pub fn call_queue_bound(self, calls: usize) -> Self {
        Self { call_queue_bound: Some(calls), ..self }
    }

    /// How many calls may be pending or running at a time. Default: as many as there is memory for.
    ///
    /// In a pool that is full [`submit`](Executor::submit) waits until there is room, [`try_submit`](Executor::try_submit)
    /// gives the argument back, and [`submit_async`](Executor::submit_async) lets a task wait. Who came first gets room
    /// first. Those who wait are refused when the pool is shut down or breaks. [`map`](Executor::map) submits less far
    /// ahead, and waits for room only if it has no call under way.
    ///
    /// Done-callbacks may wait as any thread: room does not depend on them. A waker must not, since it runs on a thread
    /// from which room may have to come: there a full pool refuses with [`SubmitError::Full`].
    pub fn max_pending(self, calls: usize) -> Self {
        Self { max_pending: Some(calls), ..self }
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

    /// How long a worker that was told to stop may take before it is killed. Default: 5 s. (Where there is an
    /// [exit hook](Self::worker_exit), until that begins.)
    pub fn stop_grace(self, stop_grace: Duration) -> Self {
        Self { stop_grace, ..self }
    }

    /// How calls are treated that say nothing else; also those of [`map`](Executor::map), for which a call is a chunk.
    /// Default: nobody waits for them but who wants to.
    pub fn call_options(self, call_options: CallOptions) -> Self {
        Self { call_options, ..self }
    }

    /// What worker processes are to be like: environment, folder, niceness, processors, limits. Default: as their parent,
    /// or as the start method says.
    pub fn worker_settings(self, worker_settings: WorkerSettings) -> Self {
        Self { worker_settings, ..self }
    }

    /// Builds the pool. No worker is started before the first call.
    ///
    /// # Errors
    /// If a size is zero, `PROCESS_POOL_WORKERS` or a name makes no sense, the exit hook takes another context than the
    /// initializer makes, the initializer's argument cannot be encoded or is too large, `init()` was not called, a setting
    /// or a limit of memory is not to be had on this system or with this start method, the pool's thread cannot be
    /// started, or it is plain already that no worker could start. Nothing was started then.
    pub fn build(mut self) -> Result<Executor, BuildError> {
        let cores = cores();
        let max_workers = self.max_workers.map_or_else(|| default_workers(cores), Ok)?;
        let bound = call_queue_bound(self.call_queue_bound, max_workers);
        let sizes = [
            ("max_workers", max_workers),
            ("call_queue_bound", bound),
            ("max_tasks_per_child", self.max_tasks_per_child.unwrap_or(1)),
            ("max_memory_per_child", usize::from(self.max_memory_per_child != Some(0))),
            ("max_pending", self.max_pending.unwrap_or(1)),
            ("restart_limit.failures", self.restart_limit.failures as usize),
        ];
        if let Some((name, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(BuildError::Zero(name));
        }
        if self.max_memory_per_child.is_some() && resident_memory().is_none() {
            return Err(BuildError::Unsupported("max_memory_per_child"));
        }
        let (spawner, transport) = self.context.resolve()?;
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
        let surroundings = share_out(&mut self.worker_settings, spawner.as_ref())?;
        let exit = match self.exit {
            None => None,
            Some((native, takes)) => {
                self.context_type.check(native.name(), takes)?;
                Some(WireFunction::native(native).ok_or(SpawnError::ForeignImage)?)
            }
        };
        // Last of what may fail for a user's mistake: it may make a process.
        spawner.prepare(WorkerEntry::new(transport.as_ref(), surroundings))?;
        let settings = Settings {
            machine: Config {
                max_workers,
                call_queue_bound: bound,
                window_max: self.window_max,
                max_tasks_per_child: self.max_tasks_per_child.map(|calls| calls as u64),
                idle_timeout: self.idle_timeout,
                min_workers: self.min_workers,
                on_worker_loss: self.on_worker_loss,
                restart_limit: self.restart_limit,
                start_deadline: self.start_deadline,
                stop_grace: self.stop_grace,
                exit_grace: exit.as_ref().map(|_| self.exit_grace),
                cores,
                certain_ends: spawner.caps().child,
            },
            codec: self.codec,
            frame_max: transport.frame_max(),
            same_image: spawner.caps().same_image,
            initializer,
            memory_max: self.max_memory_per_child,
            context: self.context_type,
            exit,
            call_options: self.call_options,
            call_queue_bound: self.call_queue_bound,
            max_pending: self.max_pending,
            worker: self.worker_settings,
        };
        let context = format!("{}+{}", spawner.name(), transport.name());
        let (sender, orders) = crossbeam_channel::unbounded();
        let pool = Arc::new(Pool::new(settings, sender));
        let transport: Arc<dyn Transport> = Arc::from(transport);
        let supervisor =
            Supervisor { pool: Arc::clone(&pool), transport: Arc::clone(&transport), spawner, orders };
        supervisor.start().map_err(BuildError::Thread)?;
        // While that thread comes up. What goes wrong here will again, where it can be told of.
        let _ = transport.prepare();
        drop(transport);
        let origin = Arc::new(Origin { pool: Arc::downgrade(&pool), codec: self.codec, name: None, retry: None });
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

/// Takes out of the settings what the spawner sees to.
fn share_out(settings: &mut WorkerSettings, spawner: &dyn Spawner) -> Result<Surroundings, BuildError> {
    settings.check()?;
    match spawner.caps().settled {
        Settled::AtStart => Ok(settings.take_surroundings()),
        _ if settings.is_empty() => Ok(Surroundings::default()),
        Settled::OnArrival if wire::to_bytes(settings).len() <= SETTINGS_MAX => Ok(Surroundings::default()),
        Settled::OnArrival => {
            let why = format!("it takes more than {SETTINGS_MAX} bytes");
            Err(BuildError::Setting { setting: "environment", why: io::Error::new(ErrorKind::InvalidInput, why) })
        }
        Settled::Never => {
            let why = format!("the start method `{}` takes workers as they come", spawner.name());
            Err(BuildError::Setting {
                setting: "kind of settings",
                why: io::Error::new(ErrorKind::Unsupported, why),
            })
        }
    }
}

/// The most bytes of settings that travel with a ticket, encoded. Only an environment can come to so much.
const SETTINGS_MAX: usize = 32 * 1024;

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

/// How to shut a pool down. The default: finish everything that was submitted, and wait for it, however long that takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Return only when the last worker has ended and everything the pool held is freed.
    pub wait: bool,
    /// Cancel every call that has not started.
    pub cancel_futures: bool,
    /// Finish calls for so long; then cancel what has not started, and ask the workers to end (`SIGTERM`; on Windows
    /// they are killed). Calls that run then fail with [`TaskError::Stopped`](crate::TaskError::Stopped), unless they
    /// hear the signal and end within the grace: then they have their result.
    pub timeout: Option<Duration>,
    /// So long after that, kill the workers that have not ended. Default: the pool's
    /// [`stop_grace`](Builder::stop_grace).
    pub grace: Option<Duration>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { wait: true, cancel_futures: false, timeout: None, grace: None }
    }
}

/// What became of a pool's calls and workers, from the first wish that it end until now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// The last worker has ended: there is nothing to add.
    pub complete: bool,
    /// So many calls were answered by their workers.
    pub finished: usize,
    /// So many were cancelled before they started.
    pub cancelled: usize,
    /// So many came to another end: with their workers, by a limit, or since the pool was broken.
    pub lost: usize,
    /// Workers that ended by themselves when there was nothing more to do.
    pub ended: Vec<WorkerEnd>,
    /// Workers that ended when they were asked to end at once.
    pub terminated: Vec<WorkerEnd>,
    /// Workers that were killed.
    pub killed: Vec<WorkerEnd>,
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerEnd {
    /// The worker.
    pub worker: WorkerId,
    /// Its process id.
    pub pid: Option<u32>,
    /// How it ended.
    pub exit: Exit,
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
    /// The argument is encoded here, in the calling thread. This never waits for a busy worker: there is no limit to the
    /// number of pending calls but memory, unless the pool [has one](Builder::max_pending). One that is full lets its
    /// caller wait until there is room, first come, first served.
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
        self.plain().submit(f, &argument)
    }

    /// As [`submit`](Self::submit), but where the pool is [full](Builder::max_pending) it does not wait, and gives the
    /// argument back.
    ///
    /// # Errors
    /// If the pool is full, or as for `submit`.
    pub fn try_submit<F, A, R>(&self, f: F, argument: A) -> Result<TaskHandle<R>, TrySubmitError<A>>
    where
        F: Function<A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let () = Stateless::<F>::CHECK;
        self.plain().try_submit(f, argument)
    }

    /// As [`submit`](Self::submit), but where the pool is [full](Builder::max_pending) it is the task that waits, not its
    /// thread: `pool.submit_async(f, argument).await?.await`.
    ///
    /// The argument is encoded here; nothing is submitted before the [`Submission`] is polled, and if it is dropped
    /// before it is ready nothing ever is.
    pub fn submit_async<F, A, R>(&self, f: F, argument: A) -> Submission<R>
    where
        F: Function<A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let () = Stateless::<F>::CHECK;
        self.plain().submit_async(f, &argument)
    }

    /// Has a worker call `f(context, argument)`, with what the worker's [initializer](Builder::initializer) has made.
    ///
    /// Calls of one worker have the same context, one after the other, and may change it. Which worker runs a call is the
    /// pool's choice: what a call leaves in the context, another may find or not. A call that panics leaves the context as
    /// it was in that moment, for the next one; whoever cannot have that keeps a mark in it, which says that it is
    /// being changed. A worker that is lost is replaced, and the new one's initializer makes a new context.
    ///
    /// # Errors
    /// As [`submit`](Self::submit); and [`SubmitError::OtherContext`] if the pool's initializer makes a context of another
    /// type, or there is none (then it is `()`).
    pub fn submit_with<C, F, A, R>(&self, f: F, argument: A) -> Result<TaskHandle<R>, SubmitError>
    where
        C: 'static,
        F: FunctionWith<C, A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let () = Stateless::<F>::CHECK;
        self.plain().submit_with(f, &argument)
    }

    /// As [`submit_with`](Self::submit_with), but where the pool is [full](Builder::max_pending) it does not wait, and gives
    /// the argument back.
    ///
    /// # Errors
    /// If the pool is full, or as for `submit_with`.
    pub fn try_submit_with<C, F, A, R>(&self, f: F, argument: A) -> Result<TaskHandle<R>, TrySubmitError<A>>
    where
        C: 'static,
        F: FunctionWith<C, A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let () = Stateless::<F>::CHECK;
        self.plain().try_submit_with(f, argument)
    }

    /// As [`submit_with`](Self::submit_with), when it is awaited and there is room, as [`submit_async`](Self::submit_async).
    pub fn submit_with_async<C, F, A, R>(&self, f: F, argument: A) -> Submission<R>
    where
        C: 'static,
        F: FunctionWith<C, A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let () = Stateless::<F>::CHECK;
        self.plain().submit_with_async(f, &argument)
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
        self.plain().submit_named(name, &argument)
    }

    /// As [`submit_named`](Self::submit_named) and [`try_submit`](Self::try_submit).
    ///
    /// # Errors
    /// As there.
    pub fn try_submit_named<A, R>(&self, name: &str, argument: A) -> Result<TaskHandle<R>, TrySubmitError<A>>
    where
        A: Serialize,
        R: DeserializeOwned,
    {
        self.plain().try_submit_named(name, argument)
    }

    /// As [`submit_named`](Self::submit_named) and [`submit_async`](Self::submit_async).
    pub fn submit_named_async<A, R>(&self, name: &str, argument: A) -> Submission<R>
    where
        A: Serialize,
        R: DeserializeOwned,
    {
        self.plain().submit_named_async(name, &argument)
    }

    /// This executor for calls that are to be treated in a certain way.
    pub fn with(&self, options: CallOptions) -> With<'_> {
        With { executor: self, options: options.or(&self.pool.settings.call_options) }
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
        self.plain().map(f, inputs)
    }

    /// As [`map`](Self::map), with the worker context, as [`submit_with`](Self::submit_with) has it. A context of another
    /// type is an error of [`start`](Map::start), or of the first item.
    pub fn map_with<C, F, A, R, I>(&self, f: F, inputs: I) -> Map<'_, F, A, R, I::IntoIter>
    where
        C: 'static,
        F: FunctionWith<C, A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        let () = Stateless::<F>::CHECK;
        self.plain().map_with(f, inputs)
    }

    /// Takes no more calls, finishes those it has (or cancels what has not started), then lets the workers
    /// go; with a [`timeout`](Shutdown::timeout) it makes an end of what takes longer.
    ///
    /// May be called again, by several threads, and from callbacks: of several timeouts the strictest holds for all.
    /// Each call reports what has become of calls and workers since the first. One that does not wait reports what is
    /// known by then, and the pool goes on without it. (From within a waker none waits, since the thread that
    /// wakes is one that the workers' ends are learnt by.)
    pub fn shutdown(&self, how: Shutdown) -> ShutdownReport {
        let grace = how.grace.unwrap_or(self.pool.settings.machine.stop_grace);
        let ladder = how.timeout.map(|timeout| Ladder { timeout, grace });
        self.pool.end_by(Input::ShutdownCalled { cancel_pending: how.cancel_futures, ladder });
        if how.wait {
            self.pool.wait_ended();
        }
        self.pool.report()
    }

    /// Ends everything at once, without waiting for it: for a program's own handler of Ctrl-C.
    ///
    /// The pool takes no more calls. What has not started is [cancelled](crate::TaskError::Cancelled); what runs is
    /// asked to end (`SIGTERM`; on Windows it is killed), is killed after the [`stop_grace`](Builder::stop_grace), and
    /// fails with [`TaskError::Stopped`](crate::TaskError::Stopped). Called again, it kills at once.
    ///
    /// The pool installs no handler for signals, and its workers do not get the terminal's Ctrl-C. Call this
    /// from a thread, as the crates ctrlc and signal-hook have one for it; not from within a raw signal handler.
    pub fn interrupt(&self) {
        self.pool.end_by(Input::Interrupted);
    }

    /// Shuts down without waiting, cancels what has not started, and asks the workers to end (`SIGTERM`; on
    /// Windows they are killed). What they are running fails, with [`WorkerLost`](crate::TaskError::WorkerLost), unless it
    /// hears the signal and ends within the stop grace. Those that do not end within that are killed.
    pub fn terminate_workers(&self) {
        self.pool.end_by(Input::ForceCalled(Signal::Terminate));
    }

    /// As [`terminate_workers`](Self::terminate_workers), with `SIGKILL`.
    pub fn kill_workers(&self) {
        self.pool.end_by(Input::ForceCalled(Signal::Kill));
    }

    /// The most workers at a time.
    pub fn max_workers(&self) -> usize {
        self.pool.max_workers()
    }

    /// Changes the most workers at a time. No call is lost by that, nor delayed.
    ///
    /// If there may be more, they are started as calls come for them, those that wait included. If there may be fewer,
    /// those too many leave: idle ones at once, then those that are still starting; then busy ones as soon as they have
    /// done the call that they run. (What was sent to them ahead of time is taken back, where the transport can do that;
    /// elsewhere they do it first.) Returns without waiting for that. The [bound of the call
    /// queue](Builder::call_queue_bound) follows, unless it was set.
    ///
    /// # Errors
    /// If `max_workers` is 0.
    pub fn resize(&self, max_workers: usize) -> Result<(), ResizeError> {
        if max_workers == 0 {
            return Err(ResizeError::Zero);
        }
        self.pool.resize(max_workers);
        Ok(())
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

    /// How many calls may be [pending or running](Builder::max_pending), if that is bounded.
    pub fn max_pending(&self) -> Option<usize> {
        self.pool.settings.max_pending
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

    /// For calls that have no options of their own.
    fn plain(&self) -> Way<'_, '_> {
        Way { executor: self, options: &self.pool.settings.call_options }
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// A call that can be submitted.
    pub(crate) fn call<R>(
        &self,
        task: TaskRef,
        argument: Argument,
        options: &CallOptions,
    ) -> Result<Arc<Call>, SubmitError> {
        if argument.len() > self.payload_max() {
            let (size, max) = (argument.len(), self.payload_max());
            return Err(SubmitError::TooLarge { task: task.name().to_owned(), size, max });
        }
        let retry = options.retry.as_ref().map(Retry::of::<R>);
        Ok(Arc::new(Call::new(task, &self.origin, argument, retry)))
    }

    /// Whether the workers have the context that a function takes.
    pub(crate) fn check_context<C: 'static>(&self, native: Native) -> Result<(), SubmitError> {
        Ok(self.pool.settings.context.check(native.name(), ContextType::of::<C>())?)
    }
}

/// How a call is to be treated; what is not set here is as the pool's
/// [default](Builder::call_options) says.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    limits: Limits,
    retry: Option<Retry>,
    priority: Option<i32>,
    key: Option<u64>,
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

    /// How long the call should run, from its start. Then [`task::cancelled`](crate::task::cancelled) says so to it, if it
    /// looks for that, and nothing else happens: a call that does not end by itself goes on, up to its
    /// [`time_limit`](Self::time_limit) if it has one. What it returns is its result, late or not.
    pub fn soft_limit(mut self, limit: Duration) -> Self {
        self.limits.soft = Some(limit);
        self
    }

    /// Makes the call again when it fails, as this says. By default it is not: a call runs at most once.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Of the calls that wait, those of the highest priority start first, and of these the oldest. Default: 0.
    ///
    /// It is obeyed strictly: as long as calls of a higher priority keep coming, those of a lower one wait. What runs
    /// is never interrupted.
    ///
    /// Calls are sent to busy workers ahead of time, so that these need not wait for them. Where a transport can take
    /// them back (those of Linux) a more urgent call waits behind none of them but for short ones, worth a millisecond.
    /// Elsewhere it waits for those that were sent before it came, one for each worker. As long as calls of several
    /// priorities are about, none is sent ahead but to workers at short calls.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Calls with the same key are run by the same worker, as long as it lives, one after the other, in the order in which
    /// they were submitted: for what a worker keeps in memory from call to call.
    ///
    /// Such a call waits for its worker, though others may be free, and for the older calls of its key, whatever its
    /// [`priority`](Self::priority). When the worker dies, is replaced, or leaves since the pool is [made
    /// smaller](Executor::resize), the key gets another one, and what waits goes there in the same order. (A call that is
    /// [made again](Self::retry) is not waited for while it rests.)
    ///
    /// A new key gets a worker that has none, one that is started for it if there may be one more; else the free one that
    /// has the fewest. Keys are remembered as long as their worker lives. Of those that have no calls the pool remembers
    /// 65,536, and forgets first what has had none for longest.
    ///
    /// A key may be anything that can be hashed. Should two have the same hash, they share a worker.
    pub fn sticky(mut self, key: impl Hash) -> Self {
        // With the same state for each, so that a key means the same each time.
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        self.key = Some(hasher.finish());
        self
    }

    fn or(self, default: &Self) -> Self {
        let (own, others) = (self.limits, default.limits);
        let limits = Limits {
            run: own.run.or(others.run),
            total: own.total.or(others.total),
            soft: own.soft.or(others.soft),
        };
        Self {
            limits,
            retry: self.retry.or_else(|| default.retry.clone()),
            priority: self.priority.or(default.priority),
            key: self.key.or(default.key),
        }
    }

    /// What the machine has to know of it.
    pub(crate) fn treatment(&self) -> Treatment {
        Treatment { limits: self.limits, priority: self.priority.unwrap_or_default(), key: self.key }
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

/// What the codec said of an argument.
pub(crate) fn encode_error<A>(codec: Codec, message: String) -> CodecError {
    let type_name = std::any::type_name::<A>().to_owned();
    CodecError { step: CodecStep::EncodeArgument, type_name, codec: codec.name(), message }
}
