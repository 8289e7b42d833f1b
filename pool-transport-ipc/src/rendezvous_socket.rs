//! Linux and the BSDs: a socket in a directory of its own, and a relay from there to ipc-channel.
//!
//! The server is our own, since that of ipc-channel accepts in a way that lets a process that somebody else starts
//! in that moment inherit the connection, tells a lack of descriptors by a panic, and leaves behind what a failure
//! finds half done. The worker speaks to it by means of ipc-channel all the same, so its one message, with the
//! descriptors in it, is passed on unread to a channel whose sending end is ours:
//!
//! ```text
//!  worker: IpcSender ═══ socket ═══► accept, receive ─► send ═══ socket ═══► IpcReceiver<Received>
//! ```

use std::env;
use std::fs::{self, DirBuilder};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{self, Path};
use std::sync::{Arc, Weak};

use ipc_channel::IpcError;
use ipc_channel::ipc::{IpcReceiver, IpcSender};
use pool_os::parent_fds::ParentFd;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use super::{Met, contained, ends};
use crate::wire::Received;

/// What waits for the worker. It has all the descriptors that it will take to let one in: a pool whose links were
/// opened does not find out later that there are too few.
pub(crate) struct Server {
    listener: Arc<ParentFd>,
    name: String,
    /// Where the greeting goes, and where it comes out.
    relay: (ParentFd, IpcReceiver<Received>),
    for_accepted: ParentFd,
    for_handles: [ParentFd; GREETED],
}

/// Makes the server, its door, and its name.
pub(super) fn serve() -> io::Result<(Server, Door, String)> {
    let name = make_name()?;
    let server = listen(&name).and_then(|listener| {
        let (sender, receiver) = relay()?;
        let spare = || listener.try_clone().map(ParentFd::new);
        Ok(Server {
            name: name.clone(),
            relay: (ParentFd::new(sender), receiver),
            for_accepted: spare()?,
            for_handles: [spare()?, spare()?],
            listener: Arc::new(ParentFd::new(listener)),
        })
    });
    match server {
        Ok(server) => {
            let door = Door(Arc::downgrade(&server.listener));
            Ok((server, door, name))
        }
        Err(error) => {
            remove(&name);
            Err(error)
        }
    }
}

impl Server {
    /// Waits for the worker, or a [knock](Door::knock), and takes its greeting.
    pub(crate) fn accept(self) -> io::Result<Result<Met, IpcError>> {
        let Self { listener, name, relay: (sender, receiver), for_accepted, for_handles } = self;
        // The kernel takes the number before it waits.
        drop(for_accepted);
        let accepted = match retry_on_intr(|| net::accept_with(&*listener, SocketFlags::CLOEXEC)) {
            // That is what a knock is here.
            Err(Errno::INVAL | Errno::CONNABORTED) => return Ok(Err(IpcError::Disconnected)),
            accepted => ParentFd::new(accepted?),
        };
        // The first to come has used up the server.
        remove(&name);
        drop(for_handles);
        let mut message = vec![0; MESSAGE_MAX];
        let (len, handles) = receive(accepted.as_fd(), &mut message)?;
        if len == 0 {
            return Ok(Err(IpcError::Disconnected));
        }
        let borrowed: Vec<BorrowedFd<'_>> = handles.iter().map(AsFd::as_fd).collect();
        pass_on(sender.as_fd(), &message[..len], &borrowed)?;
        // Makes room for what comes out of the channel; and if more is to come, that is not the worker's, and this
        // is the end.
        drop((listener, accepted, handles, sender));
        contained(|| receiver.recv().map(|greeting| ends::met(receiver, greeting)))
    }
}

/// A channel of ipc-channel whose sending end is a plain socket.
///
/// ipc-channel makes no receiver of a socket. But it makes a sender by connecting, and a receiver of that can be had.
fn relay() -> io::Result<(OwnedFd, IpcReceiver<Received>)> {
    let name = make_name()?;
    let connected = listen(&name).and_then(|listener| {
        let theirs = contained(|| IpcSender::<Received>::connect(name.clone()))?.map_err(|error| {
            // It does not look whether it got a socket.
            if error.raw_os_error() == Some(Errno::BADF.raw_os_error()) { Errno::MFILE.into() } else { error }
        })?;
        Ok((retry_on_intr(|| net::accept_with(&listener, SocketFlags::CLOEXEC))?, theirs))
    });
    remove(&name);
    let (ours, theirs) = connected?;
    Ok((ours, ends::retyped(theirs)?))
}

/// The name of a socket to be, in a directory that is made for it and that nobody else may enter.
fn make_name() -> io::Result<String> {
    let temp = path::absolute(env::temp_dir())?;
    loop {
        let mut random = [0; 4];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let dir = temp.join(format!(".pool-{:08x}", u32::from_ne_bytes(random)));
        let name = dir.join(SOCKET).to_str().filter(|name| name.len() <= PATH_MAX).map(str::to_owned);
        let name = name.ok_or_else(|| {
            let why =
                format!("the temporary directory {temp:?} is too long for a socket, or not UTF-8: set TMPDIR");
            io::Error::new(io::ErrorKind::InvalidInput, why)
        })?;
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                let why = format!("cannot use the temporary directory {temp:?}: {error}");
                return Err(io::Error::new(error.kind(), why));
            }
        }
    }
}

fn listen(name: &str) -> io::Result<OwnedFd> {
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    net::bind(&socket, &SocketAddrUnix::new(name)?)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Receives one message and the descriptors in it.
fn receive(socket: BorrowedFd<'_>, message: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDLES_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(message)];
    let received = retry_on_intr(|| net::recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC));
    let received = match received {
        // Whoever has connected is gone, with words of ours unread.
        Err(Errno::CONNRESET) => return Ok((0, Vec::new())),
        received => received?,
    };
    let mut handles = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = part {
            handles.extend(fds);
        }
    }
    // Descriptors that this process has no room for are lost on the way.
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MFILE.into());
    }
    Ok((received.bytes, handles))
}

fn pass_on(socket: BorrowedFd<'_>, message: &[u8], handles: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDLES_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !handles.is_empty() && !control.push(SendAncillaryMessage::ScmRights(handles)) {
        return Err(Errno::INVAL.into());
    }
    // It has come through a socket like this one, and this one is empty.
    retry_on_intr(|| net::sendmsg(socket, &[IoSlice::new(message)], &mut control, SendFlags::DONTWAIT))?;
    Ok(())
}

/// Removes the socket and its directory, if they are still there. Takes no descriptor.
pub(crate) fn remove(name: &str) {
    let path = Path::new(name);
    if let Some(dir) =
        path.parent().filter(|_| path.is_absolute() && path.file_name().is_some_and(|n| n == SOCKET))
    {
        // Errors mean that the other side was first.
        let _ = fs::remove_file(path);
        let _ = fs::remove_dir(dir);
    }
}

/// Where one knocks to end a server's wait.
#[derive(Debug)]
pub(crate) struct Door(Weak<ParentFd>);

impl Door {
    /// Ends the server's wait, unless somebody has connected, who has been first then.
    ///
    /// Takes no descriptor, since there may be none. (To connect does, with ipc-channel's means also one that it
    /// leaks if the server is just gone.)
    pub(crate) fn knock(&self) {
        if let Some(listener) = self.0.upgrade() {
            // It cannot fail for a socket that listens.
            let _ = net::shutdown(&*listener, net::Shutdown::Both);
        }
    }
}

const SOCKET: &str = "socket";

/// Fits the socket address of every Unix system, its final zero included.
const PATH_MAX: usize = 103;

/// One worker, who may find a stranger before it.
const BACKLOG: i32 = 10;

/// Far more than a greeting takes.
const MESSAGE_MAX: usize = 16 * 1024;

/// How many descriptors a greeting has.
const GREETED: usize = 2;

/// How many there may be in a message before it is not even looked at.
const HANDLES_MAX: usize = 4;
