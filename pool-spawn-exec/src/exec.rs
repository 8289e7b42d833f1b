//! The parent's half: starts worker processes.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, OnceLock};

use pool_core::Surroundings;
use pool_core::error::Exit;
use pool_core::spawner::{Entry, ExitReport, OnExit, Settled, Signal, SpawnError, Spawner, SpawnerCaps, Worker};
use pool_core::transport::Ticket;
use pool_core::worker::WorkerEntry;
use pool_os::{Child, Ended, LaunchError, Launcher, Parcel};

use crate::program::{Program, not_runnable};
use crate::{ExecEntry, MARK, MARKER, NAME};

/// Starts each worker as a new process of this program, or of another one.
///
/// A worker begins at the top of `main` like any process: it inherits no memory, no descriptors but standard
/// output and error, and the environment and current folder as they are when it starts.
///
/// What a worker has started ends with it, unless it has left the worker's process group (a daemon, which has a session
/// of its own). On Unix a parent that ends without ending its pool takes the workers with it, but not what those have
/// started.
///
/// Clones start workers of the same program and share the thread that watches them.
#[derive(Clone, Debug)]
pub struct Exec {
    program: Arc<Program>,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    /// What the pool asks for, once there is one.
    surroundings: OnceLock<Surroundings>,
    launcher: Launcher,
}

impl Default for Exec {
    fn default() -> Self {
        Self::new()
    }
}

impl Exec {
    /// Workers are this program, started again without arguments. It must call `process_pool::init()` first
    /// thing in `main`.
    pub fn new() -> Self {
        Self::of(Program::Own)
    }

    /// Workers are another program, which must call `process_pool::init()` itself. A bare name is searched for
    /// in `PATH`, once.
    ///
    /// Functions are not found by their place in another program: it takes named tasks only.
    pub fn program(path: impl Into<PathBuf>) -> Self {
        Self::of(Program::Other { name: path.into(), found: OnceLock::new() })
    }

    fn of(program: Program) -> Self {
        Self {
            program: Arc::new(program),
            args: Vec::new(),
            envs: Vec::new(),
            surroundings: OnceLock::new(),
            launcher: Launcher::new(),
        }
    }

    /// Adds an argument for the worker program.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments for the worker program.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable in the workers' environment, which is otherwise this process's, or what the pool's
    /// [`WorkerSettings`](pool_core::WorkerSettings) make of that.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Says what is already known to stand in the way of starting workers; starts nothing.
    ///
    /// # Errors
    /// If the program cannot be run, or this one has not called `init()`.
    pub fn check(&self) -> Result<(), SpawnError> {
        // A worker that would start workers before it has become one would do so at each start: for ever.
        if ExecEntry.is_worker() {
            return Err(SpawnError::InsideWorker);
        }
        self.program.check()
    }

    fn command(&self) -> Result<Command, SpawnError> {
        let mut command = Command::new(self.program.path()?);
        #[cfg(unix)]
        if let Some(called) = self.program.called() {
            std::os::unix::process::CommandExt::arg0(&mut command, called);
        }
        let surroundings = self.surroundings();
        for (key, value) in surroundings.variables() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        surroundings.folder().map(|folder| command.current_dir(folder));
        command.args(&self.args).envs(self.envs.iter().map(|(key, value)| (key, value)));
        // Last, so that nobody sets it to something else by accident.
        command.env(MARKER, MARK);
        Ok(command)
    }

    fn surroundings(&self) -> &Surroundings {
        self.surroundings.get_or_init(Surroundings::default)
    }

    fn explain(&self, error: LaunchError) -> SpawnError {
        match error {
            // The system does not tell which of the two is not there.
            LaunchError::Spawn(source) if self.surroundings().folder().is_some_and(|folder| !folder.is_dir()) => {
                SpawnError::Other {
                    what: "start a worker process in the current folder that is asked for",
                    source,
                }
            }
            LaunchError::Spawn(source) => match self.program.path() {
                Ok(path) => not_runnable(path, source),
                Err(error) => error,
            },
            LaunchError::Io { what, source } => SpawnError::from_io(what, source),
            error => other(io::Error::new(io::ErrorKind::InvalidInput, error)),
        }
    }
}

impl Spawner for Exec {
    fn name(&self) -> &str {
        NAME
    }

    fn caps(&self) -> SpawnerCaps {
        let mut caps = SpawnerCaps::full();
        caps.same_image = matches!(*self.program, Program::Own);
        caps.settled = Settled::AtStart;
        caps
    }

    fn prepare(&self, entry: WorkerEntry) -> Result<(), SpawnError> {
        if self.surroundings.get_or_init(|| entry.surroundings().clone()) != entry.surroundings() {
            let why = "this `Exec` is that of a pool with other settings";
            return Err(other(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        self.check()
    }

    fn spawn(&self, ticket: Ticket, on_exit: OnExit) -> Result<Box<dyn Worker>, SpawnError> {
        self.program.check()?;
        let invalid = |what| other(io::Error::new(io::ErrorKind::InvalidInput, what));
        let (bytes, handles) = ticket.pack().map_err(invalid)?;
        let parcel = Parcel { bytes, handles };
        let on_ended = Box::new(|ended| on_exit(exit_report(ended)));
        match self.launcher.launch(self.command()?, parcel, on_ended) {
            Ok(child) => Ok(Box::new(ExecWorker(child))),
            Err(error) => Err(self.explain(error)),
        }
    }
}

/// A started worker.
struct ExecWorker(Child);

impl Worker for ExecWorker {
    fn pid(&self) -> Option<u32> {
        Some(self.0.pid())
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        self.0.signal(match signal {
            Signal::Terminate => pool_os::Signal::Terminate,
            Signal::Kill => pool_os::Signal::Kill,
        })
    }
}

fn exit_report(ended: Ended) -> ExitReport {
    let exit = match ended.status {
        Ok(status) => exit(status),
        Err(error) => Exit::Unknown(error.to_string()),
    };
    ExitReport { exit, last_words: ended.last_words }
}

fn exit(status: ExitStatus) -> Exit {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return Exit::Signal(signal);
    }
    match status.code() {
        #[cfg(windows)]
        Some(pool_os::KILLED) => Exit::KILLED,
        Some(code) => Exit::Code(code),
        None => Exit::Unknown(status.to_string()),
    }
}

fn other(source: io::Error) -> SpawnError {
    SpawnError::Other { what: "start a worker process", source }
}
