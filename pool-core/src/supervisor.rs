//! The supervisor: the one thread of a pool for what is slow or timed.
//!
//! It starts workers (so that they are children of a thread that lives as long as they do, which Linux's
//! parent-death signal asks for) and watches the clock. It owns the transport and the spawner, and frees
//! them when the pool is closed.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::call::discard;
use crate::driver::{Order, Pool};
use crate::error::StartError;
use crate::machine::Input;
use crate::slot::{Sink, Slot};
use crate::spawner::{ExitReport, OnExit, SpawnError, Spawner, is_shortage};
use crate::transport::{Ticket, Transport};
use crate::wire::{Envelope, Token};
use crate::worker;

pub(crate) struct Supervisor {
    pub(crate) pool: Arc<Pool>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) spawner: Box<dyn Spawner>,
    pub(crate) orders: Receiver<Order>,
}

impl Supervisor {
    /// Starts the thread.
    pub(crate) fn start(self) -> io::Result<()> {
        std::thread::Builder::new().name("pool-supervisor".to_owned()).spawn(move || self.run()).map(drop)
    }

    fn run(self) {
        // Whatever happens here, nobody waits for the end for ever. Dropped after `this`, and so after the
        // transport and the spawner.
        let _end = End(Arc::clone(&self.pool));
        let this = self;
        this.watch();
    }

    fn watch(&self) {
        while !self.pool.is_closed() {
            let deadline = self.pool.deadline();
            if deadline.is_some_and(|at| at <= Instant::now()) {
                self.pool.tell(Input::TimePassed);
                // Orders go before a deadline that is met again and again.
                if let Ok(order) = self.orders.try_recv() {
                    self.carry_out(order);
                }
                continue;
            }
            let order = match deadline {
                Some(at) => self.orders.recv_deadline(at),
                None => self.orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match order {
                Ok(order) => self.carry_out(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("invariant: the pool holds a sender"),
            }
        }
    }

    fn carry_out(&self, order: Order) {
        let Order::Spawn(slot) = order else { return };
        let mut slots = vec![slot];
        // Those that are wanted by now as well. (A `Look` among them is done by coming back to the loop.)
        let at_once = if self.pool.may_start_many() { AT_ONCE } else { 1 };
        while slots.len() < at_once
            && let Ok(order) = self.orders.try_recv()
        {
            match order {
                Order::Spawn(slot) => slots.push(slot),
                Order::Look => {}
            }
        }
        self.spawn(slots);
    }

    fn spawn(&self, slots: Vec<Arc<Slot>>) {
        let (mut opened, mut starts) = (Vec::with_capacity(slots.len()), Vec::with_capacity(slots.len()));
        for slot in slots {
            match self.open(&slot) {
                Ok(start) => {
                    opened.push(slot);
                    starts.push(start);
                }
                Err(error) => self.failed(&slot, error),
            }
        }
        let spawned = backend(|| self.spawner.spawn_many(starts)).unwrap_or_else(|source| {
            let error = Arc::new(SpawnError::Other { what: "start a worker", source });
            opened.drain(..).for_each(|slot| self.failed(&slot, StartError::Spawn(Arc::clone(&error))));
            Vec::new()
        });
        let mut started = spawned.into_iter();
        for slot in opened {
            match started.next() {
                Some(Ok(worker)) => {
                    if slot.set_worker(worker) {
                        self.pool.tell(Input::Exited(slot.id));
                    }
                }
                Some(Err(error)) => self.failed(&slot, StartError::Spawn(Arc::new(error))),
                None => {
                    let (what, source) = ("start several workers", io::Error::other("there is no result for it"));
                    self.failed(&slot, StartError::Spawn(Arc::new(SpawnError::Other { what, source })));
                }
            }
        }
    }

    fn failed(&self, slot: &Slot, error: StartError) {
        let (worker, transient) = (slot.id, is_transient(&error));
        slot.set_no_worker(error);
        self.pool.tell(Input::SpawnFailed { worker, transient });
    }

    /// Makes what a worker needs to be started.
    fn open(&self, slot: &Arc<Slot>) -> Result<(Ticket, OnExit), StartError> {
        let called_off = || StartError::Link(Arc::new(io::ErrorKind::Interrupted.into()));
        if slot.is_doomed() {
            return Err(called_off());
        }
        if self.pool.settings.same_image {
            // Remembered from here on. Asked for later, at a moment without a free descriptor, it would make our own
            // worker a stranger.
            pool_image::identity().map_err(|why| {
                let (what, source) = ("tell this program from others", io::Error::other(why));
                StartError::Spawn(Arc::new(SpawnError::Resources { what, source }))
            })?;
        }
        let token = random_token().map_err(|error| StartError::Link(Arc::new(error)))?;
        slot.set_token(token);
        let (pool, weak_slot) = (Arc::downgrade(&self.pool), Arc::downgrade(slot));
        let sink = Arc::new(Sink { pool: pool.clone(), slot: weak_slot.clone() });
        let opened = backend(|| self.transport.open(sink)).and_then(|opened| opened);
        let (link, mut ticket) = opened.map_err(|error| StartError::Link(Arc::new(error)))?;
        slot.set_link(link);
        ticket.bytes = Envelope::encode(&token, &ticket.bytes, &self.pool.terms(slot.id));
        let id = slot.id;
        let on_exit = Box::new(move |report: ExitReport| {
            if let Some((pool, slot)) = pool.upgrade().zip(weak_slot.upgrade())
                && slot.set_exit(report)
            {
                pool.tell(Input::Exited(id));
            }
        });
        Ok((ticket, on_exit))
    }
}

/// How many workers are started in one go. The first of them waits for the last, and each takes a few descriptors
/// until then.
const AT_ONCE: usize = 8;

/// Runs a backend, which may be a user's own: its panic must not end the thread that everything waits for.
fn backend<T>(f: impl FnOnce() -> T) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let message = worker::message(payload.as_ref());
        discard(payload);
        io::Error::other(format!("it panicked: {message}"))
    })
}

/// Tells, when the supervisor's own fields are dropped, that nothing of the pool is left.
struct End(Arc<Pool>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn is_transient(error: &StartError) -> bool {
    match error {
        StartError::Spawn(error) => error.is_transient(),
        // Called off: nobody waits for it.
        StartError::Link(error) => is_shortage(error) || error.kind() == io::ErrorKind::Interrupted,
        _ => false,
    }
}

fn random_token() -> io::Result<Token> {
    let mut token = Token::default();
    getrandom::fill(&mut token).map_err(|error| io::Error::other(NoRandomness(error)))?;
    Ok(token)
}

#[derive(Debug, thiserror::Error)]
#[error("no random numbers for a worker's token: {0}")]
struct NoRandomness(getrandom::Error);
