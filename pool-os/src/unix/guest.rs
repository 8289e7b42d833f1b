//! Processes that this one did not start, but that have connected to it: each gets a parcel over its connection,
//! and is watched and signalled as far as the system allows that for a process that is not a child.
//!
//! What it gets is one byte and one descriptor: the end of a socket made by [`pack`], which from then on is what
//! standard input is to a child. So all that comes after is the same for both.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, recvmsg,
    sendmsg,
};
use rustix::stdio::dup2_stdin;

use super::bootstrap::{self, QUIETLY, pack};
use super::lifeline::{self, Lifeline};
#[cfg(target_os = "linux")]
use super::parent_fds::ParentFd;
use crate::guest::{ADMITTED, NAME, STACK, not_ours};
use crate::launch::{Ended, LaunchError, OnEnded, report};
use crate::parcel::{Arrival, Parcel, Signal};

/// The process at the other end of a connection.
#[derive(Debug)]
pub struct Peer {
    pid: Option<u32>,
    /// The process itself, where the system has such a thing and it could be had.
    #[cfg(target_os = "linux")]
    process: Option<ParentFd>,
}

impl Peer {
    /// Takes hold of the process that `connection` says is at its other end, under this number.
    ///
    /// # Errors
    /// If it has ended already.
    pub fn of(connection: impl AsFd, pid: Option<u32>) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        let process = pid.and_then(|pid| open(pid).ok());
        // Asked after the process was opened: while it holds its end, its number is its own.
        if lifeline::has_now(connection.as_fd(), PollFlags::empty()) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(Self {
            pid,
            #[cfg(target_os = "linux")]
            process,
        })
    }
}

#[cfg(target_os = "linux")]
fn open(pid: u32) -> io::Result<ParentFd> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(ParentFd::new(pidfd_open(pid, PidfdFlags::empty())?))
}

/// A process that was admitted. Dropping it does nothing to the process.
#[derive(Debug)]
pub struct Guest {
    peer: Arc<Peer>,
    lifeline: Arc<Lifeline>,
}

/// Hands `parcel` to the process that waits for it at the other end of `connection`, which is not needed any more
/// then. Does not wait for it.
///
/// `on_ended` is called exactly once if this returns `Ok`. The process ends when this one does, and not when the
/// values that stand for it are dropped.
///
/// # Errors
/// If the parcel is over a limit, the process is gone, or the operating system refuses. If the process has got
/// the parcel already, it ends.
pub fn admit(connection: impl AsFd, peer: Peer, parcel: Parcel, on_ended: OnEnded) -> Result<Guest, LaunchError> {
    let (lifeline, theirs) = pack(parcel)?;
    send(connection.as_fd(), theirs.as_fd()).map_err(LaunchError::io("answer a process that has connected"))?;
    // Our copy: with it open, the end of the process could not be told by its lifeline.
    drop(theirs);
    let guest = Guest { peer: Arc::new(peer), lifeline: Arc::new(lifeline) };
    let (peer, lifeline) = (Arc::clone(&guest.peer), Arc::clone(&guest.lifeline));
    let watch = move || {
        wait(&peer, &lifeline);
        report(on_ended, Ended { status: Err(not_ours()), last_words: lifeline.read_last_words() });
    };
    // If there is no thread to be had, both copies of the lifeline are dropped, and the process ends.
    thread::Builder::new()
        .name(NAME.to_owned())
        .stack_size(STACK)
        .spawn(watch)
        .map_err(LaunchError::io("start a thread to wait for the process"))?;
    Ok(guest)
}

/// Returns when the process has ended, or, where only that can be told, has let go of its lifeline.
fn wait(peer: &Peer, lifeline: &Lifeline) {
    let let_go = || {
        let mut ends = [PollFd::from_borrowed_fd(lifeline.socket(), PollFlags::empty())];
        while let Err(Errno::INTR) = poll(&mut ends, None) {}
    };
    #[cfg(target_os = "linux")]
    if let Some(process) = &peer.process {
        let mut ends = [PollFd::new(process, PollFlags::IN)];
        while let Err(Errno::INTR) = poll(&mut ends, None) {}
        return;
    }
    // Of use on Linux only.
    let _ = peer;
    let_go();
}

impl Guest {
    /// Its process id, for people to read, where the system tells.
    pub fn pid(&self) -> Option<u32> {
        self.peer.pid
    }

    /// Signals the process; nobody else, and with success, if it has ended already. Where the system does not let
    /// us, it ends by its own lifeline, whichever `signal` it is.
    ///
    /// # Errors
    /// If the operating system has another reason to refuse.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if let Some(process) = &self.peer.process {
            let signal = match signal {
                Signal::Terminate => rustix::process::Signal::TERM,
                Signal::Kill => rustix::process::Signal::KILL,
            };
            match rustix::process::pidfd_send_signal(process, signal) {
                Ok(()) | Err(Errno::SRCH) => return Ok(()),
                Err(Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (Signal::Terminate | Signal::Kill) = signal;
        self.lifeline.cut();
        Ok(())
    }
}

/// Waits for the answer of the process that `connection` leads to. If it admits this one, receives the parcel as
/// [`arrive`](super::arrive) does; else there is no arrival, and what follows on the connection is for the caller
/// to read.
///
/// The parent that started this process has no part in that: it may end without consequence for this one.
///
/// # Errors
/// If the connection ends without an answer.
pub fn arrive_as_guest(connection: impl AsFd) -> io::Result<Option<Arrival>> {
    let (answer, socket) = receive(connection.as_fd())?;
    let Some(socket) = socket.filter(|_| answer == ADMITTED) else { return Ok(None) };
    if let Err(error) = dup2_stdin(&socket) {
        return Ok(Some(Arrival::Unusable(format!("cannot set up standard input: {error}"))));
    }
    drop(socket);
    Ok(Some(bootstrap::arrive_with(lifeline::hold_from_afar)))
}

fn send(connection: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> io::Result<()> {
    let handles = [socket];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&handles)) {
        return Err(io::Error::other("the descriptor does not fit its buffer"));
    }
    retry_on_intr(|| sendmsg(connection, &[IoSlice::new(&[ADMITTED])], &mut control, QUIETLY))?;
    Ok(())
}

/// Takes one byte, and the descriptor that came with it, if one did.
fn receive(connection: BorrowedFd<'_>) -> io::Result<(u8, Option<OwnedFd>)> {
    let mut answer = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut answer)];
    let message = retry_on_intr(|| recvmsg(connection, &mut into, &mut control, UNINHERITED))?;
    let mut socket = None;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = part {
            for fd in fds {
                socket = Some(bootstrap::tidy(fd)?);
            }
        }
    }
    if message.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((answer[0], socket))
}

/// Where that exists: let no received descriptor be inherited from the very start.
#[cfg(not(target_vendor = "apple"))]
const UNINHERITED: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(target_vendor = "apple")]
const UNINHERITED: RecvFlags = RecvFlags::empty();
