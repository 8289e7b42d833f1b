//! A started child: to signal it, to wait for it.

use std::fs::File;
use std::io::{self, Read};
use std::os::windows::io::{AsHandle, OwnedHandle};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::process::{self, Process};
use super::{bootstrap, sys};
use crate::launch::{Ended, LaunchError};
use crate::parcel::{LAST_WORDS_MAX, Parcel, Signal, words};

/// Starts `command` and sends `parcel` after it.
pub(crate) fn launch(command: Command, parcel: Parcel) -> Result<Running, LaunchError> {
    let (stdin, pipe) = bootstrap::open().map_err(LaunchError::io("make a pipe"))?;
    let (words, theirs) = sys::create_pipe(WORDS_BUFFER).map_err(LaunchError::io("make a pipe"))?;
    let job = sys::create_job().map_err(LaunchError::io("make a job"))?;
    let mut guard = Guard(Some(process::start(&command, &stdin, &job).map_err(LaunchError::Spawn)?));
    // Our copy of the child's end.
    drop(stdin);
    let process = guard.0.as_ref().expect("invariant: it was put there a line above").handle.as_handle();
    let target = process.try_clone_to_owned().map_err(LaunchError::io("open the process"))?;
    if let Err(source) = bootstrap::hand_over(process, pipe, &parcel, &theirs) {
        // Handles cannot be put into a process that is ending. That is an exit to report, not a failed start.
        if !sys::wait(process, Some(ENDING)) {
            return Err(LaunchError::Io { what: "send the start message", source });
        }
    }
    let process = guard.0.take().expect("invariant: nobody else takes it");
    Ok(Running { process, target: Arc::new(target), words: File::from(words), _job: job })
}

/// Ends the child if the start fails halfway.
struct Guard(Option<Process>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            let _ = sys::terminate(process.handle.as_handle());
            let _ = process.wait();
        }
    }
}

/// A started child, for whoever wants to signal it. Dropping it does nothing to the child.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    target: Arc<OwnedHandle>,
}

impl Child {
    /// Its process id, for people to read.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends the child, whichever `signal` it is; with success, if it has ended already.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let (Signal::Terminate | Signal::Kill) = signal;
        sys::terminate(self.target.as_handle())
            .or_else(|error| if sys::wait(self.target.as_handle(), Some(ENDING)) { Ok(()) } else { Err(error) })
    }
}

/// A started child, for whoever waits for it.
#[derive(Debug)]
pub(crate) struct Running {
    process: Process,
    target: Arc<OwnedHandle>,
    /// Where its last words arrive.
    words: File,
    /// Ends the child, and what that has started, when it closes: when the child has ended, and when this process does
    /// at the latest.
    _job: OwnedHandle,
}

impl Running {
    pub(crate) fn child(&self) -> Child {
        Child { pid: self.process.pid, target: Arc::clone(&self.target) }
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Ended {
        let status = self.process.wait();
        Ended { status, last_words: last_words(&mut self.words) }
    }
}

/// Takes what is there, and does not wait for the end of the pipe.
pub(super) fn last_words(pipe: &mut File) -> Option<String> {
    let waiting = sys::peek(pipe.as_handle(), &mut []).unwrap_or(0);
    let mut bytes = vec![0; waiting.min(LAST_WORDS_MAX)];
    pipe.read_exact(&mut bytes).ok().and_then(|()| words(&bytes))
}

/// More than last words ever take.
pub(super) const WORDS_BUFFER: u32 = 2 * LAST_WORDS_MAX as u32;

/// How long a process may take from when it cannot be reached any more until it has ended.
pub(super) const ENDING: Duration = Duration::from_secs(1);
