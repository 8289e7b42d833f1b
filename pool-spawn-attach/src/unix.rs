//! Unix: local sockets that are waited for with `poll`, and credentials of the process at the other end.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use interprocess::local_socket::traits::{Listener as _, StreamCommon};
use interprocess::local_socket::{self, Stream};
use pool_os::parent_fds::{ParentFd, Registered, register};
use pool_os::{Arrival, Guest, LaunchError, OnEnded, Parcel, Peer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, read};

/// A connection as the pool has it. Never blocks.
pub(crate) struct Connection {
    // First, so that it is dropped first: see there.
    _registered: Registered,
    stream: Stream,
}

impl Connection {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { _registered: register(fd(&stream)), stream }
    }

    /// The process at the other end, if it is one of this user's.
    pub(crate) fn peer(&self) -> Result<Peer, String> {
        let pid = is_own_user(&self.stream)?;
        Peer::of(fd(&self.stream), pid).map_err(|error| format!("it has gone: {error}"))
    }

    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        (&self.stream).read(into)
    }

    /// Says what has room; whoever does not listen does not hear it.
    pub(crate) fn say(&self, bytes: &[u8]) {
        let _ = (&self.stream).write(bytes);
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
        pool_os::admit(fd(&self.stream), peer, parcel, on_ended)
    }
}

fn fd(stream: &Stream) -> BorrowedFd<'_> {
    let Stream::UdSocket(stream) = stream;
    stream.as_fd()
}

/// Whether the process at the other end is this user's; its number, where the system tells.
fn is_own_user(stream: &Stream) -> Result<Option<u32>, String> {
    let unknown = |error: io::Error| format!("it cannot be told whose process it is: {error}");
    let credentials = stream.peer_creds().map_err(unknown)?;
    let ours = rustix::process::geteuid().as_raw();
    match credentials.euid() {
        Some(euid) if euid == ours => Ok(credentials.pid().and_then(|pid| u32::try_from(pid).ok())),
        Some(euid) => Err(format!("it belongs to user {euid}, and this is one of user {ours}")),
        None => Err("it cannot be told whose process it is".to_owned()),
    }
}

/// In a worker that has connected: makes sure that it is a pool of this user's that listens.
pub(crate) fn check_host(stream: &Stream) -> Result<(), String> {
    is_own_user(stream).map(drop)
}

/// In a worker that has introduced itself: waits for the answer.
pub(crate) fn arrive(stream: &Stream) -> io::Result<Option<Arrival>> {
    pool_os::arrive_as_guest(fd(stream))
}

pub(crate) fn is_nothing_yet(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// The listening socket.
pub(crate) struct Listener {
    // First, as above.
    _registered: Registered,
    listener: local_socket::Listener,
}

impl Listener {
    pub(crate) fn new(listener: local_socket::Listener) -> Self {
        let local_socket::Listener::UdSocket(socket) = &listener;
        Self { _registered: register(socket.as_fd()), listener }
    }

    pub(crate) fn accept(&self) -> io::Result<Stream> {
        self.listener.accept()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        let local_socket::Listener::UdSocket(socket) = &self.listener;
        socket.as_fd()
    }
}

/// Dropping it ends the waiting of its [`Bell`].
#[derive(Debug)]
pub(crate) struct Ring {
    _pipe: ParentFd,
}

/// Waits for connections, or for its [`Ring`] to be dropped.
pub(crate) struct Bell(ParentFd);

pub(crate) fn bell() -> io::Result<(Ring, Bell)> {
    let (reader, writer) = io::pipe()?;
    ioctl_fionbio(&reader, true)?;
    Ok((Ring { _pipe: ParentFd::new(writer) }, Bell(ParentFd::new(reader))))
}

/// How often everybody is looked at when the system refuses to wait for them.
const PAUSE: Duration = Duration::from_millis(20);

impl Bell {
    /// Waits until something can be done about one of these, or until this time. False: it is time to end.
    pub(crate) fn wait(
        &self,
        listener: Option<&Listener>,
        connections: &[&Connection],
        until: Option<Instant>,
    ) -> bool {
        let mut all = vec![PollFd::new(&self.0, PollFlags::IN)];
        let others = connections.iter().map(|connection| fd(&connection.stream));
        let others = listener.map(Listener::fd).into_iter().chain(others);
        all.extend(others.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut all, left.as_ref()) {
            // Everybody is looked at in any case.
            Ok(_) | Err(Errno::INTR) => {}
            // This process may not have as many descriptors any more as it has: not a state that lasts.
            Err(_) => thread::sleep(PAUSE),
        }
        read(&self.0, &mut [0]) != Ok(0)
    }
}
