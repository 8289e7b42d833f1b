//! Windows and macOS: a name that the system keeps, and forgets with the server. In-process elsewhere.

use std::io;
use std::thread;

use ipc_channel::ipc::IpcSender;

use super::contained;
use crate::wire::Received;

pub(super) fn check() -> io::Result<()> {
    Ok(())
}

pub(super) fn make_private(_name: &str) -> io::Result<()> {
    Ok(())
}

pub(crate) fn remove(_name: &str) {}

/// Ends the wait of the server called `name`.
pub(crate) fn knock(name: &str) {
    let name = name.to_owned();
    // On a thread of its own, because a typed `send` takes along what an earlier one, of somebody else's in the
    // same thread, has failed to send. An error means that the server has ended, or somebody else is connecting.
    let knock = move || contained(|| IpcSender::connect(name).map(|sender| sender.send(Received::GiveUp)));
    let _ = thread::Builder::new().name("pool-ipc-knock".to_owned()).spawn(knock);
}
