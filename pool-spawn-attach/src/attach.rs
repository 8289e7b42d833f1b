//! The parent's half: a start method that starts nothing.

use std::fmt;
use std::io;
#[cfg(unix)]
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pool_core::error::Exit;
use pool_core::spawner::{Entry, ExitReport, OnExit, Signal, SpawnError, Spawner, SpawnerCaps, Worker};
use pool_core::transport::Ticket;
use pool_core::worker::WorkerEntry;
use pool_os::{Ended, Guest, LaunchError, Parcel};

use crate::invitation::Invitations;
use crate::lobby::{Joined, Lobby};
use crate::name::Place;
use crate::porter::Door;
use crate::{AttachEntry, NAME};

/// Workers are started by hand, and join with an [`Invitation`](crate::Invitation).
///
/// A worker program is one that calls `process_pool::init()` first thing in `main`, as ever; with
/// `PROCESS_POOL_JOIN=`*invitation* in its environment that call joins the pool. It must be the same program as the
/// pool's, the very file, unless [`any_program`](Self::any_program) is welcome.
///
/// Calls wait for a worker to join, as long as the pool's start deadline says if there is none at all; then the pool
/// is broken, with [`SpawnError::Vacant`] as its reason. So give it one that suits those who type:
/// `start_deadline(Duration::from_secs(3600))`. A worker that joins before it is needed waits. One that joins when it
/// is needed gets its first call after up to [`RestartLimit::backoff_max`](pool_core::RestartLimit), 1 s by default.
///
/// Who may join: a process of the same user (where the system tells, which is everywhere but on Windows; there, a
/// process that this user may end), that shows a token which was given out and not yet used.
///
/// It is what whoever starts it makes it: a pool's [`WorkerSettings`](pool_core::WorkerSettings) are refused, and what it
/// has started is left alone when it ends.
///
/// An attached worker is not a child. How it exited is not known (`Exit::Unknown`); that it did is told by its lifeline
/// and, on Linux, by the kernel. It ends with the parent and with the pool, and is killed like any other where the
/// system permits, elsewhere by its own lifeline; one that is stopped (`SIGSTOP`, a breakpoint) ends when it goes on.
pub struct Attach {
    lobby: Arc<Lobby>,
    door: Door,
}

impl Attach {
    /// Opens a door under a new name: on Linux in the abstract name space, on Windows that of named pipes, elsewhere
    /// in a directory of its own in the directory for temporary files, which goes away with the pool.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn new() -> io::Result<Self> {
        Self::at(Place::new()?)
    }

    /// Opens it in a directory of its own within this one, which goes away with the pool: for workers that share
    /// files with the pool, but not its abstract name space, such as those in a container.
    ///
    /// # Errors
    /// What the operating system says, typically that the path is too long for a socket's name.
    #[cfg(unix)]
    pub fn in_directory(directory: impl AsRef<Path>) -> io::Result<Self> {
        Self::at(Place::within(directory.as_ref())?)
    }

    fn at(place: Place) -> io::Result<Self> {
        // Remembered from here on. Asked for when somebody comes, at a moment without a free descriptor, it would make
        // our own worker a stranger. If there is none now, it is asked for then.
        let _ = pool_image::identity();
        let lobby = Arc::new(Lobby::default());
        let door = Door::open(place, Arc::clone(&lobby))?;
        Ok(Self { lobby, door })
    }

    /// Takes workers that run another program, too. Functions are not found by their place in it: it takes named
    /// tasks only.
    #[must_use]
    pub fn any_program(self) -> Self {
        self.lobby.welcome_any_program();
        self
    }

    /// How long a process that has connected may take to introduce itself. Default: 5 s.
    #[must_use]
    pub fn greeting_deadline(self, deadline: Duration) -> Self {
        self.lobby.set_greeting_deadline(deadline);
        self
    }

    /// Gives out invitations, also after this value has gone into a pool.
    pub fn invitations(&self) -> Invitations {
        Invitations { name: self.door.place.name.clone(), lobby: Arc::downgrade(&self.lobby) }
    }
}

impl fmt::Debug for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attach").field("name", &self.door.place.name.to_string()).finish_non_exhaustive()
    }
}

impl Spawner for Attach {
    fn name(&self) -> &str {
        NAME
    }

    fn caps(&self) -> SpawnerCaps {
        let mut caps = SpawnerCaps::full();
        caps.same_image = !self.lobby.is_any_program_welcome();
        (caps.on_demand, caps.child) = (false, false);
        caps
    }

    fn prepare(&self, _: WorkerEntry) -> Result<(), SpawnError> {
        if AttachEntry.is_worker() { Err(SpawnError::InsideWorker) } else { Ok(()) }
    }

    fn spawn(&self, ticket: Ticket, on_exit: OnExit) -> Result<Box<dyn Worker>, SpawnError> {
        let Joined { connection, peer } = self.lobby.take().ok_or(SpawnError::Vacant)?;
        let invalid = |what| other(io::Error::new(io::ErrorKind::InvalidInput, what));
        let (bytes, handles) = ticket.pack().map_err(invalid)?;
        let parcel = Parcel { bytes, handles };
        let on_ended = Box::new(|ended| on_exit(exit_report(ended)));
        match connection.admit(peer, parcel, on_ended) {
            Ok(guest) => Ok(Box::new(Attached(guest))),
            Err(LaunchError::Io { what, source }) => Err(match SpawnError::from_io(what, source) {
                // It has gone since it was last looked at. Another one may come.
                SpawnError::Other { source, .. } if is_end(&source) => SpawnError::Vacant,
                error => error,
            }),
            Err(error) => Err(other(io::Error::new(io::ErrorKind::InvalidInput, error))),
        }
    }
}

/// A worker that has joined.
struct Attached(Guest);

impl Worker for Attached {
    fn pid(&self) -> Option<u32> {
        self.0.pid()
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        self.0.signal(match signal {
            Signal::Terminate => pool_os::Signal::Terminate,
            Signal::Kill => pool_os::Signal::Kill,
        })
    }
}

fn exit_report(ended: Ended) -> ExitReport {
    let exit = Exit::Unknown(ended.status.map_or_else(|error| error.to_string(), |status| status.to_string()));
    ExitReport { exit, last_words: ended.last_words }
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}

fn other(source: io::Error) -> SpawnError {
    SpawnError::Other { what: "hand a worker its ticket", source }
}
