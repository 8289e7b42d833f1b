//! The seam between the pool and whatever starts its workers.
//!
//! A [`Spawner`] carries a [`Ticket`] to a new worker and says, once, when that worker has ended. In the
//! worker an [`Entry`] of the same start method receives it, and
//! [`WorkerMain`](crate::worker::WorkerMain) does the rest.
//!
//! A spawner knows nothing of calls, of links or of the pool's rules. Workers are known to the pool by
//! [`WorkerId`](crate::WorkerId), never by pid, and need not be children of this process.
//!
//! # Laws
//! Every spawner keeps these; `xtests::spawner` has a case or several for each, and judges any spawner that starts
//! workers on demand.
//!
//! - **S1** The exit is reported exactly once for each `spawn` that returned `Ok`, however early the worker
//!   ends, and never before it has ended.
//! - **S2** The worker gets the ticket's bytes and handles unchanged, in order, and nobody else gets the
//!   handles: not another worker, and not a process that somebody starts at the same time. It holds nothing else
//!   of its parent's but standard output and error.
//! - **S3** [`Worker::signal`] ends the worker, and no other process. To a worker that has ended it succeeds and
//!   hits nobody else.
//! - **S4** When the parent is gone, by `SIGKILL` too, the worker ends at once: idle, busy or stopped.
//! - **S5** The worker's standard input is empty, its standard output and error are the parent's.
//! - **S6** A failed `spawn` leaves no process, handle or thread behind, and a later one may succeed.
//! - **S7** Dropping the [`Worker`] does not end the process. Dropping the spawner and all workers' values
//!   frees their handles and threads, after the exits are reported. Nor does a worker that has ended leave
//!   anything behind.
//! - **S8** The time to start does not depend on the size of the parent. (The start method Fork copies the parent
//!   once, when the pool is built; that is not part of a start.)
//! - **S9** The report tells how the worker ended: its exit code, or the signal, and its last words.
//! - **S10** The callback may use the spawner and its workers, and if it panics no other worker's report suffers.
//!   Several threads may start workers at once.
//! - **S11** A ticket that is more than the spawner can carry is refused, never carried in part.
//! - **S12** What a worker has started ends with it, however it ends, unless it has left the worker's process group; on
//!   Windows, the worker's job. What others have started does not.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::error::Exit;
use crate::transport::Ticket;
use crate::worker::WorkerEntry;

/// What a spawner can do. Data, not wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpawnerCaps {
    /// Workers are (meant to be) the same program, so that functions are found by their place in it. The
    /// handshake checks.
    pub same_image: bool,
    /// Workers can be started at any time, not only when the pool is built.
    pub on_demand: bool,
    /// A signal reaches exactly the worker, never a process that has inherited its number.
    pub exact_signals: bool,
    /// Workers are children of this machine's kernel: their end is certain, and known without a lease.
    pub child: bool,
    /// Who sees to what a pool's [`WorkerSettings`](crate::WorkerSettings) ask for.
    pub settled: Settled,
}

/// Who makes workers what a pool's [`WorkerSettings`](crate::WorkerSettings) ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settled {
    /// Environment and folder the spawner, before the worker's program begins: [`Spawner::prepare`] tells it of them. The
    /// rest the worker itself, when it arrives.
    AtStart,
    /// The worker itself, all of it, when it arrives. It must have no other thread then.
    OnArrival,
    /// Nobody: workers are as they come, and settings are refused.
    Never,
}

impl SpawnerCaps {
    /// All of it, as for a child started from this very program; but no settings.
    pub const fn full() -> Self {
        Self { same_image: true, on_demand: true, exact_signals: true, child: true, settled: Settled::Never }
    }
}

/// Why a worker could not be started. The call that needed it goes on waiting while others may do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The worker program could not be run: it is missing, not executable, or not a program.
    #[error("cannot run the worker program `{}`: {source}", path.display())]
    Program {
        /// The program.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Descriptors, processes or memory have run out. Trying again later may help.
    #[error("{what}: {source}")]
    Resources {
        /// What was being done.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// Workers of this start method come by themselves, and none is there. One may come later.
    #[error("no worker has come to join the pool")]
    Vacant,
    /// This program has not called `init()`, so a child could not become a worker.
    #[error(
        "this program has not called `process_pool::init()`: call it first in `main`, before the pool is \
         built (tests: `process_pool::auto_init!()` at the top of the file)"
    )]
    InitNotCalled,
    /// This process is itself a worker that has not yet been through `init()`.
    #[error(
        "this process was started as a worker but builds a pool before calling `process_pool::init()`: call it \
         first in `main`"
    )]
    InsideWorker,
    /// This library is not part of the main program but of a plugin, so the program cannot be started
    /// again as a worker.
    #[error(
        "this library is loaded into a host program that is not ours, which cannot be started as a worker: \
         name a worker program with `Exec::program(path)`"
    )]
    ForeignImage,
    /// This system does not have the start method.
    #[error("there is no start method `{name}` on this system: {why}")]
    Unsupported {
        /// The start method.
        name: &'static str,
        /// What it lacks, and what to use instead.
        why: &'static str,
    },
    /// Something else.
    #[error("{what}: {source}")]
    Other {
        /// What was being done.
        what: &'static str,
        /// What went wrong.
        source: io::Error,
    },
}

impl SpawnError {
    /// Sorts an operating-system error met while doing `what`: shortages become
    /// [`Resources`](Self::Resources).
    pub fn from_io(what: &'static str, source: io::Error) -> Self {
        if is_shortage(&source) { Self::Resources { what, source } } else { Self::Other { what, source } }
    }

    /// Whether the same attempt may succeed a little later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Resources { .. } | Self::Vacant)
    }
}

/// Whether `error` says that descriptors, processes or memory have run out.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    // EAGAIN (fork, RLIMIT_NPROC), ENOMEM, and EMFILE and ENFILE, which std has no kind for. The numbers
    // of the last two are the same on every Unix; on Windows 24 and 23 do not come from these calls, and
    // ERROR_TOO_MANY_OPEN_FILES is 4.
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory)
        // ETOOMANYREFS: too many descriptors are on their way between processes.
        || matches!(error.raw_os_error(), Some(109) if cfg!(target_os = "linux"))
        || matches!(error.raw_os_error(), Some(23 | 24) if cfg!(unix))
        || matches!(error.raw_os_error(), Some(4 | 8 | 14 | 1450 | 1455) if cfg!(windows))
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitReport {
    /// Its exit status.
    pub exit: Exit,
    /// What it wrote down for the parent before it ended on its own account: why it could not join.
    pub last_words: Option<String>,
}

/// Takes a worker's [`ExitReport`], from whatever thread.
pub type OnExit = Box<dyn FnOnce(ExitReport) + Send>;

/// What to do to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ask it to end: `SIGTERM`. Where there is nothing of the kind (Windows) the same as `Kill`.
    Terminate,
    /// End it: `SIGKILL`, `TerminateProcess`.
    Kill,
}

/// A started worker, as its spawner sees it.
pub trait Worker: Send + Sync {
    /// Its process id, for people to read; never used to address it.
    fn pid(&self) -> Option<u32>;

    /// Signals it (S3). Never blocks for long.
    ///
    /// # Errors
    /// If the operating system refuses.
    fn signal(&self, signal: Signal) -> io::Result<()>;
}

/// Starts workers. Called from the supervisor thread, one call at a time, but for `prepare`.
pub trait Spawner: fmt::Debug + Send + Sync {
    /// The name of the start method, such as `"exec"`.
    fn name(&self) -> &str;

    /// What this spawner can do. Constant.
    fn caps(&self) -> SpawnerCaps;

    /// Whether this system has what this start method takes. Asked when a pool is built, and by
    /// [`Context::supported`](crate::Context::supported). Changes nothing.
    ///
    /// # Errors
    /// [`SpawnError::Unsupported`], if it has not.
    fn supported(&self) -> Result<(), SpawnError> {
        Ok(())
    }

    /// Gets ready, and says what is already known to stand in the way of starting workers. Called once for
    /// each pool, on the thread that builds it, before the pool has a thread of its own.
    ///
    /// `entry` is for start methods whose workers do not begin with `main`; others drop it, but for its
    /// [surroundings](WorkerEntry::surroundings), if they see to these.
    ///
    /// # Errors
    /// If no worker could ever start. The pool is not built then.
    fn prepare(&self, entry: WorkerEntry) -> Result<(), SpawnError>;

    /// Starts a worker and sends it on its way with `ticket`. May be slow; does not wait for the worker
    /// to answer.
    ///
    /// # Errors
    /// If the worker was not started; `on_exit` is then dropped unused. A panic is taken for one.
    fn spawn(&self, ticket: Ticket, on_exit: OnExit) -> Result<Box<dyn Worker>, SpawnError>;

    /// Starts several workers, when several are wanted at once: one result for each, in the same order. For start
    /// methods that gain by it; as it is here, it [spawns](Self::spawn) one after the other.
    fn spawn_many(&self, starts: Vec<(Ticket, OnExit)>) -> Vec<Result<Box<dyn Worker>, SpawnError>> {
        starts.into_iter().map(|(ticket, on_exit)| self.spawn(ticket, on_exit)).collect()
    }
}

/// What an [`Entry`] found in a process that has just begun.
pub enum Arrival {
    /// This process was not started as a worker of this start method.
    NotAWorker,
    /// It was, and this is what its parent sent along.
    Worker {
        /// The way to the link.
        ticket: Ticket,
        /// Takes the reason, if the worker cannot join, for the parent to read in
        /// [`ExitReport::last_words`].
        last_words: Box<dyn FnOnce(&str) + Send>,
    },
    /// It was, but what the parent sent cannot be used. The process should end.
    Unusable(String),
}

impl Arrival {
    /// A worker with this ticket; if that is none, one that leaves the reason as its last words.
    pub fn with(ticket: Result<Ticket, &'static str>, last_words: impl FnOnce(&str) + Send + 'static) -> Self {
        match ticket {
            Ok(ticket) => Self::Worker { ticket, last_words: Box::new(last_words) },
            Err(why) => {
                last_words(why);
                Self::Unusable(why.to_owned())
            }
        }
    }
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAWorker => f.write_str("NotAWorker"),
            Self::Worker { ticket, .. } => {
                f.debug_struct("Worker").field("ticket", ticket).finish_non_exhaustive()
            }
            Self::Unusable(why) => f.debug_tuple("Unusable").field(why).finish(),
        }
    }
}

/// The worker's half of a [`Spawner`]: finds out whether this process is one of its workers.
pub trait Entry: fmt::Debug + Send + Sync {
    /// The name of the start method.
    fn name(&self) -> &str;

    /// Whether this process was started as a worker, told by its surroundings only, changing nothing.
    /// Called before [`arrive`](Self::arrive), and by every builder, which refuses in a worker that has
    /// not been through `init()`. False once `arrive` has run.
    fn is_worker(&self) -> bool;

    /// Receives what the parent sent, sets up the lifeline (S4) and empties standard input (S5). Called
    /// once, first thing in a process.
    fn arrive(&self) -> Arrival;

    /// Called in a process that turned out to be no worker, and so may become a parent: for what is best done
    /// first thing, while it has but one thread. May be called more than once.
    fn stay(&self) {}
}
