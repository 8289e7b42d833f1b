//! The parent's end of a link, as the pool sees it.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use pool_core::transport::{Claim, Closed, Driven, Link, LinkCaps, LinkEvents, Outgoing, Seq, Ticket, Until};

use crate::flow::Limits;
use crate::out::Out;
use crate::receiver;
use crate::rendezvous::{self, Door, Wake};
use crate::ticket::Address;
use crate::wire;

/// Opens a link: a server for the worker to connect to, and a thread that waits there, and then receives.
pub(crate) fn open(frame_max: usize, events: Arc<dyn LinkEvents>) -> io::Result<(Box<dyn Link>, Ticket)> {
    let limits = Limits::of_system()?;
    let (wake, woken) = rendezvous::wake_up_call()?;
    let mut secret = [0; _];
    getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
    let (server, door, name) = rendezvous::open()?;
    let line = Arc::new(Line {
        address: Address { frame_max, secret, name },
        door,
        events,
        out: Mutex::new(Out::new(limits)),
        phase: Mutex::new(Phase::Waiting),
        phase_changed: Condvar::new(),
        wake: Mutex::new(Some(wake)),
        ending: OnceLock::new(),
        is_dropped: AtomicBool::new(false),
    });
    let receiving = Arc::clone(&line);
    let thread = thread::Builder::new().name("pool-ipc".to_owned());
    let thread = thread.spawn(move || receiver::run(receiving, woken, server));
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
        LinkCaps::new(self.line.address.frame_max).asks(true)
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

    fn ask_to_stop(&self, seq: Seq) -> bool {
        let asked = lock(&self.line.out).ask(seq);
        let is_heard = *asked.as_ref().unwrap_or(&false);
        self.line.judge(asked.map(drop));
        is_heard
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
        self.line.drop_link();
    }
}

/// How far a link has come, and with that who tells of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The thread waits for the worker.
    Waiting,
    /// Somebody has connected, and the thread tells of the end when it has delivered what has arrived.
    Connected,
    /// It is told, or nobody wants to know.
    Over,
}

/// How long the thread gets to find out who has connected, once the link is to end. It takes microseconds, unless
/// a stranger has connected who says nothing: ipc-channel waits for ever then.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// One link, as the handle and the thread share it.
pub(crate) struct Line {
    pub(crate) address: Address,
    door: Door,
    pub(crate) events: Arc<dyn LinkEvents>,
    pub(crate) out: Mutex<Out>,
    phase: Mutex<Phase>,
    phase_changed: Condvar,
    /// Wakes the thread where it receives: the end comes once.
    wake: Mutex<Option<Wake>>,
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

    /// Somebody has connected, or nobody will: false if the link is over already.
    pub(crate) fn take_over(&self) -> bool {
        self.advance(Phase::Connected)
    }

    /// Tells of the end. For the thread, after it has given up its own end.
    pub(crate) fn finish(&self, why: Closed) {
        if !self.advance(Phase::Over) {
            return;
        }
        lock(&self.out).shut();
        self.wake();
        let why = match (self.ending.get(), why) {
            // Closed because the worker is gone, who went because of this.
            (Some(Closed::Ours), why @ Closed::Io(_)) => why,
            (Some(first), _) => first.clone(),
            (None, why) => why,
        };
        // If somebody wants it to end only now, it has.
        let _ = self.ending.set(why.clone());
        if !self.is_dropped() {
            self.events.closed(why);
        }
    }

    fn advance(&self, to: Phase) -> bool {
        let mut phase = lock(&self.phase);
        let was_over = *phase == Phase::Over;
        if !was_over {
            *phase = to;
            self.phase_changed.notify_all();
        }
        !was_over
    }

    /// Ends the link if sending has failed for another reason than the worker's death.
    pub(crate) fn judge(self: &Arc<Self>, sent: io::Result<()>) {
        if let Err(error) = sent {
            self.end(Closed::Io(format!("cannot send to the worker: {error}")));
        }
    }

    /// Why the link ends, if anybody has said so.
    pub(crate) fn ending(&self) -> Option<Closed> {
        self.ending.get().cloned()
    }

    fn end(self: &Arc<Self>, why: Closed) {
        // The first reason counts, and has done what there is to do.
        if self.ending.set(why).is_err() {
            return;
        }
        lock(&self.out).shut();
        if *lock(&self.phase) == Phase::Waiting {
            // The worker may have connected just now, and even sent something: the thread is to see for itself.
            self.end_the_wait();
        } else {
            self.wake();
        }
    }

    /// Makes the thread, which waits for a worker, stop that; and ends the link without it if it does not.
    fn end_the_wait(self: &Arc<Self>) {
        self.door.knock();
        // Now, not by the thread: the process may be about to exit.
        rendezvous::remove(&self.address.name);
        let line = Arc::clone(self);
        if thread::Builder::new().name("pool-ipc-end".to_owned()).spawn(move || line.give_up()).is_err() {
            self.finish(Closed::Ours);
        }
    }

    /// Waits for the thread a little, then ends the link without it.
    fn give_up(&self) {
        let phase = lock(&self.phase);
        let is_waiting = |phase: &mut Phase| *phase == Phase::Waiting;
        let phase = self.phase_changed.wait_timeout_while(phase, LAST_CHANCE, is_waiting);
        let (phase, timeout) = phase.unwrap_or_else(PoisonError::into_inner);
        drop(phase);
        if timeout.timed_out() {
            self.finish(Closed::Ours);
        }
    }

    /// The handle is gone, and nobody wants to know of anything any more.
    fn drop_link(self: &Arc<Self>) {
        self.is_dropped.store(true, Ordering::Release);
        lock(&self.out).shut();
        let mut phase = lock(&self.phase);
        if *phase == Phase::Waiting {
            *phase = Phase::Over;
            self.phase_changed.notify_all();
            drop(phase);
            self.door.knock();
            rendezvous::remove(&self.address.name);
        } else {
            drop(phase);
            self.wake();
        }
    }

    /// Makes the thread, which receives, look at `ending` and `is_dropped`.
    pub(crate) fn wake(&self) {
        if let Some(wake) = lock(&self.wake).take() {
            wake.wake();
        }
    }
}

/// Locks a mutex of this crate. None is held while foreign code runs, so nothing half-changed can be found.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
