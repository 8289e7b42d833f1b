//! Windows: what connects the two is the way from the worker, which gets the other one from the parent. No end of a channel
//! comes to that.

use std::io;

use ipc_channel::ipc::{self, IpcOneShotServer, IpcReceiver, IpcSender};

use super::{Caller, Met, ParentEnds, WorkerEnds, contained, plain};
use crate::wire::{Envelope, Greeting, Received, Secret, Welcome};

/// What the worker sends by, and the name of its server.
pub(super) type Ends = (IpcReceiver<Envelope>, String);

/// Connects to the server called `name`, and says hello.
pub(crate) fn greet(name: &str, secret: Secret) -> io::Result<WorkerEnds> {
    let (server, back) = contained(IpcOneShotServer::<Welcome>::new)??;
    let sender = contained(|| IpcSender::<Greeting>::connect(name.to_owned()))??;
    contained(|| sender.send(Greeting::Hello { secret, back }).map_err(plain))??;
    // If the parent is gone, nobody comes, and the lifeline ends this process.
    let Welcome(receiver) = contained(|| server.accept().map_err(plain))??.1;
    Ok((receiver, ToParent(sender.to_opaque().to())))
}

/// Who has come over this connection, with this greeting.
pub(super) fn met(connection: IpcReceiver<Received>, greeting: Received) -> Met {
    match greeting {
        Greeting::Hello { secret, back } => {
            Met::Caller(Caller { secret, ends: (connection.to_opaque().to(), back) })
        }
        Greeting::GiveUp => Met::Knock,
    }
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
