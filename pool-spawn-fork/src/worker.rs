//! The forked worker, from the fork to the first thing it does for itself.

use pool_core::spawner::Arrival;
use pool_core::transport::Ticket;
use rustix::process::{Signal, getpid, getppid, kill_process};

use crate::hooks;
use crate::server::Forked;

/// Makes a worker of a process that has just been forked: takes what the parent sent, ties its life to the
/// parent's and to the server's, and renews what the fork has duplicated.
pub(crate) fn arrive(forked: Forked) -> Arrival {
    let Forked { socket, server } = forked;
    let (parcel, last_words) = match pool_os::arrive_over(socket) {
        pool_os::Arrival::Parcel { parcel, last_words } => (parcel, last_words),
        pool_os::Arrival::Unusable(why) => return Arrival::Unusable(why),
        pool_os::Arrival::NotOurs => return Arrival::Unusable("what came over the socket is not ours".to_owned()),
    };
    // From now on the kernel tells when the server dies. If it was dead before, this is somebody else's child.
    if getppid() != Some(server) {
        let _ = kill_process(getpid(), Signal::KILL);
    }
    let ticket = hooks::run().and_then(|()| Ticket::unpack(&parcel.bytes, parcel.handles));
    Arrival::with(ticket, |why| last_words.say(why))
}
