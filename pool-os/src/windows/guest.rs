//! Processes that this one did not start, but that have connected to it: each gets a parcel over its connection,
//! and is watched and ended by its process handle.
//!
//! After the byte that admits it comes what a child finds on its standard input. There is no job: a lifeline in
//! the process itself, which waits for this one's end, does what one would.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::windows::io::{AsHandle, OwnedHandle};
use std::sync::Arc;
use std::thread;

use super::bootstrap;
use super::child::{ENDING, WORDS_BUFFER, last_words};
use super::sys;
use crate::guest::{ADMITTED, NAME, STACK, not_ours};
use crate::launch::{Ended, LaunchError, OnEnded, report};
use crate::parcel::{Arrival, MAGIC, Parcel, Signal};

/// The process at the other end of a connection.
#[derive(Debug)]
pub struct Peer {
    pid: u32,
    process: Arc<OwnedHandle>,
}

impl Peer {
    /// Takes hold of the process with this number, which a connection says is at its other end.
    ///
    /// # Errors
    /// If it has ended already, or is one that this process's user has no power over.
    pub fn of(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, process: Arc::new(sys::open_process(pid)?) })
    }
}

/// A process that was admitted. Dropping it does nothing to the process.
#[derive(Debug)]
pub struct Guest {
    pid: u32,
    process: Arc<OwnedHandle>,
}

/// Hands `parcel` to the process that waits for it at the other end of `connection`, which is not needed any more
/// then. Does not wait for it: a thread writes, which then waits for the end of the process.
///
/// `on_ended` is called exactly once if this returns `Ok`. The process ends when this one does, and not when the
/// values that stand for it are dropped.
///
/// # Errors
/// If the parcel is over a limit, or the operating system refuses.
pub fn admit(
    connection: impl Write + Send + 'static,
    peer: Peer,
    parcel: Parcel,
    on_ended: OnEnded,
) -> Result<Guest, LaunchError> {
    parcel.check()?;
    let (words, theirs) = sys::create_pipe(WORDS_BUFFER).map_err(LaunchError::io("make a pipe"))?;
    let guest = Guest { pid: peer.pid, process: Arc::clone(&peer.process) };
    let watch = move || {
        let mut connection = connection;
        let process = peer.process.as_handle();
        let sent = connection
            .write_all(&[[ADMITTED].as_slice(), &MAGIC].concat())
            .and_then(|()| bootstrap::hand_over(process, &mut connection, &parcel, &theirs));
        if sent.is_err() {
            // Half a parcel is none. What cannot be ended has ended.
            let _ = sys::terminate(process);
        }
        // What the process has of these are duplicates; while ours are open, it cannot be told that its are not.
        drop((connection, parcel, theirs));
        sys::wait(process, None);
        report(on_ended, Ended { status: Err(not_ours()), last_words: last_words(&mut File::from(words)) });
    };
    thread::Builder::new()
        .name(NAME.to_owned())
        .stack_size(STACK)
        .spawn(watch)
        .map_err(LaunchError::io("start a thread to wait for the process"))?;
    Ok(guest)
}

impl Guest {
    /// Its process id, for people to read.
    pub fn pid(&self) -> Option<u32> {
        Some(self.pid)
    }

    /// Ends the process, whichever `signal` it is; with success, if it has ended already.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let (Signal::Terminate | Signal::Kill) = signal;
        let process = self.process.as_handle();
        sys::terminate(process).or_else(|error| if sys::wait(process, Some(ENDING)) { Ok(()) } else { Err(error) })
    }
}

/// Waits for the answer of the process that `connection` leads to. If it admits this one, receives the parcel as
/// [`arrive`](super::arrive) does; else there is no arrival, and what follows on the connection is for the caller
/// to read.
///
/// # Errors
/// If the connection ends without an answer.
pub fn arrive_as_guest(mut connection: impl Read) -> io::Result<Option<Arrival>> {
    let mut answer = [0];
    connection.read_exact(&mut answer)?;
    if answer != [ADMITTED] {
        return Ok(None);
    }
    if let Err(error) = bootstrap::empty_input() {
        return Ok(Some(Arrival::Unusable(format!("cannot set up standard input: {error}"))));
    }
    Ok(Some(bootstrap::arrive_from(&mut connection)))
}
