//! One message of bytes and descriptors over the child's standard input.
//!
//! The parent writes all of it before the child exists, so the child never waits for the parent and the
//! parent never for the child. The child first peeks: only the magic makes it a child of ours, whatever the
//! environment says, so that a program further down that inherited the environment neither becomes a worker
//! nor loses a byte of its input.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recv, recvmsg, sendmsg, sockopt,
};
use rustix::stdio::{dup2_stdin, stdin};

use super::lifeline::{self, LastWords, Lifeline};
use super::{parent_fds, sys};
use crate::launch::LaunchError;
use crate::parcel::{Arrival, HANDLES_MAX, Header, MAGIC, Parcel};

/// Makes the two ends, the child's with `parcel` waiting in it. Neither can be inherited.
///
/// For children that are not started by a [`Launcher`](crate::Launcher): the second is for the child, which
/// [arrives over it](arrive_over), and this process had better close its copy then.
///
/// # Errors
/// If the parcel is over a limit, or the operating system refuses.
pub fn pack(parcel: Parcel) -> Result<(Lifeline, OwnedFd), LaunchError> {
    parcel.check()?;
    let (ours, theirs) = UnixStream::pair().map_err(LaunchError::io("make a socket pair"))?;
    let sized = sockopt::set_socket_send_buffer_size(&ours, BUFFER)
        .and_then(|()| sockopt::set_socket_recv_buffer_size(&theirs, BUFFER));
    // The defaults do on Linux, so a refusal is no failure; if the parcel does not fit, that will be.
    let _ = sized;
    ours.set_nonblocking(true).map_err(LaunchError::io("set up a socket"))?;
    send(&ours, &parcel).map_err(LaunchError::io("write the start message"))?;
    Ok((Lifeline::new(ours), theirs.into()))
}

fn send(socket: &UnixStream, parcel: &Parcel) -> io::Result<()> {
    let bytes = [Header::of(parcel).encode().as_slice(), &parcel.bytes].concat();
    let handles: Vec<BorrowedFd<'_>> = parcel.handles.iter().map(AsFd::as_fd).collect();
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDLES_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !handles.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&handles)) {
        return Err(io::Error::other("the descriptors do not fit their buffer"));
    }
    let mut sent = 0;
    while sent < bytes.len() {
        sent += match retry_on_intr(|| sendmsg(socket, &[IoSlice::new(&bytes[sent..])], &mut control, QUIETLY)) {
            Ok(count) => count,
            // Blocking would mean waiting for a child that does not exist yet.
            Err(Errno::AGAIN) => return Err(io::Error::other("it does not fit the socket's buffer")),
            Err(error) => return Err(error.into()),
        };
        // The descriptors went with the first bytes.
        control.clear();
    }
    Ok(())
}

/// Whether standard input carries a parcel. Changes nothing.
pub fn is_ours() -> bool {
    peek(stdin()) == Ok(MAGIC)
}

fn peek(socket: BorrowedFd<'_>) -> Result<[u8; MAGIC.len()], Errno> {
    let mut start = [0; MAGIC.len()];
    // Anything but a socket answers ENOTSOCK.
    let (_, count) = retry_on_intr(|| recv(socket, start.as_mut_slice(), RecvFlags::PEEK | RecvFlags::DONTWAIT))?;
    if count == start.len() { Ok(start) } else { Err(Errno::AGAIN) }
}

/// Receives what the parent sent, if this process was started with a parcel, sets up the lifeline and empties
/// standard input. To be called first thing in a process, on its main thread.
pub fn arrive() -> Arrival {
    let arrival = arrive_with(lifeline::hold);
    if !matches!(arrival, Arrival::NotOurs) {
        sys::take_signals();
    }
    arrival
}

/// Like [`arrive`], for a process that forks others: it stays without a thread, and so must find out for itself
/// that its parent is gone, by a handle in its parcel.
pub fn arrive_alone() -> Arrival {
    arrive_with(|_| {
        lifeline::tie();
        Ok(())
    })
}

/// Like [`arrive`], for a forked process: `socket`, made by [`pack`], takes standard input's place first.
///
/// It then has two that it does not outlive: whoever packed, by the lifeline, and where the kernel can see to that
/// whoever forked it.
pub fn arrive_over(socket: OwnedFd) -> Arrival {
    if let Err(error) = dup2_stdin(&socket) {
        return Arrival::Unusable(format!("cannot set up standard input: {error}"));
    }
    drop(socket);
    arrive()
}

pub(super) fn arrive_with(hold: impl FnOnce(Arc<OwnedFd>) -> io::Result<()>) -> Arrival {
    if !is_ours() {
        return Arrival::NotOurs;
    }
    let mut handles = Vec::new();
    let received = receive(stdin(), &mut handles);
    // Signals that the parent's thread had blocked are blocked here too, for no reason of this program's.
    sys::unblock_signals();
    let socket = match settle() {
        Ok(socket) => Arc::new(socket),
        Err(error) => return Arrival::Unusable(format!("cannot set up standard input: {error}")),
    };
    let last_words = LastWords::new(Arc::clone(&socket));
    let held = received.and_then(|bytes| match hold(socket) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(format!("cannot start the lifeline's thread: {error}")),
    });
    match held {
        Ok(bytes) => Arrival::Parcel { parcel: Parcel { bytes, handles }, last_words },
        Err(why) => {
            last_words.say(&why);
            // Not before: to the parent their end may be that of this process, which it then kills.
            drop(handles);
            Arrival::Unusable(why)
        }
    }
}

/// Takes the message, which lies there whole: its bytes, and the descriptors into `handles`.
fn receive(socket: BorrowedFd<'_>, handles: &mut Vec<OwnedFd>) -> Result<Vec<u8>, String> {
    let mut start = [0; Header::LEN];
    fill(socket, &mut start, handles)?;
    let header = Header::decode(&start)?;
    let mut bytes = vec![0; header.bytes as usize];
    fill(socket, &mut bytes, handles)?;
    if handles.len() != header.handles as usize {
        let (came, sent) = (handles.len(), header.handles);
        return Err(format!("{came} of {sent} descriptors arrived: this process may have too many open already"));
    }
    Ok(bytes)
}

/// Reads until `buffer` is full, collecting the descriptors that come along.
fn fill(socket: BorrowedFd<'_>, buffer: &mut [u8], handles: &mut Vec<OwnedFd>) -> Result<(), String> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDLES_MAX))];
    let mut filled = 0;
    while filled < buffer.len() {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut buffer[filled..])];
        let message = retry_on_intr(|| recvmsg(socket, &mut into, &mut control, CLOSED_ON_EXEC))
            .map_err(|error| format!("cannot read the start message: {error}"))?;
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = part {
                for fd in fds {
                    handles.push(tidy(fd).map_err(|error| format!("cannot keep a descriptor: {error}"))?);
                }
            }
        }
        if message.bytes == 0 {
            return Err("the start message is cut short".to_owned());
        }
        filled += message.bytes;
    }
    Ok(())
}

/// Sees to it that a descriptor is not inherited, and is not taken for a standard stream: in a process that
/// was started with one of those closed, and before `std` has repaired that, its number is the next free one.
pub(super) fn tidy(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() < FIRST_FREE {
        return Ok(fcntl_dupfd_cloexec(&fd, FIRST_FREE)?);
    }
    #[cfg(not(target_os = "linux"))]
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Moves the socket out of standard input's place and leaves an empty input there.
fn settle() -> io::Result<OwnedFd> {
    let socket = fcntl_dupfd_cloexec(stdin(), FIRST_FREE)?;
    dup2_stdin(&parent_fds::empty_input()?)?;
    Ok(socket)
}

/// The first descriptor that is not a standard stream.
const FIRST_FREE: i32 = 3;

/// Room for the largest parcel with its bookkeeping. Elsewhere than on Linux the default may be 8 KiB.
const BUFFER: usize = 256 * 1024;

/// Ask for an error, not for a signal, if the other end is gone; and never wait. Apple's systems have no such
/// flag: there `std` has set the like on the socket.
#[cfg(not(target_vendor = "apple"))]
pub(super) const QUIETLY: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);
#[cfg(target_vendor = "apple")]
pub(super) const QUIETLY: SendFlags = SendFlags::DONTWAIT;

/// Do not wait, and where that exists let no received descriptor be inherited from the very start.
#[cfg(not(target_vendor = "apple"))]
const CLOSED_ON_EXEC: RecvFlags = RecvFlags::CMSG_CLOEXEC.union(RecvFlags::DONTWAIT);
#[cfg(target_vendor = "apple")]
const CLOSED_ON_EXEC: RecvFlags = RecvFlags::DONTWAIT;
