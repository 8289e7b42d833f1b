//! The start method "fork": workers are forked by a copy of this program as it is when the pool is built.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use pool_core::spawner::{Arrival, OnExit, Settled, SpawnError, Spawner, SpawnerCaps, Worker};
use pool_core::transport::Ticket;
use pool_core::worker::WorkerEntry;
use pool_os::parent_fds::{self, ParentFd};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, setpgid, waitpid};

use crate::alone::Alone;
use crate::parent::{self, Process, Server};
use crate::{FORK, hooks, server, sys, worker};

/// Workers are forked by a *keeper*: a copy of this program as it is when the pool is built, which does nothing
/// but fork each worker on request. The program need not call `process_pool::init()`.
///
/// Workers have all that is in memory when the pool is built, and the program's own descriptors. What the pools
/// of the program have open they do not have. They end without running destructors or exit handlers of the
/// program's. Handlers for signals from outside have their defaults again. What is random at that time is the same in
/// all of them, which [`after_fork`](crate::after_fork) is for. What the program has read ahead of its standard input is
/// there in workers too.
///
/// What a worker has started ends with it, as with [`ForkServer`](crate::ForkServer).
///
/// This takes a program without threads: build the pool first. To start a worker copies the page tables of what
/// was in memory when the pool was built: it takes longer the more there was.
///
/// One value is for one pool. If its keeper dies, its workers die with it, and no more can be started.
pub struct Fork {
    is_checked: bool,
    keeper: Mutex<Option<Arc<Server>>>,
}

impl Default for Fork {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fork").field("is_checked", &self.is_checked).finish_non_exhaustive()
    }
}

impl Fork {
    /// Forks when the pool is built, if the process has but one thread then; else building is an error, with a
    /// [`TooManyThreads`](crate::TooManyThreads). Where the system does not tell the number of threads (all but
    /// Linux) it always is one.
    pub fn new() -> Self {
        Self { is_checked: true, keeper: Mutex::default() }
    }

    /// Forks when the pool is built, whatever threads the process has.
    ///
    /// # Safety
    /// When the pool is built, whatever the calls of this pool will use must be usable in a copy of this process
    /// that has none of its other threads: no such thread may hold a lock, or be in the middle of changing
    /// something, that they need. That includes the allocator's locks (which glibc sees to itself), `std`'s
    /// (standard output's and error's are seen to here), and what libraries keep to themselves, such as name
    /// resolution or Apple's frameworks. And nothing in workers may rely on a thread to be there that is not.
    pub unsafe fn new_unchecked() -> Self {
        Self { is_checked: false, keeper: Mutex::default() }
    }

    /// What [`prepare`](Spawner::prepare) does, for workers that run `run` and end with the code it returns: for
    /// those who use this spawner without a pool.
    ///
    /// # Errors
    /// As `prepare`.
    pub fn prepare_with<F>(&self, run: F) -> Result<(), SpawnError>
    where
        F: FnOnce(Ticket, Box<dyn FnOnce(&str) + Send>) -> i32,
    {
        let mut place = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if place.is_some() {
            return Err(cannot_fork(parent::invalid("this `Fork` is another pool's already")));
        }
        let alone = self.alone().map_err(cannot_fork)?;
        let (ours, theirs) =
            parent::control().map_err(|error| SpawnError::from_io("make a socket pair", error))?;
        let (keeper, ours) = fork_keeper(&alone, ours, theirs, run)
            .map_err(|error| SpawnError::from_io("fork the keeper", error))?;
        let server = Server::new("fork keeper", ours, process(keeper))
            .map_err(|error| SpawnError::from_io("start a thread to listen to the keeper", error))?;
        *place = Some(server);
        Ok(())
    }

    fn alone(&self) -> io::Result<Alone> {
        if self.is_checked {
            return Alone::check();
        }
        // SAFETY: whoever called `new_unchecked` has promised it.
        Ok(unsafe { Alone::promised() })
    }
}

impl Drop for Fork {
    fn drop(&mut self) {
        if let Some(server) = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner) {
            server.finish();
        }
    }
}

impl Spawner for Fork {
    fn name(&self) -> &str {
        FORK
    }

    fn caps(&self) -> SpawnerCaps {
        let mut caps = SpawnerCaps::full();
        caps.settled = Settled::OnArrival;
        caps
    }

    fn prepare(&self, entry: WorkerEntry) -> Result<(), SpawnError> {
        self.prepare_with(|ticket, last_words| entry.run(ticket, last_words))
    }

    fn spawn(&self, ticket: Ticket, on_exit: OnExit) -> Result<Box<dyn Worker>, SpawnError> {
        self.keeper()?.spawn(ticket, on_exit)
    }

    fn spawn_many(&self, starts: Vec<(Ticket, OnExit)>) -> Vec<Result<Box<dyn Worker>, SpawnError>> {
        parent::spawn_many(|| self.keeper(), starts)
    }
}

impl Fork {
    fn keeper(&self) -> Result<Arc<Server>, SpawnError> {
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let keeper = keeper.ok_or_else(|| parent::other(parent::invalid("no pool was built with this `Fork`")))?;
        if !keeper.is_ours() {
            return Err(parent::other(parent::invalid(
                "this `Fork` is the parent's, of which this process is a copy",
            )));
        }
        Ok(keeper)
    }
}

fn cannot_fork(source: io::Error) -> SpawnError {
    SpawnError::Other { what: "fork this process", source }
}

/// Forks the keeper: returns in the parent.
fn fork_keeper<F>(alone: &Alone, ours: UnixStream, theirs: OwnedFd, run: F) -> io::Result<(Pid, UnixStream)>
where
    F: FnOnce(Ticket, Box<dyn FnOnce(&str) + Send>) -> i32,
{
    // What is held back would be written once by each process. If it cannot be written, that is for the program
    // to notice.
    flush();
    let parent = getpid();
    // Held by this thread, which is the one that the keeper has, so that it finds them free. Standard output's
    // lock may be held by this thread already.
    let standard = (io::stdout().lock(), io::stderr().lock());
    let (hooks, parents) = (hooks::lock(), parent_fds::lock());
    if let Some(keeper) = sys::fork(alone)? {
        return Ok((keeper, ours));
    }
    drop((standard, hooks));
    // Nothing may come back to the caller, whose frames this process has too.
    let lived = catch_unwind(AssertUnwindSafe(|| {
        // The parent's end too, which is not registered yet: while it is open here, its end is never seen.
        drop(ours);
        if parents.give_up().is_err() || setpgid(None, None).is_err() {
            return FAILED;
        }
        sys::reset_signals();
        let Ok(forked) = server::serve(alone, theirs, Some(parent)) else { return FAILED };
        let code = match worker::arrive(forked) {
            Arrival::Worker { ticket, last_words } => run(ticket, last_words),
            Arrival::Unusable(why) => {
                eprintln!("process-pool worker: {why}");
                FAILED
            }
            Arrival::NotAWorker => FAILED,
        };
        flush();
        code
    }));
    sys::leave(lived.unwrap_or(PANICKED));
}

/// Writes out what is held back for standard output and error.
fn flush() {
    let _ = io::stdout().flush();
    let _ = io::stderr().flush();
    sys::flush_c_stdio();
}

/// How to end the keeper, and how to wait for it.
fn process(keeper: Pid) -> Process {
    // While nobody has waited for it the number is its own. Somebody might who should not: the process itself is
    // better, where there is such a thing.
    #[cfg(target_os = "linux")]
    let process =
        rustix::process::pidfd_open(keeper, rustix::process::PidfdFlags::empty()).ok().map(ParentFd::new);
    #[cfg(not(target_os = "linux"))]
    let process: Option<ParentFd> = None;
    let kill = move || {
        let _ = match &process {
            #[cfg(target_os = "linux")]
            Some(process) => rustix::process::pidfd_send_signal(process, Signal::KILL),
            _ => kill_process(keeper, Signal::KILL),
        };
    };
    let bury = move |kill: &dyn Fn()| {
        // It has nothing to say, and there is no end to the wait below.
        kill();
        loop {
            match waitpid(Some(keeper), WaitOptions::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                _ => return None,
            }
        }
    };
    Process { kill: Box::new(kill), bury: Box::new(bury) }
}

/// The exit code of a worker that could not begin.
const FAILED: i32 = 1;

/// The exit code of a worker in which something panicked that nobody caught.
const PANICKED: i32 = 101;
