//! Windows and macOS: a name that the system keeps, and forgets with the server.

use std::io;
use std::thread;

use ipc_channel::IpcError;
use ipc_channel::ipc::{IpcOneShotServer, IpcSender};

use super::{Met, contained, ends};
use crate::wire::Received;

/// What waits for the worker.
pub(crate) struct Server(IpcOneShotServer<Received>);

/// Makes the server, its door, and its name.
pub(super) fn serve() -> io::Result<(Server, Door, String)> {
    // These prove that there are descriptors for the server, the connection and the worker's channels. Without them
    // ipc-channel would fail later in ways that say less.
    drop((io::pipe()?, io::pipe()?));
    let (server, name) = contained(IpcOneShotServer::new)??;
    Ok((Server(server), Door(name.clone()), name))
}

impl Server {
    /// Waits for the worker, or a [knock](Door::knock), and takes its greeting.
    pub(crate) fn accept(self) -> io::Result<Result<Met, IpcError>> {
        contained(|| self.0.accept().map(|(connection, greeting)| ends::met(connection, greeting)))
    }
}

pub(crate) fn remove(_name: &str) {}

/// Where one knocks to end a server's wait.
#[derive(Debug)]
pub(crate) struct Door(String);

impl Door {
    /// Ends the server's wait: somebody connects who has nothing to say.
    pub(crate) fn knock(&self) {
        let name = self.0.clone();
        // On a thread of its own, because a typed `send` takes along what an earlier one, of somebody else's in the
        // same thread, has failed to send. An error means that the server has ended, or somebody else is connecting.
        let knock = move || contained(|| IpcSender::connect(name).map(|sender| sender.send(Received::GiveUp)));
        let _ = thread::Builder::new().name("pool-ipc-knock".to_owned()).spawn(knock);
    }
}
