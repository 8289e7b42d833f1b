//! Windows: named pipes, which cannot be waited for together, so everybody is looked at now and then.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use interprocess::local_socket::traits::{Listener as _, Stream as _, StreamCommon};
use interprocess::local_socket::{self, Stream};
use pool_os::{Arrival, Guest, LaunchError, OnEnded, Parcel, Peer};

/// A connection as the pool has it. Does not block until its worker is admitted.
pub(crate) struct Connection(Stream);

impl Connection {
    pub(crate) fn new(stream: Stream) -> Self {
        Self(stream)
    }

    /// The process at the other end, if this user has power over it.
    pub(crate) fn peer(&self) -> Result<Peer, String> {
        process(&self.0)
    }

    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(into)
    }

    /// Says what has room; whoever does not listen does not hear it.
    pub(crate) fn say(&self, bytes: &[u8]) {
        let _ = (&self.0).write(bytes);
    }

    /// Whether the other end is there and has nothing to say.
    pub(crate) fn is_quiet(&self) -> bool {
        self.read(&mut [0]).is_err_and(|error| is_nothing_yet(&error))
    }

    pub(crate) fn admit(
        self: Arc<Self>,
        peer: Peer,
        parcel: Parcel,
        on_ended: OnEnded,
    ) -> Result<Guest, LaunchError> {
        let refused = |source| LaunchError::Io { what: "set up a connection", source };
        self.0.set_nonblocking(false).map_err(refused)?;
        pool_os::admit(Admission(self), peer, parcel, on_ended)
    }
}

/// What a worker is admitted over.
struct Admission(Arc<Connection>);

impl Write for Admission {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&self.0.0).flush()
    }
}

fn process(stream: &Stream) -> Result<Peer, String> {
    let unknown = |error: io::Error| format!("it cannot be told whose process it is: {error}");
    let credentials = stream.peer_creds().map_err(unknown)?;
    let pid = credentials.pid().ok_or("it cannot be told which process it is")?;
    Peer::of(pid).map_err(|error| format!("its process is out of reach of the other's user: {error}"))
}

/// In a worker that has connected: makes sure that it is a process of this user's that listens.
pub(crate) fn check_host(stream: &Stream) -> Result<(), String> {
    process(stream).map(drop)
}

/// In a worker that has introduced itself: waits for the answer.
pub(crate) fn arrive(stream: &Stream) -> io::Result<Option<Arrival>> {
    pool_os::arrive_as_guest(stream)
}

pub(crate) fn is_nothing_yet(error: &io::Error) -> bool {
    // To a pipe that does not wait, ERROR_NO_DATA means that there is none yet; `std` takes it for the end.
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(NO_DATA)
}

const NO_DATA: i32 = 232;

/// The listening pipe.
pub(crate) struct Listener(local_socket::Listener);

impl Listener {
    pub(crate) fn new(listener: local_socket::Listener) -> Self {
        Self(listener)
    }

    pub(crate) fn accept(&self) -> io::Result<Stream> {
        self.0.accept()
    }
}

/// Dropping it ends the waiting of its [`Bell`].
#[derive(Debug)]
pub(crate) struct Ring {
    _sender: Sender<()>,
}

/// Waits for a while, or for its [`Ring`] to be dropped.
pub(crate) struct Bell(Receiver<()>);

pub(crate) fn bell() -> io::Result<(Ring, Bell)> {
    let (sender, receiver) = channel();
    Ok((Ring { _sender: sender }, Bell(receiver)))
}

/// How often everybody is looked at. Nobody who starts a worker by hand notices.
const GLANCE: Duration = Duration::from_millis(20);

impl Bell {
    /// Waits until it is time to look again. False: it is time to end.
    pub(crate) fn wait(&self, _: Option<&Listener>, _: &[&Connection], until: Option<Instant>) -> bool {
        let left = until.map_or(GLANCE, |until| until.saturating_duration_since(Instant::now()));
        self.0.recv_timeout(left.min(GLANCE)) == Err(RecvTimeoutError::Timeout)
    }
}
