//! Windows and macOS: a name that the system keeps, and forgets with the server. In-process elsewhere.

use std::io;

use ipc_channel::ipc::IpcSender;

use super::contained;
use crate::wire::Greeting;

pub(super) fn check() -> io::Result<()> {
    Ok(())
}

pub(super) fn make_private(_name: &str) -> io::Result<()> {
    Ok(())
}

pub(crate) fn remove(_name: &str) {}

/// Ends the wait of the server called `name`.
pub(crate) fn knock(name: &str) {
    // An error means that the server has ended, or that somebody else is connecting.
    let _ = contained(|| IpcSender::connect(name.to_owned()).map(|sender| sender.send(Greeting::GiveUp)));
}
