//! The worker's half: finds out whether this process is a worker, and takes what the parent sent.

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};

use pool_core::spawner::{Arrival, Entry};
use pool_core::transport::Ticket;

use crate::{MARKER, NAME};

/// Receives the ticket in a worker that [`Exec`](crate::Exec) has started.
///
/// A process is such a worker if the environment says so *and* its standard input carries the start message.
/// A program with rights that its starter does not have (set-user-id) never is.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExecEntry;

/// Set when this process has asked once: what was there is taken, and what was not will not come. From then on
/// standard input is not looked at again, which on Windows would wait for a thread that reads from it.
static ARRIVED: AtomicBool = AtomicBool::new(false);

impl Entry for ExecEntry {
    fn name(&self) -> &str {
        NAME
    }

    fn is_worker(&self) -> bool {
        // Any version of it: what to do about another one is for the start message to say.
        let marked = env::var(MARKER).is_ok_and(|mark| mark.split('/').next() == Some(NAME));
        marked && !ARRIVED.load(Ordering::Acquire) && !pool_os::is_elevated() && pool_os::is_ours()
    }

    fn stay(&self) {
        #[cfg(unix)]
        pool_os::parent_fds::make_room();
    }

    fn arrive(&self) -> Arrival {
        let is_worker = self.is_worker();
        ARRIVED.store(true, Ordering::Release);
        if !is_worker {
            return Arrival::NotAWorker;
        }
        match pool_os::arrive() {
            pool_os::Arrival::NotOurs => Arrival::NotAWorker,
            pool_os::Arrival::Unusable(why) => Arrival::Unusable(why),
            pool_os::Arrival::Parcel { parcel, last_words } => {
                Arrival::with(Ticket::unpack(&parcel.bytes, parcel.handles), |why| last_words.say(why))
            }
        }
    }
}
