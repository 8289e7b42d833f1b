//! Windows: a name that the system keeps, and forgets with the server. No end of a channel comes to the parent.

use std::io;
use std::thread;

use ipc_channel::IpcError;
use ipc_channel::ipc::{self, IpcOneShotServer, IpcReceiver, IpcSender};

use super::{Caller, Met, ParentEnds, WorkerEnds, contained, plain};
use crate::wire::{Envelope, Greeting, Secret, Welcome};

/// What the worker sends by, and the name of its server.
pub(super) type Ends = (IpcReceiver<Envelope>, String);

/// See [`greet`](super::greet).
pub(super) fn greet(name: &str, secret: Secret) -> io::Result<WorkerEnds> {
    let (server, back) = contained(IpcOneShotServer::<Welcome>::new)??;
    let sender = contained(|| IpcSender::<Greeting>::connect(name.to_owned()))??;
    contained(|| sender.send(Greeting::Hello { secret, back }).map_err(plain))??;
    // If the parent is gone, nobody comes, and the lifeline ends this process.
    let Welcome(receiver) = contained(|| server.accept().map_err(plain))??.1;
    Ok((receiver, ToParent(sender.to_opaque().to())))
}

/// Gives the worker what it receives from.
pub(super) fn complete((from_worker, back): Ends) -> io::Result<ParentEnds> {
    let (to_worker, receiver) = contained(ipc::bytes_channel)??;
    let welcome = contained(|| IpcSender::connect(back))??;
    contained(|| welcome.send(Welcome(receiver)).map_err(plain))??;
    Ok((to_worker, from_worker))
}

/// What a worker sends by. A connection gives typed senders only, and to make it another would leave a copy of the handle
/// behind: the parent would not see that it is dropped.
pub(crate) struct ToParent(IpcSender<Envelope>);

impl ToParent {
    /// Sends what `fill` appends.
    pub(crate) fn send(&self, _: &mut Vec<u8>, len: usize, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut message = Vec::with_capacity(len);
        fill(&mut message);
        contained(|| self.0.send(Envelope(message)).map_err(plain))?
    }
}

/// What ends the wait of the thread that receives: nobody else has a copy of it.
pub(crate) struct Wake {
    _sender: IpcSender<()>,
}

impl Wake {
    pub(crate) fn wake(self) {
        let _ = contained(|| drop(self));
    }
}

/// A channel for that.
pub(crate) fn wake_up_call() -> io::Result<(Wake, IpcReceiver<()>)> {
    let (sender, woken) = contained(ipc::channel)??;
    Ok((Wake { _sender: sender }, woken))
}

/// What waits for the worker.
pub(crate) struct Server(IpcOneShotServer<Greeting>);

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
        contained(|| {
            let (connection, greeting) = self.0.accept()?;
            Ok(match greeting {
                Greeting::Hello { secret, back } => {
                    let from_worker = connection.to_opaque().to::<Envelope>();
                    Met::Caller(Caller { secret, ends: (from_worker, back) })
                }
                Greeting::GiveUp => Met::Knock,
            })
        })
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
        let knock = move || contained(|| IpcSender::connect(name).map(|sender| sender.send(Greeting::GiveUp)));
        let _ = thread::Builder::new().name("pool-ipc-knock".to_owned()).spawn(knock);
    }
}
