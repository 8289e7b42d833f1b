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

/// How a worker process ended, as its system tells it. [`cause`](Self::cause) says what that means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// It exited with this code. On Windows, a crash has one too: its `NTSTATUS`, which is negative as an `i32`.
    Code(i32),
    /// This signal killed it (Unix).
    Signal(i32),
    /// Nobody can tell, for this reason.
    Unknown(String),
}

/// What made a worker process end, in the same terms for all systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// It has ended itself, by returning from its `main` or calling `exit`. (On Windows also: somebody else than the pool
    /// has ended it, with a code of their own; most use 1.)
    Exited,
    /// It used memory that it did not have: `SIGSEGV`, `SIGBUS`, `STATUS_ACCESS_VIOLATION`, `STATUS_IN_PAGE_ERROR`.
    AccessViolation,
    /// Its stack was full: `STATUS_STACK_OVERFLOW`. On Unix a Rust program aborts then: [`Abort`](Self::Abort).
    StackOverflow,
    /// It came to something that is no instruction: `SIGILL`, `STATUS_ILLEGAL_INSTRUCTION`.
    IllegalInstruction,
    /// It computed what cannot be: `SIGFPE`, `STATUS_INTEGER_DIVIDE_BY_ZERO`. (Not Rust code: that panics.)
    Arithmetic,
    /// It gave up: `SIGABRT`, on Windows a fail-fast exception (`0xC0000409`). So end `abort()`, a panic where panics
    /// abort, a lack of memory, and a heap that was found corrupted.
    Abort,
    /// Ctrl-C reached it: `SIGINT`, `STATUS_CONTROL_C_EXIT`.
    Interrupted,
    /// It was asked to end: `SIGTERM`. (Windows has nothing of the kind: [`Killed`](Self::Killed).)
    Terminated,
    /// It was killed: `SIGKILL`, by the pool, by the system for want of memory, by anybody. On Windows: by the pool, or
    /// with the limit of its processor time.
    Killed,
    /// Something else, or nobody can tell.
    Other,
}

impl Cause {
    /// What it is called in errors; `None` where the exit itself says it.
    fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Exited | Self::Other => return None,
            Self::AccessViolation => "access violation",
            Self::StackOverflow => "stack overflow",
            Self::IllegalInstruction => "illegal instruction",
            Self::Arithmetic => "arithmetic error",
            Self::Abort => "abort",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
            Self::Killed => "killed",
        })
    }
}

impl Exit {
    /// How a worker ends that its pool has killed: by `SIGKILL`; on Windows, which has no signals, with an exit code that
    /// nobody else uses.
    pub const KILLED: Self =
        if cfg!(windows) { Self::Code(0xE04B_494C_u32.cast_signed()) } else { Self::Signal(9) };

    /// What that means.
    pub fn cause(&self) -> Cause {
        match *self {
            Self::Code(code) if cfg!(windows) => cause_of_status(code.cast_unsigned()),
            Self::Code(_) => Cause::Exited,
            Self::Signal(signal) => cause_of_signal(signal),
            Self::Unknown(_) => Cause::Other,
        }
    }
}

/// These are the same numbers on every Unix, but for the one of `SIGBUS`.
fn cause_of_signal(signal: i32) -> Cause {
    const SIGBUS: i32 = if cfg!(any(target_os = "linux", target_os = "android")) { 7 } else { 10 };
    match signal {
        2 => Cause::Interrupted,
        4 => Cause::IllegalInstruction,
        6 => Cause::Abort,
        8 => Cause::Arithmetic,
        9 => Cause::Killed,
        11 | SIGBUS => Cause::AccessViolation,
        15 => Cause::Terminated,
        _ => Cause::Other,
    }
}

/// The exit code of a Windows process.
fn cause_of_status(status: u32) -> Cause {
    /// `ERROR_NOT_ENOUGH_QUOTA`: what a job ends a process with that has used up its time.
    const TIME_IS_UP: u32 = 1816;
    match status {
        0xC000_0005 | 0xC000_0006 => Cause::AccessViolation,
        0xC000_00FD => Cause::StackOverflow,
        0xC000_001D | 0xC000_0096 => Cause::IllegalInstruction,
        0xC000_008E..=0xC000_0095 => Cause::Arithmetic,
        // Fail-fast, which is what `abort` of Rust's standard library is; a corrupted heap; `abort` of older C libraries.
        0xC000_0409 | 0xC000_0374 | 0x4000_0015 => Cause::Abort,
        0xC000_013A => Cause::Interrupted,
        TIME_IS_UP => Cause::Killed,
        _ if Exit::KILLED == Exit::Code(status.cast_signed()) => Cause::Killed,
        // An error of the system's or of an application's.
        0xC000_0000.. => Cause::Other,
        _ => Cause::Exited,
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What is an NTSTATUS is known by its hexadecimal digits.
            Self::Code(code) if cfg!(windows) && *code < 0 => write!(f, "exit code {code:#010X}"),
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Unknown(why) => write!(f, "unknown exit ({why})"),
        }?;
        self.cause().name().map_or(Ok(()), |name| write!(f, ", {name}"))
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
    /// This system does not have what the transport's links are made of.
    #[error("the transport `{name}` does not work on this system: {why}")]
    Transport {
        /// The transport.
        name: String,
        /// What is lacking.
        why: io::Error,
    },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_told_with_what_they_mean() {
        assert_eq!(Exit::Code(3).to_string(), "exit code 3");
        assert_eq!((Exit::Code(0).cause(), Exit::KILLED.cause()), (Cause::Exited, Cause::Killed));
        if cfg!(unix) {
            assert_eq!(Exit::KILLED.to_string(), "signal 9, killed");
            assert_eq!(Exit::Code(-1).cause(), Cause::Exited);
        } else {
            assert_eq!(Exit::KILLED.to_string(), "exit code 0xE04B494C, killed");
            assert_eq!(
                Exit::Code(0xC000_0005_u32.cast_signed()).to_string(),
                "exit code 0xC0000005, access violation"
            );
        }
        assert_eq!(Exit::Unknown("a reason".to_owned()).to_string(), "unknown exit (a reason)");
    }

    #[test]
    fn signals_and_statuses_have_their_causes() {
        let causes = |numbers: &[i32]| numbers.iter().map(|&number| cause_of_signal(number)).collect::<Vec<_>>();
        assert_eq!(causes(&[2, 15, 9]), [Cause::Interrupted, Cause::Terminated, Cause::Killed]);
        assert_eq!(
            causes(&[4, 8, 6, 11]),
            [Cause::IllegalInstruction, Cause::Arithmetic, Cause::Abort, Cause::AccessViolation]
        );
        assert_eq!(causes(&[12, 0]), [Cause::Other; 2]);
        let causes = |codes: &[u32]| codes.iter().map(|&code| cause_of_status(code)).collect::<Vec<_>>();
        assert_eq!(causes(&[0, 1, 101, 255]), [Cause::Exited; 4]);
        assert_eq!(causes(&[0xC000_0005, 0xC000_0006]), [Cause::AccessViolation; 2]);
        assert_eq!(causes(&[0xC000_00FD, 0xC000_001D]), [Cause::StackOverflow, Cause::IllegalInstruction]);
        assert_eq!(causes(&[0xC000_0094, 0xC000_0095, 0xC000_008E]), [Cause::Arithmetic; 3]);
        assert_eq!(causes(&[0xC000_0409, 0xC000_0374, 0x4000_0015]), [Cause::Abort; 3]);
        assert_eq!(causes(&[0xC000_013A, 1816]), [Cause::Interrupted, Cause::Killed]);
        assert_eq!(causes(&[0xC000_0017, 0xE06D_7363]), [Cause::Other; 2]);
    }
}
