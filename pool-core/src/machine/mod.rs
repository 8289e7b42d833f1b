//! The pool's state machine: facts in, orders out.
//!
//! Knows nothing of threads, clocks, descriptors, payloads or backends: it handles ids, and is told the
//! time. Its driver is the module `driver`. The one rule for whoever holds it: after every call of a
//! method that takes `now`, [`poll`](Machine::poll) until it returns `None`, and carry the orders out in
//! that sequence.
//!
//! Facts about one worker come in the order in which they happened; facts about different workers, and
//! answers to orders, in any. A fact that comes too late to matter is ignored, never an error.
//!
//! - `items`: the pending items and their queue; `ranks`: calls that go before others there.
//! - `ties`: calls that are for the same worker as others.
//! - `workers`: the worker table.
//! - `dispatch`: who gets which call, who gives one back, when a worker is started.
//! - `size`: how many workers there may be, when that changes.
//! - `bounds`: calls that may not take as long as they like, and calls that are killed.
//! - `again`: calls that are made again when they fail.
//! - `ends`: how workers end, what becomes of their calls, and when to give up.
//! - `ladder`: how the pool ends, and how long that may take.
//! - `recycling`: workers that are let go while the pool lives, and their successors.

mod again;
mod bounds;
mod dispatch;
mod ends;
mod items;
mod ladder;
mod phase;
mod ranks;
mod recycling;
#[cfg(test)]
mod script;
mod size;
mod ties;
mod workers;
#[cfg(test)]
mod worlds;

use std::collections::VecDeque;
use std::time::Duration;

pub use self::again::Attempts;
pub use self::bounds::{Doom, Limits};
pub use self::items::{Place, WorkId};
pub use self::ladder::{Ladder, Left, StopCause};
pub use self::phase::Phase;

use self::bounds::Bounds;
use self::items::Items;
use self::ladder::Rungs;
use self::recycling::Recycling;
use self::ties::Ties;
use self::workers::{Census, State, Worker};
use crate::WorkerId;
use crate::spawner::Signal;
use crate::transport::{Claim, Seq};

/// One call more than there are workers may wait beyond the reach of `cancel`, so that no worker idles
/// between two calls. CPython's number and name; more would be more calls that cannot be cancelled.
pub const EXTRA_QUEUED_CALLS: usize = 1;

/// A call that was sent again this often after its worker died when its turn was next is lost at the next
/// death: it may be what kills them.
const RESENDS_MAX: u8 = 2;

/// A suspect worker's exit and its link's end are waited for this long, then taken for granted.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// What becomes of the pool when a worker is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnWorkerLoss {
    /// Only the call it was running fails; another worker takes its place.
    #[default]
    Replace,
    /// As in CPython: every unsettled call fails and the pool is broken.
    Break,
}

/// How often, and how fast, workers that come to nothing are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartLimit {
    /// This many workers in a row that ended without having settled a single call break the pool, unless it has
    /// others that are ready or running calls.
    pub failures: u32,
    /// The pause before the next start after the first such failure; it doubles with each further one.
    pub backoff_min: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
}

impl Default for RestartLimit {
    /// 5 in a row; pauses from 10 ms to 1 s.
    fn default() -> Self {
        Self { failures: 5, backoff_min: Duration::from_millis(10), backoff_max: Duration::from_secs(1) }
    }
}

/// What the machine is told once.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The most workers at a time; at least 1.
    pub max_workers: usize,
    /// The most calls that are sent, unstarted and not revocable.
    pub call_queue_bound: usize,
    /// The most calls at one worker of a revocable link.
    pub window_max: usize,
    /// Calls after which a worker is replaced.
    pub max_tasks_per_child: Option<u64>,
    /// How long a worker may have nothing to do before it is let go.
    pub idle_timeout: Option<Duration>,
    /// So many workers are not let go for that.
    pub min_workers: usize,
    /// What a lost worker means.
    pub on_worker_loss: OnWorkerLoss,
    /// When to give up.
    pub restart_limit: RestartLimit,
    /// How long a worker may take to become ready, and the pool to have one that is.
    pub start_deadline: Duration,
    /// How long a worker that was told to stop may take before it is killed.
    pub stop_grace: Duration,
    /// How long a worker may take from its goodbye to its end before it is killed, if it has something to do then.
    pub exit_grace: Option<Duration>,
    /// How many workers can run at a time: the cores there are for them.
    pub cores: usize,
    /// The kernel tells when a worker has ended. Where nobody can be sure of that, calls beyond the reach of `cancel`
    /// are not sent ahead: they would be lost with a worker that is only given up.
    pub certain_ends: bool,
}

/// How a call is to be treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Treatment {
    /// How long it may take.
    pub limits: Limits,
    /// Calls of a higher one go first.
    pub priority: i32,
    /// Calls with the same one are for the same worker, one after the other.
    pub key: Option<u64>,
}

/// A fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The worker takes calls; so many of them can be revoked, if the link can do that.
    WorkerReady(WorkerId, Option<usize>),
    /// The worker was not started; or it was, is up even, and could not be kept. `transient`: the attempt may succeed
    /// later.
    SpawnFailed {
        /// Which.
        worker: WorkerId,
        /// Whether something ran out that others may free.
        transient: bool,
    },
    /// The worker is there, and cannot be used: the handshake failed, or it broke the rules.
    WorkerUnusable(WorkerId),
    /// The worker's initializer failed.
    InitializerFailed(WorkerId),
    /// The worker said goodbye: what ends next is no loss.
    WorkerLeft(WorkerId),
    /// The worker has grown too large: it is to get no other call.
    WorkerWorn(WorkerId),
    /// The answer to [`Output::Revoke`].
    Answered(WorkerId, Seq, Claim),
    /// Nothing more comes from the worker's link.
    LinkClosed(WorkerId),
    /// The worker's process has ended.
    Exited(WorkerId),
    /// `shutdown` was called.
    ShutdownCalled {
        /// Cancel what has not started.
        cancel_pending: bool,
        /// How long that may take, if not for ever.
        ladder: Option<Ladder>,
    },
    /// `interrupt` was called.
    Interrupted,
    /// `terminate_workers` or `kill_workers` was called.
    ForceCalled(Signal),
    /// `resize` was called.
    Resized {
        /// The most workers at a time from now on; at least 1.
        max_workers: usize,
        /// The most calls that are sent, unstarted and not revocable; at least 1.
        call_queue_bound: usize,
    },
    /// A deadline may have passed.
    TimePassed,
}

/// How an unsettled call ends without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Cancelled before it started.
    Cancelled,
    /// Lost with this worker, which may have started it.
    Lost(WorkerId),
    /// The same, and this worker is the last of so many.
    LostAgain(WorkerId, u32),
    /// It ran at this worker, which was ended together with the pool.
    Stopped(StopCause, WorkerId),
    /// Its time was up, or it was killed: with this worker, if it was at one.
    Doomed(Doom, Option<WorkerId>),
    /// The pool broke.
    Broken,
}

/// Why the pool gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakCause {
    /// A worker was lost, under [`OnWorkerLoss::Break`].
    WorkerLost(WorkerId),
    /// This worker was the last of too many in a row that came to nothing.
    TooManyFailures(WorkerId),
    /// No worker became ready in time; this is the last that failed, if any did.
    NoWorkerInTime(Option<WorkerId>),
    /// This worker's initializer failed.
    Initializer(WorkerId),
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Start a worker.
    Spawn(WorkerId),
    /// Send a call. Calls of one worker are sent in this sequence.
    Send(WorkerId, Seq, WorkId),
    /// Take a call back if it has not started, and answer.
    Revoke(WorkerId, Seq),
    /// Settle a call without a result.
    Settle(WorkId, How),
    /// Tell a worker that there is nothing more to do.
    Stop(WorkerId),
    /// Note that a worker took too long to become ready; it is killed next.
    StartTimedOut(WorkerId),
    /// Signal a worker.
    Signal(WorkerId, Signal),
    /// Close a worker's link: its process has ended.
    CloseLink(WorkerId),
    /// Note how a worker ended that was there when the pool came to its end; it is forgotten next.
    Left(WorkerId, Left),
    /// Drop everything that belongs to a worker: it is gone.
    Forget(WorkerId),
    /// Note why the pool is broken. Comes before the calls are settled.
    Break(BreakCause),
    /// Look at [`Machine::deadline`] again.
    Alarm,
    /// The pool is at its end.
    Close,
}

/// What asking to cancel a call led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// It is cancelled.
    Cancelled,
    /// It is at a worker: revoke it there, and feed the answer back.
    Revoke(WorkerId, Seq),
    /// It has started, is settled, or cannot be revoked.
    TooLate,
}

/// The pool's state.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    phase: Phase,
    items: Items,
    /// Of the calls that have limits, or are to be killed.
    bounds: Bounds,
    /// Of the calls that have a key.
    ties: Ties,
    /// When somebody will look for calls whose time is up.
    known_doom: Option<Duration>,
    /// Sorted by id: ids count up.
    workers: Vec<Worker>,
    /// How many of them are in which state.
    census: Census,
    /// Who got the last short call: the first to be looked at for the next one.
    last_quick: WorkerId,
    /// How long the calls that were answered last took each, at whichever worker.
    last_each: Duration,
    next_worker: u64,
    /// Live workers without calls; the one used last is used next, its caches are warm.
    idle: Vec<WorkerId>,
    /// However many more calls there were, none could be sent, nor a worker started, until something happens.
    stuck: bool,
    /// A call that comes back from a worker is cancelled, not queued.
    cancel_returned: bool,
    rungs: Rungs,
    recycling: Recycling,
    /// Workers in a row that came to nothing.
    failures: u32,
    /// The same, and failed attempts to start one, for the length of the next pause.
    stumbles: u32,
    /// Whether there ever was one of either.
    has_stumbled: bool,
    /// No worker may be ordered before.
    spawn_after: Duration,
    /// Since when workers are being ordered without one being ready.
    failing_since: Option<Duration>,
    last_failed: Option<WorkerId>,
    last_rescue: Duration,
    /// When to look at those that have calls waiting while others are idle.
    look_at: Option<Duration>,
    out: VecDeque<Output>,
}

impl Machine {
    /// A pool without calls and workers.
    ///
    /// # Panics
    /// If `max_workers` or `call_queue_bound` is zero: the builder refuses that.
    pub fn new(config: Config) -> Self {
        assert!(config.max_workers > 0 && config.call_queue_bound > 0, "invariant: refused by the builder");
        Self {
            config,
            phase: Phase::Running,
            items: Items::default(),
            bounds: Bounds::default(),
            ties: Ties::default(),
            known_doom: None,
            workers: Vec::new(),
            census: Census::default(),
            last_quick: WorkerId(0),
            last_each: Duration::MAX,
            next_worker: 0,
            idle: Vec::new(),
            stuck: false,
            cancel_returned: false,
            rungs: Rungs::default(),
            recycling: Recycling::default(),
            failures: 0,
            stumbles: 0,
            has_stumbled: false,
            spawn_after: Duration::ZERO,
            failing_since: None,
            last_failed: None,
            last_rescue: Duration::ZERO,
            look_at: None,
            out: VecDeque::new(),
        }
    }

    /// Where the pool is in its life.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The next order.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Accepts a call; `None` if the pool takes no more.
    pub fn submit(&mut self, treatment: &Treatment, now: Duration) -> Option<WorkId> {
        if self.phase != Phase::Running {
            return None;
        }
        if self.failing_since.is_some() && self.items.unsettled() == 0 {
            // Nobody has waited for a worker until now.
            self.failing_since = Some(now);
        }
        let priority = treatment.key.map_or(treatment.priority, |key| self.ties.priority(key, treatment.priority));
        if priority != 0 && self.items.is_plain() {
            self.keep_short(now);
        }
        let id = self.items.insert(priority);
        if let Some(key) = treatment.key {
            self.ties.insert(id, key, priority);
        }
        self.bound(id, treatment.limits, now);
        if !self.stuck {
            self.dispatch(now);
        }
        Some(id)
    }

    /// Notes that a worker answered the call it was sent as `seq`, which took so long, and says which that was.
    /// `None`: nobody waits for this answer. Call [`refill`](Self::refill) after the last answer at hand.
    pub fn result(&mut self, worker: WorkerId, seq: Seq, took: Duration) -> Option<WorkId> {
        let id = self.note_answer(worker, seq, took)?;
        let known = self.forget(id);
        debug_assert!(known, "invariant: a call at a worker is unsettled");
        Some(id)
    }

    /// Drops all that is kept of a call, which is settled; whether there was such a call.
    #[inline]
    fn forget(&mut self, id: WorkId) -> bool {
        self.bounds.remove(id);
        self.ties.remove(id);
        self.items.remove(id)
    }

    /// Takes a call that was answered from its worker.
    #[inline]
    fn note_answer(&mut self, worker: WorkerId, seq: Seq, took: Duration) -> Option<WorkId> {
        let worker = self.worker_mut(worker)?;
        let sent = worker.answered(seq)?;
        worker.settled += 1;
        worker.took += took;
        worker.fruitful = true;
        (self.failures, self.stumbles) = (0, 0);
        Some(sent.id)
    }

    /// Gives a worker that has answered its next calls.
    pub fn refill(&mut self, worker: WorkerId, now: Duration) {
        self.stuck = false;
        let window_max = self.config.window_max;
        self.look_at_first(worker, now);
        let mut last = self.last_each;
        let Some(found) = self.worker_mut(worker) else { return };
        found.learn(now, window_max, &mut last);
        let is_idle = found.sent.is_empty() && found.state == State::Live && !found.excess;
        if is_idle && !self.idle.contains(&worker) {
            self.idle.push(worker);
            self.note_rest(now);
        }
        self.last_each = last;
        if !self.items.is_plain() {
            self.keep_short_at(worker, now);
        }
        self.dispatch_to(worker, now);
        self.settle_phase(now);
    }

    /// Asks to cancel a call.
    pub fn cancel(&mut self, id: WorkId, now: Duration) -> Cancel {
        self.stuck = false;
        let Some(item) = self.items.get_mut(id) else { return Cancel::TooLate };
        match item.place {
            Place::Pending | Place::Kept(_) | Place::Resting => {
                self.settle_without(id, How::Cancelled);
                self.settle_phase(now);
                Cancel::Cancelled
            }
            Place::Sent(at, seq) => {
                let worker = self.worker_mut(at).expect("invariant: a sent call's worker is in the table");
                if worker.revocable.is_none() {
                    return Cancel::TooLate;
                }
                self.items.get_mut(id).expect("invariant: looked up above").cancelling = true;
                Cancel::Revoke(at, seq)
            }
        }
    }

    /// Where an unsettled call is.
    pub fn place(&self, id: WorkId) -> Option<Place> {
        self.items.get(id).map(|item| item.place)
    }

    /// How many calls are not settled.
    pub fn unsettled(&self) -> usize {
        self.items.unsettled()
    }

    /// How many workers are starting or live.
    pub fn workers(&self) -> usize {
        self.count(State::Starting) + self.count(State::Live)
    }

    /// Takes in a fact. Facts about a worker that is not in the table are late, and ignored.
    pub fn handle(&mut self, input: Input, now: Duration) {
        use Phase::{Broken, Closed, Draining, Running, Stopping};
        self.stuck = false;
        match (self.phase, input) {
            (Running | Draining, Input::WorkerReady(worker, revocable)) => {
                self.worker_ready(worker, revocable, now);
            }
            (Running | Draining, Input::WorkerWorn(worker)) => self.worn(worker, now),
            // It was told to end while it started, or anyhow; its end is awaited.
            (Stopping | Broken, Input::WorkerReady(..) | Input::WorkerWorn(_)) => {}
            (Running | Draining | Stopping | Broken, Input::SpawnFailed { worker, transient }) => {
                self.spawn_failed(worker, transient, now);
            }
            (Running | Draining | Stopping | Broken, Input::WorkerUnusable(worker)) => {
                self.unusable(worker, now);
            }
            (Running | Draining, Input::InitializerFailed(worker)) => {
                self.expect_end(worker);
                self.give_up(BreakCause::Initializer(worker), now);
            }
            (Stopping | Broken, Input::InitializerFailed(worker)) => self.expect_end(worker),
            (Running | Draining | Stopping | Broken, Input::WorkerLeft(worker)) => self.left(worker, now),
            (Running | Draining | Stopping, Input::Answered(worker, seq, claim)) => {
                self.answered(worker, seq, claim, now);
            }
            // Every call is settled already.
            (Broken, Input::Answered(..)) => {}
            (Running | Draining | Stopping | Broken, Input::LinkClosed(worker)) => {
                self.link_closed(worker, now);
            }
            (Running | Draining | Stopping | Broken, Input::Exited(worker)) => self.exited(worker, now),
            (Running | Draining | Stopping, Input::ShutdownCalled { cancel_pending, ladder }) => {
                self.shut_down(cancel_pending, ladder, now);
            }
            (Running | Draining | Stopping, Input::Interrupted) => self.interrupt(now),
            (Running | Draining | Stopping, Input::ForceCalled(signal)) => {
                let grace = if signal == Signal::Kill { Duration::ZERO } else { self.config.stop_grace };
                self.force(StopCause::Forced(signal), grace, now);
            }
            // What is left is being killed.
            (Broken, Input::ShutdownCalled { .. } | Input::Interrupted | Input::ForceCalled(_)) => {}
            (Running | Draining, Input::Resized { max_workers, call_queue_bound }) => {
                self.resize(max_workers, call_queue_bound, now);
            }
            // There will be no worker any more.
            (Stopping | Broken, Input::Resized { .. }) => {}
            (Running | Draining | Stopping | Broken, Input::TimePassed) => self.time_passed(now),
            // Nothing is left that a fact could be about.
            (Closed, _) => {}
        }
    }

    /// Whether workers may be started several at a time. One has to work first; and where something ran out,
    /// those that are half started would take from each other what one of them could have.
    pub fn may_start_many(&self) -> bool {
        !self.has_stumbled && self.count(State::Live) > 0
    }

    /// When to report [`Input::TimePassed`] at the latest.
    pub fn deadline(&self) -> Option<Duration> {
        let workers = self.workers.iter().filter_map(|worker| worker.deadline).min();
        let spawn = (self.wants_worker() && self.spawn_after > Duration::ZERO).then_some(self.spawn_after);
        let episode = self.episode_end();
        let (rest, rung) = (self.recycling.rest_at(), self.rungs.next());
        [workers, spawn, episode, self.look_at, self.next_doom(), rest, rung].into_iter().flatten().min()
    }

    /// The same, for the one who will look at the clock then: of limits that end earlier an [`Output::Alarm`] will tell.
    pub fn await_deadline(&mut self) -> Option<Duration> {
        self.known_doom = self.next_doom();
        self.deadline()
    }

    fn index(&self, id: WorkerId) -> Option<usize> {
        self.workers.binary_search_by_key(&id, |worker| worker.id).ok()
    }

    /// How many workers are in this state.
    fn count(&self, state: State) -> usize {
        self.census.count(state)
    }

    fn set_state(&mut self, index: usize, state: State) {
        let worker = &mut self.workers[index];
        self.census.leave(worker.state);
        worker.state = state;
        self.census.enter(state);
    }

    fn remove_worker(&mut self, index: usize) -> Worker {
        let worker = self.workers.remove(index);
        self.census.leave(worker.state);
        worker
    }

    fn worker(&self, id: WorkerId) -> Option<&Worker> {
        Some(&self.workers[self.index(id)?])
    }

    fn worker_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        let index = self.index(id)?;
        Some(&mut self.workers[index])
    }
}
