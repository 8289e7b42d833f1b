//! The parent's half: starts children and says, once for each, that it has ended.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitStatus};

use crate::parcel::Parcel;
use crate::platform::Child;
#[cfg(target_os = "linux")]
use crate::unix::reaper::Reaper;
use crate::waiter;

/// Starts children and watches them. Clones share one thread.
///
/// On Linux that thread waits for all children at once, and exists only while there are some; elsewhere
/// each child has a thread that waits for it. The thread that starts a child is always the one that waits
/// for it: Linux ends a worker whose lifeline is tied to its parent when the *thread* that started it ends,
/// so that must not be the caller's.
#[derive(Clone, Debug, Default)]
pub struct Launcher {
    #[cfg(target_os = "linux")]
    reaper: std::sync::Arc<Reaper>,
}

/// How a child ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status, or why that cannot be told.
    pub status: io::Result<ExitStatus>,
    /// What it wrote with [`LastWords::say`](crate::LastWords::say).
    pub last_words: Option<String>,
}

/// Takes the news that a child has ended, on a thread of this crate: it must not block for long. It may
/// launch another child.
pub type OnEnded = Box<dyn FnOnce(Ended) + Send>;

/// Why a child was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The parcel is over a limit.
    #[error("{count} {what} are too many to send along with a new process, which takes up to {max}")]
    TooLarge {
        /// What there is too much of: `"bytes"` or `"handles"`.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// The operating system did not start the program.
    #[error("start the process: {0}")]
    Spawn(#[source] io::Error),
    /// Something around it failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl LaunchError {
    /// For `map_err`: the failure of `what`.
    pub(crate) fn io<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> Self {
        move |source| Self::Io { what, source: source.into() }
    }
}

impl Launcher {
    /// A launcher. Costs nothing until it launches.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts `command` with `parcel` on its way. Standard input is taken; standard output and error are as
    /// `command` says, by default this process's own. Does not wait for the child to take the parcel.
    ///
    /// On Windows the program must be an absolute path, output and error are this process's own, and the child
    /// inherits no other handle of it.
    ///
    /// `on_ended` is called exactly once if this returns `Ok`, possibly before it does. The child ends when
    /// this process does, and not when the values that stand for it are dropped.
    ///
    /// When the child has ended, its process group is killed: what it has started, and that in its turn. On Windows its
    /// job is, when this process ends, too. Elsewhere what a child has started lives on if this process ends before it
    /// could see to that.
    ///
    /// # Errors
    /// If no child was started; nothing is left behind then.
    pub fn launch(&self, command: Command, parcel: Parcel, on_ended: OnEnded) -> Result<Child, LaunchError> {
        parcel.check()?;
        // A callback that launches must not wait for the thread it runs on.
        #[cfg(target_os = "linux")]
        if Reaper::is_usable() && !Reaper::is_current_thread() {
            return self.reaper.launch(command, parcel, on_ended);
        }
        waiter::launch(command, parcel, on_ended)
    }
}

/// Calls `on_ended`, which is somebody else's code: its panic must not take the thread that others rely on.
pub(crate) fn report(on_ended: OnEnded, ended: Ended) {
    // The panic hook has reported it already.
    let _ = catch_unwind(AssertUnwindSafe(|| on_ended(ended)));
}
