//! Where parent and worker meet: a server that takes one greeting, known by its name.
//!
//! On Linux and the BSDs the name is that of a socket in a directory of its own, in the temporary directory. The
//! worker removes both when it has connected or finds nobody there: so nothing stays if the parent is killed in
//! between. Only if both are killed before they meet does the directory stay. Elsewhere it is a one-shot server of
//! ipc-channel, whose name the system forgets with it. A knock at its [`Door`] ends the wait of one to which nobody
//! comes.

use std::any::Any;
use std::io;
use std::panic::{self, AssertUnwindSafe};

use ipc_channel::IpcError;
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcReceiver, IpcSender};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::{Greeting, Hello};

cfg_if::cfg_if! {
    if #[cfg(all(unix, not(target_os = "macos")))] {
        #[path = "rendezvous_socket.rs"]
        mod place;
    } else {
        #[path = "rendezvous_other.rs"]
        mod place;
    }
}

pub(crate) use place::{Door, Server, remove};

/// The server that a worker connects to, its door, and its name.
pub(crate) fn open() -> io::Result<(Server, Door, String)> {
    place::serve()
}

/// Connects to the server called `name`, and says hello.
pub(crate) fn greet(name: &str, hello: Hello<IpcBytesReceiver>) -> io::Result<()> {
    let sender = contained(|| IpcSender::connect(name.to_owned()))?;
    // Whether we are connected or nobody is there: nobody else will need it.
    remove(name);
    contained(|| sender?.send(Greeting::Hello(hello)).map_err(plain))?
}

/// Calls into ipc-channel, which answers some failures and whatever is malformed with a panic.
pub(crate) fn contained<T>(call: impl FnOnce() -> T) -> io::Result<T> {
    panic::catch_unwind(AssertUnwindSafe(call))
        .map_err(|panic| io::Error::other(format!("ipc-channel panicked: {}", text(&*panic))))
}

/// The receiver of a channel out of one of its ends, of whatever type: the ends of a channel differ in nothing but
/// that, and what type it has is up to whoever receives it. For a thread of our own: see [`Envelope`].
///
/// [`Envelope`]: crate::wire::Envelope
pub(crate) fn retyped<E, T>(end: E) -> io::Result<IpcReceiver<T>>
where
    E: Serialize + DeserializeOwned,
    T: Serialize + DeserializeOwned,
{
    contained(|| {
        let (sender, receiver) = ipc::channel()?;
        sender.send(end).map_err(plain)?;
        receiver.to_opaque().to::<IpcReceiver<T>>().recv().map_err(plain)
    })?
}

/// The system's error, where that is the cause.
pub(crate) fn plain(error: IpcError) -> io::Error {
    match error {
        IpcError::Io(error) => error,
        IpcError::Disconnected => io::ErrorKind::BrokenPipe.into(),
        error => io::Error::other(error),
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}
