//! Where parent and worker meet: a server that takes one greeting, known by its name.
//!
//! On Linux and the BSDs the name is that of a socket in a directory of its own, in the temporary directory. The
//! worker removes both when it has connected or finds nobody there: so nothing stays if the parent is killed in
//! between. Only if both are killed before they meet does the directory stay. Elsewhere it is a one-shot server of
//! ipc-channel, whose name the system forgets with it. A knock at its [`Door`] ends the wait of one to which nobody
//! comes.
//!
//! Each side gets its two ends here. On Windows no end of a channel reaches the parent in a message, since ipc-channel keeps
//! a copy of each for ever: what connects the two is the way from the worker, and the parent sends it the other one. (The
//! worker's copy ends with it.)

use std::any::Any;
use std::io;
use std::panic::{self, AssertUnwindSafe};

use crate::wire::{Envelope, Secret};
use ipc_channel::IpcError;
use ipc_channel::ipc::{IpcBytesReceiver, IpcBytesSender, IpcReceiver};

#[cfg_attr(windows, path = "rendezvous/ends_windows.rs")]
mod ends;

cfg_if::cfg_if! {
    if #[cfg(all(unix, not(target_os = "macos")))] {
        #[path = "rendezvous_socket.rs"]
        mod place;
    } else {
        #[path = "rendezvous_named.rs"]
        mod place;
    }
}

pub(crate) use ends::{ToParent, Wake, greet, wake_up_call};
pub(crate) use place::{Door, Server, remove};

/// Who has come.
pub(crate) enum Met {
    /// Somebody who says to be the worker.
    Caller(Caller),
    /// A [knock](Door::knock), or somebody who says what one says.
    Knock,
}

/// The worker, if the secret is right.
pub(crate) struct Caller {
    pub(crate) secret: Secret,
    ends: ends::Ends,
}

/// What a worker has: what it receives from, what it sends by.
pub(crate) type WorkerEnds = (IpcBytesReceiver, ToParent);

/// What the parent has: what it sends by, what it receives from.
pub(crate) type ParentEnds = (IpcBytesSender, IpcReceiver<Envelope>);

impl Caller {
    /// Makes it the worker.
    pub(crate) fn into_ends(self) -> io::Result<ParentEnds> {
        ends::complete(self.ends)
    }
}

/// The server that a worker connects to, its door, and its name.
pub(crate) fn open() -> io::Result<(Server, Door, String)> {
    place::serve()
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
