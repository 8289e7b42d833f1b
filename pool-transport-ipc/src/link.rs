//! The parent's end of a link, as the pool sees it.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use ipc_channel::ipc::{self, IpcReceiverSet, IpcSender};
use pool_core::transport::{Claim, Closed, Driven, Link, LinkCaps, LinkEvents, Outgoing, Seq, Ticket, Until};

use crate::flow::Limits;
use crate::out::Out;
use crate::receiver::Receiver;
use crate::rendezvous::{self, contained};
use crate::ticket::Address;
use crate::wire;

/// Opens a link: a server for the worker to connect to, and a thread that waits there, and then receives.
pub(crate) fn open(frame_max: usize, events: Arc<dyn LinkEvents>) -> io::Result<(Box<dyn Link>, Ticket)> {
    let (wake, woken) = contained(ipc::channel)??;
    let mut set = contained(IpcReceiverSet::new)??;
    contained(|| set.add::<()>(woken))??;
    let limits = contained(Limits::of_system)?;
    let mut secret = [0; _];
    getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
    let (server, name) = rendezvous::open()?;
    let line = Arc::new(Line {
        address: Address { frame_max, secret, name },
        events,
        out: Mutex::new(Out::new(limits)),
        phase: Mutex::new(Phase::Waiting),
        wake: Mutex::new(Some(wake)),
        ending: OnceLock::new(),
        is_dropped: AtomicBool::new(false),
    });
    let receiver = Receiver::new(Arc::clone(&line), set);
    let thread = thread::Builder::new().name("pool-ipc".to_owned()).spawn(move || receiver.run(server));
    if let Err(error) = thread {
        rendezvous::remove(&line.address.name);
        return Err(error);
    }
    let ticket = line.address.to_ticket();
    Ok((Box::new(IpcLink { line }), ticket))
}

/// The handle that the pool holds. Dropping it ends the link without a further event.
#[derive(Debug)]
struct IpcLink {
    line: Arc<Line>,
}

impl Link for IpcLink {
    fn caps(&self) -> LinkCaps {
        LinkCaps::new(self.line.address.frame_max)
    }

    fn send(&self, frame: Outgoing<'_>) {
        let (len, limit) = (frame.head.len() + frame.body.len(), self.line.address.frame_max);
        match wire::length(len, limit) {
            Some(length) => lock(&self.line.out).push(&length, frame.head, frame.body),
            None => self.line.end(Closed::Malformed(wire::too_long_to_send(len, limit))),
        }
    }

    fn flush(&self) {
        let sent = lock(&self.line.out).flush();
        self.line.judge(sent);
    }

    fn revoke(&self, _: Seq) -> Claim {
        Claim::Unknown
    }

    fn claim_state(&self, _: Seq) -> Claim {
        Claim::Unknown
    }

    fn close(&self) {
        self.line.end(Closed::Ours);
    }

    fn drive(&self, _: &Until<'_>) -> Driven {
        Driven::Unsupported
    }

    fn interrupt(&self) {}
}

impl Drop for IpcLink {
    fn drop(&mut self) {
        self.line.is_dropped.store(true, Ordering::Release);
        lock(&self.line.out).shut();
        self.line.look();
    }
}

/// Who tells of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody has connected, so nothing can have arrived: whoever ends the link, whatever the thread does, which
    /// may be in the hands of a stranger who has connected and says nothing.
    Waiting,
    /// The thread, when it has delivered what has arrived.
    Connected,
    /// It is told.
    Over,
}

/// One link, as the handle and the thread share it.
pub(crate) struct Line {
    pub(crate) address: Address,
    pub(crate) events: Arc<dyn LinkEvents>,
    pub(crate) out: Mutex<Out>,
    phase: Mutex<Phase>,
    /// Wakes the thread where it receives. Used up by the first use: the end comes once.
    wake: Mutex<Option<IpcSender<()>>>,
    /// Why the link is to end, once it is. The first reason counts.
    ending: OnceLock<Closed>,
    is_dropped: AtomicBool,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("frame_max", &self.address.frame_max).finish_non_exhaustive()
    }
}

impl Line {
    pub(crate) fn is_dropped(&self) -> bool {
        self.is_dropped.load(Ordering::Acquire)
    }

    /// Somebody has connected, or nobody will: false if the link is over already, else the thread tells of the
    /// end from now on.
    pub(crate) fn take_over(&self) -> bool {
        let mut phase = lock(&self.phase);
        if *phase == Phase::Over {
            return false;
        }
        *phase = Phase::Connected;
        true
    }

    /// Tells of the end. For the thread, after it has given up its own end.
    pub(crate) fn finish(&self, why: Closed) {
        *lock(&self.phase) = Phase::Over;
        lock(&self.out).shut();
        drop(lock(&self.wake).take());
        let why = self.ending.get_or_init(|| why);
        if !self.is_dropped() {
            self.events.closed(why.clone());
        }
    }

    /// Ends the link if sending has failed for another reason than the worker's death.
    pub(crate) fn judge(&self, sent: io::Result<()>) {
        if let Err(error) = sent {
            self.end(Closed::Io(format!("cannot send to the worker: {error}")));
        }
    }

    /// Why the link ends, if anybody has said so.
    pub(crate) fn ending(&self) -> Option<Closed> {
        self.ending.get().cloned()
    }

    fn end(&self, why: Closed) {
        // An error means that the link is ending already: the first reason counts.
        let _ = self.ending.set(why);
        lock(&self.out).shut();
        self.look();
    }

    /// Makes somebody look at `ending` and `is_dropped`: the thread, or this one if the thread waits for a worker.
    fn look(&self) {
        let mut phase = lock(&self.phase);
        match *phase {
            Phase::Waiting => {
                *phase = Phase::Over;
                drop(phase);
                rendezvous::knock(&self.address.name);
                rendezvous::remove(&self.address.name);
                self.finish(Closed::Ours);
            }
            Phase::Connected => {
                drop(phase);
                if let Some(wake) = lock(&self.wake).take() {
                    // Dropping it would do on most systems; see `Header::is_end`.
                    let _ = contained(|| wake.send(()));
                }
            }
            Phase::Over => {}
        }
    }
}

/// Locks a mutex of this crate. None is held while foreign code runs, so nothing half-changed can be found.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
