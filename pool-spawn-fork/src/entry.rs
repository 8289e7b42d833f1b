//! The other half of [`ForkServer`](crate::ForkServer): turns this process into the zygote, and returns in each
//! worker that the zygote forks.

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};

use pool_core::spawner::{Arrival, Entry};
use pool_os::Parcel;
use rustix::process::getppid;

use crate::alone::Alone;
use crate::server::{self, Forked};
use crate::{FORK_SERVER, MARKER, protocol, worker};

/// Receives the ticket in a worker of [`ForkServer`](crate::ForkServer).
///
/// [`arrive`](Entry::arrive) is called in the zygote, and returns in workers. The zygote is made of a process if
/// the environment says so *and* its standard input carries the start message. A program with rights that its
/// starter does not have (set-user-id) never is.
///
/// What stands before it in `main` runs once, in the zygote, and is there in each worker; it must not leave a
/// thread running.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForkServerEntry;

/// Set when this process, or the zygote it is forked from, has asked once.
static ARRIVED: AtomicBool = AtomicBool::new(false);

/// Set when somebody has asked whether this process is a worker: then it would become one, started again.
static ASKED: AtomicBool = AtomicBool::new(false);

impl ForkServerEntry {
    /// Whether the program's `init()` asks this entry.
    pub(crate) fn is_known() -> bool {
        ASKED.load(Ordering::Acquire)
    }

    /// Whether this process was started as a zygote and has not yet been through `init()`.
    pub(crate) fn looks_like_one() -> bool {
        // Any version of it: what to do about another one is for the start message to say.
        let marked = env::var(MARKER).is_ok_and(|mark| mark.split('/').next() == Some(FORK_SERVER));
        marked && !ARRIVED.load(Ordering::Acquire) && !pool_os::is_elevated() && pool_os::is_ours()
    }
}

impl Entry for ForkServerEntry {
    fn name(&self) -> &str {
        FORK_SERVER
    }

    fn is_worker(&self) -> bool {
        ASKED.store(true, Ordering::Release);
        Self::looks_like_one()
    }

    fn stay(&self) {
        pool_os::parent_fds::make_room();
    }

    fn arrive(&self) -> Arrival {
        let is_worker = self.is_worker();
        ARRIVED.store(true, Ordering::Release);
        if !is_worker {
            return Arrival::NotAWorker;
        }
        let (parcel, last_words) = match pool_os::arrive_alone() {
            pool_os::Arrival::Parcel { parcel, last_words } => (parcel, last_words),
            pool_os::Arrival::NotOurs => return Arrival::NotAWorker,
            pool_os::Arrival::Unusable(why) => return Arrival::Unusable(why),
        };
        match serve(parcel) {
            Ok(forked) => {
                // These are the zygote's.
                drop(last_words);
                worker::arrive(forked)
            }
            Err(why) => {
                last_words.say(&why);
                Arrival::Unusable(why)
            }
        }
    }
}

/// The zygote's life. Returns in each worker.
fn serve(mut parcel: Parcel) -> Result<Forked, String> {
    let parent = getppid();
    if parcel.bytes != protocol::VERSION {
        return Err("the parent is not of the same build as its fork server".to_owned());
    }
    let control = parcel.handles.pop().ok_or("the parent sent no control socket")?;
    let alone = alone().map_err(|error| format!("{error}: start threads after `init()`"))?;
    crate::sys::reset_signals();
    server::serve(&alone, control, parent).map_err(|error| format!("cannot set up the fork server: {error}"))
}

#[cfg(target_os = "linux")]
fn alone() -> std::io::Result<Alone> {
    Alone::check()
}

#[cfg(not(target_os = "linux"))]
fn alone() -> std::io::Result<Alone> {
    // SAFETY: this process is at the very top of `main`. There is no way to ask whether the program has started
    // threads before, which the documentation of `ForkServerEntry` rules out.
    Ok(unsafe { Alone::promised() })
}
