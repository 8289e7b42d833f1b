//! A thread for each child: starts it, waits for it, reports its end.
//!
//! This is how it is done where one thread cannot wait for many processes, and the way out on Linux if
//! something stands in the way of its one thread.

use std::io;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use crate::launch::{LaunchError, OnEnded, report};
use crate::parcel::Parcel;
use crate::platform::{self, Child};

/// Starts a child from a new thread, which then waits for it.
pub(crate) fn launch(command: Command, parcel: Parcel, on_ended: OnEnded) -> Result<Child, LaunchError> {
    let (reply, answer) = mpsc::sync_channel(1);
    let body = move || match platform::launch(command, parcel) {
        Ok(running) => {
            // The caller waits for the answer; if it has gone all the same, the child lives on, watched.
            let _ = reply.send(Ok(running.child()));
            report(on_ended, running.wait());
        }
        Err(error) => {
            let _ = reply.send(Err(error));
        }
    };
    thread::Builder::new()
        .name(NAME.to_owned())
        .stack_size(STACK)
        .spawn(body)
        .map_err(LaunchError::io("start a thread to wait for the process"))?;
    answer.recv().unwrap_or_else(|_| Err(LaunchError::Spawn(io::Error::other("the starting thread panicked"))))
}

/// The name of these threads.
pub(crate) const NAME: &str = "pool-wait";

/// Enough for the callback, which is not ours; only what is touched costs memory.
pub(crate) const STACK: usize = 256 * 1024;
