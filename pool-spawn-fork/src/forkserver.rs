//! The start method "forkserver": workers are forked by this program, started again.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use pool_core::spawner::{OnExit, Settled, SpawnError, Spawner, SpawnerCaps, Worker};
use pool_core::transport::Ticket;
use pool_core::worker::WorkerEntry;
use pool_os::{Ended, LaunchError, Launcher, Parcel, Signal};

use crate::entry::ForkServerEntry;
use crate::parent::{self, Process, Server};
use crate::{FORK_SERVER, MARK, MARKER, protocol};

/// Workers are forked by a *fork server*: this program, started again, which waits in `process_pool::init()` and
/// forks on request.
///
/// What stands before `init()` in `main` runs once, in the server, and is there in each worker: what is loaded
/// there is loaded for all. It must not start threads. Workers have the environment and the current folder as
/// they were when the server started, unless the pool's settings say otherwise; handlers for signals from outside have their defaults again; and what is
/// random in the server is the same in all of them, which
/// [`after_fork`](crate::after_fork) is for.
///
/// What a worker has started ends with it. On Linux nothing escapes, not even a daemon with a session of its own, and
/// all of it ends with the parent, too, however that ends: what a worker's processes leave behind becomes that
/// worker's child, and what a dead worker leaves the server's, which kills it. (So a process that is nobody's any more
/// stays in the table of processes, once it has ended, until its worker ends.) Only if the server itself is killed,
/// daemons go on. On other systems what leaves the worker's process group does.
///
/// The server starts with the first worker. It belongs to this value: clones share it, and when the last is
/// dropped it ends as soon as its workers have. If it dies, they die with it, and the next worker gets a new one.
#[derive(Clone, Debug, Default)]
pub struct ForkServer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    launcher: Launcher,
    server: Mutex<Option<Arc<Server>>>,
}

impl ForkServer {
    /// A fork server of this program, which must call `process_pool::init()` first thing in `main`. Costs
    /// nothing until the first worker.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what is already known to stand in the way of starting workers; starts nothing.
    ///
    /// # Errors
    /// If this program has not called `init()`, or one that knows no fork server, or cannot be started again.
    pub fn check(&self) -> Result<(), SpawnError> {
        if !pool_image::in_main_image() {
            return Err(SpawnError::ForeignImage);
        }
        if ForkServerEntry::looks_like_one() {
            return Err(SpawnError::InsideWorker);
        }
        if !pool_core::worker::init_called() {
            return Err(SpawnError::InitNotCalled);
        }
        if !ForkServerEntry::is_known() {
            return Err(parent::other(io::Error::other(
                "this program's `init()` does not know the start method `forkserver`",
            )));
        }
        own_path().map(drop)
    }

    fn server(&self) -> Result<Arc<Server>, SpawnError> {
        self.check()?;
        self.shared.server()
    }
}

impl Shared {
    /// The server, a new one if there is none that lives.
    fn server(&self) -> Result<Arc<Server>, SpawnError> {
        let mut place = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        match &*place {
            Some(server) if server.is_alive() => Ok(Arc::clone(server)),
            _ => Ok(Arc::clone(place.insert(self.start()?))),
        }
    }

    fn start(&self) -> Result<Arc<Server>, SpawnError> {
        let path = own_path()?;
        let mut command = Command::new(path);
        if let Some(name) = pool_os::own_name() {
            command.arg0(name);
        }
        command.env(MARKER, MARK);
        let shortage = |what: &'static str| move |error| SpawnError::from_io(what, error);
        let (control, theirs) = parent::control().map_err(shortage("make a socket pair"))?;
        let parcel = Parcel { bytes: protocol::VERSION.to_vec(), handles: vec![theirs] };
        let (tell, told) = mpsc::channel();
        // Nobody listens if the thread that would could not be started.
        let on_ended = Box::new(move |ended| drop(tell.send(ended)));
        let child = self.launcher.launch(command, parcel, on_ended).map_err(|error| explain(path, error))?;
        let process = Process {
            kill: Box::new(move || {
                // It may have ended already. It has our rights, so nothing else can stand in the way.
                let _ = child.signal(Signal::Kill);
            }),
            bury: Box::new(move |kill| {
                // It may be about to say why it ends.
                let ended = told.recv_timeout(BURIAL).or_else(|_| {
                    kill();
                    told.recv_timeout(BURIAL)
                });
                ended.ok().and_then(epitaph)
            }),
        };
        Server::new("fork server", control, process)
            .map_err(shortage("start a thread to listen to the fork server"))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let place = self.server.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = place {
            server.finish();
        }
    }
}

impl Spawner for ForkServer {
    fn name(&self) -> &str {
        FORK_SERVER
    }

    fn caps(&self) -> SpawnerCaps {
        let mut caps = SpawnerCaps::full();
        caps.settled = Settled::OnArrival;
        caps
    }

    fn prepare(&self, _: WorkerEntry) -> Result<(), SpawnError> {
        self.check()
    }

    fn spawn(&self, ticket: Ticket, on_exit: OnExit) -> Result<Box<dyn Worker>, SpawnError> {
        self.server()?.spawn(ticket, on_exit)
    }

    fn spawn_many(&self, starts: Vec<(Ticket, OnExit)>) -> Vec<Result<Box<dyn Worker>, SpawnError>> {
        parent::spawn_many(|| self.server(), starts)
    }
}

/// Why it has ended, as far as that is worth telling.
fn epitaph(ended: Ended) -> Option<String> {
    ended.last_words.or_else(|| ended.status.ok().map(|status| status.to_string()))
}

fn own_path() -> Result<&'static Path, SpawnError> {
    pool_os::own_path().map_err(|source| not_runnable(Path::new("this program"), source))
}

fn explain(path: &Path, error: LaunchError) -> SpawnError {
    match error {
        LaunchError::Spawn(source) => not_runnable(path, source),
        LaunchError::Io { what, source } => SpawnError::from_io(what, source),
        error => parent::other(io::Error::new(io::ErrorKind::InvalidInput, error)),
    }
}

/// The error for a program that cannot be run, unless `source` says that something has run out.
fn not_runnable(path: &Path, source: io::Error) -> SpawnError {
    match SpawnError::from_io("start the fork server", source) {
        SpawnError::Other { source, .. } => SpawnError::Program { path: path.to_owned(), source },
        shortage => shortage,
    }
}

/// How long to wait for a server whose control socket is closed, so that it is as good as gone.
const BURIAL: Duration = Duration::from_secs(4);
