//! What can go wrong: one small enum for each question a caller can act on.
//!
//! - [`BuildError`]: why there is no pool.
//! - [`ResizeError`]: why it has not got another size.
//! - [`SubmitError`]: why a call was not accepted; [`TrySubmitError`]: why not at once.
//! - [`TaskError`]: why an accepted call has no result. A call that returns `Err(e)` *has* one.
//! - [`BrokenPool`]: why the pool gave up, and [`StartError`]: why a worker did not come up.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use pool_settings::Refused;
use serde::{Deserialize, Serialize};

use crate::WorkerId;
use crate::spawner::SpawnError;

/// How a worker process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it (Unix).
    Signal(i32),
    /// Nobody can tell, for this reason.
    Unknown(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Unknown(why) => write!(f, "unknown exit ({why})"),
        }
    }
}

/// Why a pool was not built. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A size that must be at least 1 is 0.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// An environment variable that the pool looks at does not say what it should.
    #[error("the environment variable {name} is `{value}`: it must be {expected}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What it is set to.
        value: String,
        /// What it may be set to.
        expected: &'static str,
    },
    /// This platform cannot do what this setting asks for.
    #[error("{0} is not possible on this platform")]
    Unsupported(&'static str),
    /// A name that is not that of a context.
    #[error(transparent)]
    Context(#[from] crate::context::ContextError),
    /// No worker could ever start.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The initializer's argument cannot be encoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The initializer's argument, encoded, is larger than the limit.
    #[error("the argument of `{task}` takes {size} bytes, more than the limit of {max}")]
    TooLarge {
        /// The initializer.
        task: String,
        /// Bytes, encoded.
        size: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// Of what its [`WorkerSettings`](crate::WorkerSettings) ask for, workers cannot have this.
    #[error("workers cannot have the {setting} that is asked for: {why}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What stands in its way.
        why: io::Error,
    },
    /// The exit hook takes another worker context than the initializer makes.
    #[error(transparent)]
    OtherContext(#[from] OtherContext),
    /// The pool's own thread could not be started.
    #[error("cannot start the pool's supervisor thread: {0}")]
    Thread(io::Error),
}

/// Why a pool has not got another size. It is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResizeError {
    /// There must be a worker.
    #[error("max_workers must be at least 1")]
    Zero,
}

impl From<Refused> for BuildError {
    fn from(refused: Refused) -> Self {
        Self::Setting { setting: refused.setting, why: refused.why }
    }
}

/// Why a call was not accepted. It was not run and never will be.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// `shutdown` was called.
    #[error("cannot schedule new calls after shutdown")]
    ShutDown,
    /// The pool gave up.
    #[error(transparent)]
    Broken(#[from] BrokenPool),
    /// The argument cannot be encoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The encoded argument is larger than the limit.
    #[error("the argument of `{task}` takes {size} bytes, more than the limit of {max}")]
    TooLarge {
        /// The function.
        task: String,
        /// Bytes, encoded.
        size: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The function is not part of the main program but of a plugin: a worker could not find it.
    #[error("`{0}` is not part of the main program, so a worker cannot find it: use a named task")]
    ForeignImage(&'static str),
    /// The function takes another worker context than the pool's initializer makes.
    #[error(transparent)]
    OtherContext(#[from] OtherContext),
    /// A size given to `map` that must be at least 1 is 0.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// So many calls are pending, and there may be no more ([`Builder::max_pending`](crate::Builder::max_pending)), where
    /// nobody could wait for room: in a waker.
    #[error("the pool is full: {0} calls are pending")]
    Full(usize),
}

/// Why a call was not accepted at once. It was not run and never will be. Here is its argument.
#[derive(Clone)]
#[non_exhaustive]
pub enum TrySubmitError<A> {
    /// So many calls are pending that there may be no more: later there will be room.
    Full(A),
    /// For another reason, which no waiting changes.
    Refused(A, SubmitError),
}

impl<A> TrySubmitError<A> {
    /// What the call was to be made with.
    pub fn into_argument(self) -> A {
        match self {
            Self::Full(argument) | Self::Refused(argument, _) => argument,
        }
    }
}

impl<A> fmt::Display for TrySubmitError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the pool is full"),
            Self::Refused(_, error) => error.fmt(f),
        }
    }
}

/// Without the argument, so that `expect` takes any.
impl<A> fmt::Debug for TrySubmitError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.debug_tuple("Full").finish_non_exhaustive(),
            Self::Refused(_, error) => f.debug_tuple("Refused").field(error).finish_non_exhaustive(),
        }
    }
}

impl<A> std::error::Error for TrySubmitError<A> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Full(_) => None,
            Self::Refused(_, error) => error.source(),
        }
    }
}

/// A function takes another worker context than there is in the pool's workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{task}` takes a worker context of type `{wanted}`, and that of this pool is `{found}`")]
#[non_exhaustive]
pub struct OtherContext {
    /// The function.
    pub task: &'static str,
    /// The type that it takes.
    pub wanted: &'static str,
    /// The type that the pool's initializer returns in its `Result`; `()` if there is none.
    pub found: &'static str,
}

/// Why an accepted call has no result.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It panicked. The worker lives on.
    #[error(transparent)]
    Panicked(Box<Panicked>),
    /// Its worker ended while it ran.
    #[error(transparent)]
    WorkerLost(Box<WorkerLost>),
    /// Its argument or its result could not be encoded or decoded.
    #[error(transparent)]
    Codec(Box<CodecError>),
    /// Its result is larger than the limit.
    #[error("the result of `{task}` takes {size} bytes, more than the limit of {max}")]
    TooLarge {
        /// The function.
        task: String,
        /// Bytes, encoded.
        size: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The worker does not know the function.
    #[error("{0}")]
    UnknownTask(String),
    /// It was cancelled before it started.
    #[error("the call was cancelled")]
    Cancelled,
    /// It took longer than its [limit](crate::CallOptions), and ended there.
    #[error(transparent)]
    TimedOut(Box<TimedOut>),
    /// It was [killed](crate::TaskHandle::kill) while it ran.
    #[error(transparent)]
    Killed(Box<Killed>),
    /// It was running when its pool was brought to an end, by a shutdown that has a
    /// [timeout](crate::Shutdown::timeout), or by [`interrupt`](crate::Executor::interrupt).
    #[error(transparent)]
    Stopped(Box<Stopped>),
    /// The pool gave up before it was done.
    #[error(transparent)]
    Broken(BrokenPool),
    /// A call that `map` wanted to make was not accepted.
    #[error(transparent)]
    Refused(SubmitError),
    /// `map` took longer than its timeout. The calls not started by then are cancelled.
    #[error("map took longer than its timeout of {0:?}")]
    MapTimedOut(Duration),
    /// The result was taken out of this handle before.
    #[error("the result was taken before")]
    Taken,
}

/// A panic in a task, as the worker saw it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task `{task}` panicked at {}: {message}", location.as_deref().unwrap_or("an unknown place"))]
#[non_exhaustive]
pub struct Panicked {
    /// The function.
    pub task: String,
    /// The worker.
    pub worker: WorkerId,
    /// The panic's message.
    pub message: String,
    /// `file:line:column`.
    pub location: Option<String>,
    /// The worker's backtrace, if backtraces are on (see [`std::backtrace`]).
    pub backtrace: Option<String>,
}

/// The end of a worker while it ran a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "worker {}{} was lost while it ran `{task}`{}: {exit}{}", worker.0, Pid(*pid), Times(*workers),
    Because(why.as_deref())
)]
#[non_exhaustive]
pub struct WorkerLost {
    /// The function of the call that was running. The cause may be older: a thread that an earlier call
    /// left behind can end an innocent one.
    pub task: String,
    /// The worker.
    pub worker: WorkerId,
    /// Its process id.
    pub pid: Option<u32>,
    /// How it ended.
    pub exit: Exit,
    /// What the pool held against it, if the pool ended it; else what it had to say itself.
    pub why: Option<String>,
    /// How many workers were lost with this call: more than one only if it was made again (see
    /// [`Retry`](crate::Retry)).
    pub workers: u32,
}

struct Times(u32);

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            workers => write!(f, ", the last of {workers} that were lost with it"),
        }
    }
}

/// A limit of a call's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeLimit {
    /// From when its turn had come at a worker; see [`CallOptions::time_limit`](crate::CallOptions::time_limit).
    Run(Duration),
    /// From its submission on; see [`CallOptions::total_limit`](crate::CallOptions::total_limit).
    Total(Duration),
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(limit) => write!(f, "it ran for longer than its time limit of {limit:?}"),
            Self::Total(limit) => write!(f, "it was submitted longer ago than its total limit of {limit:?}"),
        }
    }
}

/// A call whose time was up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{task}` was ended{}: {limit}", At(*worker, *pid))]
#[non_exhaustive]
pub struct TimedOut {
    /// The function.
    pub task: String,
    /// Which limit that was.
    pub limit: TimeLimit,
    /// The worker that ran it, and was killed; `None` if it had not started.
    pub worker: Option<WorkerId>,
    /// That worker's process id.
    pub pid: Option<u32>,
}

/// A call that was killed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{task}` was killed{}", At(*worker, *pid))]
#[non_exhaustive]
pub struct Killed {
    /// The function.
    pub task: String,
    /// The worker that ran it, and was killed with it.
    pub worker: Option<WorkerId>,
    /// That worker's process id.
    pub pid: Option<u32>,
}

/// What brought a pool to its end while calls were running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoppedBy {
    /// A shutdown, which had waited for so long.
    Shutdown(Duration),
    /// [`Executor::interrupt`](crate::Executor::interrupt).
    Interrupt,
}

impl fmt::Display for StoppedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shutdown(timeout) => write!(f, "the pool was shut down, and that took longer than {timeout:?}"),
            Self::Interrupt => f.write_str("the pool was interrupted"),
        }
    }
}

/// A call that was running when its pool was brought to an end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{task}` was ended with worker {}{}: {by}", worker.0, Pid(*pid))]
#[non_exhaustive]
pub struct Stopped {
    /// The function.
    pub task: String,
    /// What ended it.
    pub by: StoppedBy,
    /// The worker that ran it.
    pub worker: WorkerId,
    /// That worker's process id.
    pub pid: Option<u32>,
    /// How the worker ended.
    pub exit: Exit,
}

struct At(Option<WorkerId>, Option<u32>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(worker) => write!(f, ", with worker {}{}", worker.0, Pid(self.1)),
            None => f.write_str(" before it started"),
        }
    }
}

struct Pid(Option<u32>);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(f, " (pid {pid})"))
    }
}

struct Because<'a>(Option<&'a str>);

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |why| write!(f, " ({why})"))
    }
}

/// What could not be encoded or decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CodecStep {
    /// The argument, in the parent, before it was sent.
    EncodeArgument,
    /// The argument, in the worker.
    DecodeArgument,
    /// The result, in the worker.
    EncodeResult,
    /// The result, in the parent.
    DecodeResult,
}

impl fmt::Display for CodecStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EncodeArgument => "cannot encode the argument",
            Self::DecodeArgument => "cannot decode, in the worker, the argument",
            Self::EncodeResult => "cannot encode, in the worker, the result",
            Self::DecodeResult => "cannot decode the result",
        })
    }
}

/// A value that the codec cannot carry. Only the one call fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step} of type `{type_name}` with {codec}: {message}")]
#[non_exhaustive]
pub struct CodecError {
    /// What was being done.
    pub step: CodecStep,
    /// The Rust type.
    pub type_name: String,
    /// The codec's name.
    pub codec: &'static str,
    /// What it said.
    pub message: String,
}

/// Why a worker did not come up.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It could not be started.
    #[error(transparent)]
    Spawn(Arc<SpawnError>),
    /// No link could be opened for it.
    #[error("cannot open a link to a new worker: {0}")]
    Link(Arc<io::Error>),
    /// It ended before it was ready, or before it had run a single call.
    #[error("the worker ended before it had run a single call ({exit}){}", Because(last_words.as_deref()))]
    Ended {
        /// How.
        exit: Exit,
        /// What it had to say.
        last_words: Option<String>,
    },
    /// It did not answer in time.
    #[error(
        "the worker was not ready within {0:?}: does its `main` call `init()` first, and does its initializer end?"
    )]
    TimedOut(Duration),
    /// It speaks another version of the protocol.
    #[error("the worker speaks protocol version {theirs}, this program {ours}: build both with the same release")]
    Version {
        /// This program's.
        ours: u16,
        /// The worker's.
        theirs: u16,
    },
    /// It does not run the same program.
    #[error(
        "the worker does not run the same program as its parent (rebuilt or replaced meanwhile?), so functions \
         cannot be found in it: use `Exec::program` and named tasks"
    )]
    OtherImage,
    /// What it sent is not of this protocol.
    #[error("the worker did not speak the pool's protocol: {0}")]
    Garbage(String),
    /// Of what the pool's [`WorkerSettings`](crate::WorkerSettings) ask for, it could not take on this.
    #[error("the worker could not take on the {setting} that is asked for: {why}")]
    Setting {
        /// The setting.
        setting: String,
        /// What the operating system said.
        why: String,
    },
    /// It could not prove that it is the worker that was started.
    #[error("the worker showed the wrong token")]
    Token,
}

/// A failed initializer, with its own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the initializer `{task}` failed in worker {}{}: {message}", worker.0, Pid(*pid))]
#[non_exhaustive]
pub struct InitializerFailed {
    /// The initializer.
    pub task: String,
    /// The worker.
    pub worker: WorkerId,
    /// Its process id.
    pub pid: Option<u32>,
    /// The error's text, or the panic's message and place.
    pub message: String,
    /// The worker's backtrace of the panic, if backtraces are on.
    pub backtrace: Option<String>,
}

/// Why a pool is broken.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BreakReason {
    /// A worker was lost, and the pool was built to break then.
    #[error("a worker was terminated abruptly ({exit}){}", Pid(*pid))]
    WorkerLost {
        /// The worker.
        worker: WorkerId,
        /// Its process id.
        pid: Option<u32>,
        /// How it ended.
        exit: Exit,
    },
    /// Workers failed one after the other.
    #[error("{failures} workers in a row came to nothing, the last one thus: {last}")]
    TooManyFailures {
        /// How many.
        failures: u32,
        /// The last one's end.
        last: StartError,
    },
    /// No worker became ready in time.
    #[error("no worker became ready within {deadline:?}: {last}")]
    NoWorkerInTime {
        /// The start deadline.
        deadline: Duration,
        /// The last failure.
        last: StartError,
    },
    /// An initializer failed.
    #[error(transparent)]
    Initializer(InitializerFailed),
}

/// The pool gave up: it takes no more calls, and those it had have failed. CPython's `BrokenProcessPool`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the process pool is broken: {reason}")]
#[non_exhaustive]
pub struct BrokenPool {
    /// Why.
    #[source]
    pub reason: Arc<BreakReason>,
}
