//! Where parent and worker meet: a one-shot server of ipc-channel, known by its name.
//!
//! On Linux and the BSDs the name is that of a socket in a temporary directory of its own. ipc-channel removes
//! both when the server ends; this module sees to what it does not do:
//! - the directory is made private, since tempfile leaves that to the umask;
//! - a path that does not fit a socket address is refused (ipc-channel would cut it, and bind elsewhere), and so
//!   is a temporary directory that cannot be used (it would leak a descriptor);
//! - the worker removes both as well, when it has connected or finds nobody there: so nothing stays if the
//!   parent is killed in between. Only if both are killed before they meet does an empty-handed directory stay.
//! - [`knock`] ends the wait of a server to which nobody comes.

use std::any::Any;
use std::io;
use std::panic::{self, AssertUnwindSafe};

use ipc_channel::IpcError;
use ipc_channel::ipc::{IpcBytesReceiver, IpcOneShotServer, IpcSender};

use crate::wire::{Greeting, Hello, Received};

cfg_if::cfg_if! {
    if #[cfg(all(unix, not(target_os = "macos")))] {
        #[path = "rendezvous_socket.rs"]
        mod place;
    } else {
        #[path = "rendezvous_other.rs"]
        mod place;
    }
}

pub(crate) use place::{knock, remove};

/// The server that a worker connects to, and its name.
pub(crate) fn open() -> io::Result<(IpcOneShotServer<Received>, String)> {
    place::check()?;
    // These prove that there are descriptors for the server, the connection and the worker's channels. Without
    // them ipc-channel would leave its directory behind, or fail later in ways that say less.
    drop((io::pipe()?, io::pipe()?));
    let (server, name) = contained(IpcOneShotServer::new)??;
    if let Err(error) = place::make_private(&name) {
        drop(server);
        remove(&name);
        return Err(error);
    }
    Ok((server, name))
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
