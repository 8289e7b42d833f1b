//! Unix: the worker makes both channels, and its greeting has the parent's ends of them.

use std::io;

use ipc_channel::ipc::{self, IpcBytesSender, IpcReceiver, IpcSender};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Caller, Met, ParentEnds, WorkerEnds, contained, place, plain};
use crate::wire::{Greeting, Hello, Received, Secret, seal};

/// Connects to the server called `name`, and says hello.
pub(crate) fn greet(name: &str, secret: Secret) -> io::Result<WorkerEnds> {
    let (to_worker, receiver) = contained(ipc::bytes_channel)??;
    let (sender, from_worker) = contained(ipc::bytes_channel)??;
    let connected = contained(|| IpcSender::connect(name.to_owned()))?;
    // Whether we are connected or nobody is there: nobody else will need it.
    place::remove(name);
    let hello = Greeting::Hello(Hello { secret, to_worker, from_worker });
    contained(|| connected?.send(hello).map_err(plain))??;
    Ok((receiver, ToParent(sender)))
}

/// The parent's ends of both.
pub(super) type Ends = ParentEnds;

/// Who has come with this greeting, over a connection that is not needed any more.
pub(super) fn met(_: IpcReceiver<Received>, greeting: Received) -> Met {
    match greeting {
        Greeting::Hello(Hello { secret, to_worker, from_worker }) => {
            Met::Caller(Caller { secret, ends: (to_worker, from_worker) })
        }
        Greeting::GiveUp => Met::Knock,
    }
}

/// Both are there.
pub(super) fn complete(ends: Ends) -> io::Result<ParentEnds> {
    Ok(ends)
}

/// What a worker sends by.
pub(crate) struct ToParent(IpcBytesSender);

impl ToParent {
    /// Sends what `fill` appends, `len` bytes of it. `buffer` is kept, because there is a message for each reply.
    ///
    /// Not as a typed `send` does: see [`Envelope`](crate::wire::Envelope).
    pub(crate) fn send(
        &self,
        buffer: &mut Vec<u8>,
        len: usize,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<()> {
        buffer.clear();
        seal(len, buffer);
        fill(buffer);
        contained(|| self.0.send(buffer))?
    }
}

/// What ends the wait of the thread that receives.
pub(crate) struct Wake(IpcBytesSender);

impl Wake {
    /// To drop it would do, were there not forked copies of this process that have it too. It is the first message and the
    /// last, so it does not wait for room; and if it fails, the thread has ended.
    pub(crate) fn wake(self) {
        let _ = contained(|| self.0.send(&[]));
    }
}

/// A channel for that.
pub(crate) fn wake_up_call() -> io::Result<(Wake, IpcReceiver<()>)> {
    let (wake, woken) = contained(ipc::bytes_channel)??;
    Ok((Wake(wake), retyped(woken)?))
}

/// Makes an end of a channel one of another type: they differ in nothing else, and what type it has is up to whoever
/// receives it. For a thread of our own: see [`Envelope`].
pub(super) fn retyped<E, T>(end: E) -> io::Result<T>
where
    E: Serialize + DeserializeOwned,
    T: Serialize + DeserializeOwned,
{
    contained(|| {
        let (sender, receiver) = ipc::channel()?;
        sender.send(end).map_err(plain)?;
        receiver.to_opaque().to::<T>().recv().map_err(plain)
    })?
}
