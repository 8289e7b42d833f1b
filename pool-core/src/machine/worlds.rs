//! Seeded worlds: the machine against a model of links and processes in which everything that can happen
//! does, in any order that the laws allow. A failing world prints its seed; `world(SEED)` replays it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::workers::AHEAD;
use super::*;

/// How many worlds one run of the suite visits.
const WORLDS: u64 = 120_000;

/// A small generator (xorshift64*), so that a seed means the same world for ever.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// A worker's process and link, as they really are.
#[derive(Debug, Default)]
struct Process {
    /// Quicker than the call that starts it, which may still fail.
    unreturned: bool,
    ready: bool,
    alive: bool,
    stopping: bool,
    /// It has said goodbye, and may have something to do yet.
    left: bool,
    /// Frames on their way to it.
    inbox: VecDeque<(Seq, WorkId)>,
    running: Option<(Seq, WorkId)>,
    /// Frames on their way back.
    replies: VecDeque<Seq>,
    started: Vec<Seq>,
    /// It ended by itself, or by a user's order for all workers.
    misfortune: bool,
    exit_reported: bool,
    close_reported: bool,
    close_ordered: bool,
}

struct World {
    rng: Rng,
    machine: Machine,
    config: Config,
    revocable: bool,
    now: Duration,
    processes: BTreeMap<WorkerId, Process>,
    /// What the machine will be told about spawns it has ordered.
    spawning: Vec<WorkerId>,
    /// Unsettled calls, by the identity the world gives them.
    open: BTreeMap<WorkId, usize>,
    /// For each call: how often its body began, and how often it was settled.
    runs: Vec<u32>,
    settled: Vec<u32>,
    tally: Tally,
    /// Calls that are bounded, or were killed.
    bounded: BTreeSet<WorkId>,
    has_priorities: bool,
    has_keys: bool,
    /// Of the calls that have one; and of each the call that began last.
    keys: BTreeMap<WorkId, u64>,
    begun: BTreeMap<u64, usize>,
    priorities: BTreeMap<WorkId, i32>,
    /// How often a call may run.
    runs_max: Vec<u32>,
    /// Calls that are to end by themselves, and were at a worker.
    called_off: BTreeSet<WorkId>,
    /// When the first of the shutdowns with a timeout loses its patience.
    patience: Option<Duration>,
    broken: bool,
    closed: bool,
}

/// What happened; worlds in which nothing does would prove nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    finished: u64,
    cancelled: u64,
    lost: u64,
    broken: u64,
    doomed: u64,
    stopped: u64,
    came_back: u64,
    repeated: u64,
    steps: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.finished += other.finished;
        self.cancelled += other.cancelled;
        self.lost += other.lost;
        self.broken += other.broken;
        self.doomed += other.doomed;
        self.stopped += other.stopped;
        self.came_back += other.came_back;
        self.repeated += other.repeated;
        self.steps += other.steps;
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let max_workers = 1 + rng.below(4);
        let config = Config {
            max_workers,
            call_queue_bound: 1 + rng.below(max_workers + 1),
            window_max: 2 + rng.below(12),
            max_tasks_per_child: rng.chance(25).then(|| 1 + rng.below(3) as u64),
            idle_timeout: rng.chance(20).then(|| Duration::from_micros(rng.next() % 6000)),
            min_workers: rng.below(3),
            on_worker_loss: if rng.chance(15) { OnWorkerLoss::Break } else { OnWorkerLoss::Replace },
            restart_limit: RestartLimit { failures: 2 + rng.below(4) as u32, ..RestartLimit::default() },
            start_deadline: Duration::from_secs(10),
            stop_grace: Duration::from_secs(5),
            exit_grace: rng.chance(30).then(|| Duration::from_micros(rng.next() % 4000)),
            cores: 1 + rng.below(4),
            certain_ends: rng.chance(80),
        };
        let revocable = rng.chance(70);
        let has_priorities = rng.chance(30);
        let has_keys = rng.chance(30);
        Self {
            machine: Machine::new(config),
            config,
            revocable,
            rng,
            now: Duration::ZERO,
            processes: BTreeMap::new(),
            spawning: Vec::new(),
            open: BTreeMap::new(),
            runs: Vec::new(),
            settled: Vec::new(),
            tally: Tally::default(),
            bounded: BTreeSet::new(),
            has_priorities,
            has_keys,
            keys: BTreeMap::new(),
            begun: BTreeMap::new(),
            priorities: BTreeMap::new(),
            runs_max: Vec::new(),
            called_off: BTreeSet::new(),
            patience: None,
            broken: false,
            closed: false,
        }
    }

    fn feed(&mut self, input: Input) {
        self.machine.handle(input, self.now);
        self.carry_out();
    }

    /// Of the calls that are queued none has a higher priority than one that has just been sent.
    fn check_order(&self, known: usize) {
        let priority = |call: &WorkId| self.priorities.get(call).copied().unwrap_or_default();
        let Some(first) = self.machine.items.queued().iter().map(priority).max() else { return };
        // What was kept for a worker that leaves has come to the queue after some of these.
        if self.machine.out.iter().any(|order| matches!(order, Output::Stop(_))) {
            return;
        }
        for order in self.machine.out.iter().skip(known) {
            if let Output::Send(_, _, call) = order {
                assert!(priority(call) >= first, "{call:?} is sent, though one of priority {first} waits");
            }
        }
    }

    fn carry_out(&mut self) {
        self.check_order(0);
        while let Some(order) = self.machine.poll() {
            assert!(!self.closed, "{order:?} after Close");
            match order {
                Output::Spawn(id) => self.spawning.push(id),
                Output::Send(id, seq, call) => {
                    let process = self.processes.get_mut(&id).expect("sent to a worker that was started");
                    assert!(process.ready, "sent to a worker that is not ready");
                    assert!(!self.called_off.contains(&call), "nobody wants it any more");
                    if process.alive {
                        process.inbox.push_back((seq, call));
                    }
                }
                Output::Revoke(id, seq) => {
                    let (claim, known) = (self.revoke(id, seq), self.machine.out.len());
                    self.machine.handle(Input::Answered(id, seq, claim), self.now);
                    self.check_order(known);
                }
                Output::Settle(call, how) => {
                    match how {
                        How::Stopped(StopCause::OverTime(_), _) => {
                            assert!(self.patience.is_some_and(|at| at <= self.now), "ended before its time");
                        }
                        How::Lost(id) | How::LostAgain(id, _) if self.revocable => {
                            assert!(
                                self.processes[&id].misfortune,
                                "a neighbour of a call that was killed is lost"
                            );
                        }
                        How::Doomed(..) => assert!(self.bounded.contains(&call), "the wrong call is doomed"),
                        _ => {}
                    }
                    match how {
                        How::Cancelled => self.tally.cancelled += 1,
                        How::Lost(_) | How::LostAgain(..) => self.tally.lost += 1,
                        How::Stopped(..) => self.tally.stopped += 1,
                        How::Doomed(..) => self.tally.doomed += 1,
                        How::Broken => self.tally.broken += 1,
                    }
                    self.settle(call);
                }
                Output::Stop(id) => {
                    let process = self.processes.get_mut(&id).expect("stopped a worker that was started");
                    let is_forced = self.machine.phase() == Phase::Stopping;
                    assert!(
                        process.inbox.is_empty() || self.revocable || is_forced,
                        "stopped a worker that has calls"
                    );
                    process.stopping = true;
                }
                Output::Signal(id, signal) => {
                    let ignores = signal == Signal::Terminate && self.rng.chance(30);
                    match self.processes.get_mut(&id) {
                        Some(process) if !ignores => process.alive = false,
                        Some(_) => {}
                        // Not started yet: the spawn is called off, or the process is killed as it appears.
                        None => assert!(self.spawning.contains(&id), "signal to nobody"),
                    }
                }
                Output::CloseLink(id) => {
                    if let Some(process) = self.processes.get_mut(&id) {
                        process.close_ordered = true;
                    }
                }
                Output::Left(id, _) => {
                    assert!(self.processes.contains_key(&id) || self.spawning.contains(&id), "it has left twice");
                }
                Output::Forget(id) => {
                    self.processes.remove(&id);
                    self.spawning.retain(|spawning| *spawning != id);
                }
                Output::Break(_) => self.broken = true,
                Output::Close => self.closed = true,
                Output::StartTimedOut(_) | Output::Alarm => {}
            }
        }
        self.check();
    }

    fn revoke(&mut self, id: WorkerId, seq: Seq) -> Claim {
        if !self.revocable {
            return Claim::Unknown;
        }
        let process = self.processes.get_mut(&id).expect("revoked at a worker that was started");
        if process.started.contains(&seq) {
            return Claim::Started;
        }
        self.tally.came_back += 1;
        process.inbox.retain(|(queued, _)| *queued != seq);
        Claim::Revoked
    }

    fn settle(&mut self, call: WorkId) {
        let call = self.open.remove(&call).expect("settled a call that was open");
        self.settled[call] += 1;
        assert_eq!(self.settled[call], 1, "a call is settled once");
    }

    fn check(&self) {
        assert_eq!(self.open.len(), self.machine.unsettled(), "the machine knows every open call");
        let excess = self.machine.workers.iter().filter(|worker| worker.excess && worker.state == State::Live);
        let stay = self.machine.workers() - excess.inspect(|worker| assert!(!worker.sent.is_empty())).count();
        assert!(stay <= self.config.max_workers, "no more workers than allowed");
        if !self.revocable {
            let waiting: usize =
                self.machine.workers.iter().map(|worker| worker.sent.len().saturating_sub(1)).sum();
            assert!(waiting <= self.config.call_queue_bound, "the call queue's bound is exceeded");
            assert!(waiting == 0 || self.config.certain_ends, "a call beyond reach was sent ahead");
        }
        if let Some(at) = self.machine.next_doom() {
            let known = self.machine.known_doom;
            assert!(known.is_some_and(|known| known <= at), "nobody looks at {at:?}, but at {known:?}");
        }
        for worker in &self.machine.workers {
            let window = self.config.window_max.max(2);
            assert!(worker.sent.len() <= window, "the window is exceeded");
        }
        // No order is open here, so nothing can be on its way that would put an idle worker to use.
        if self.revocable && self.machine.phase().works() && !self.machine.idle.is_empty() {
            // A worker starts calls in order: what is before one that has started is not waiting.
            let waits = |worker: &&Worker| {
                let behind = worker.sent.iter().skip(1).rev().take_while(|sent| !sent.started);
                worker.state == State::Live && behind.filter(|sent| !sent.tied).count() > 0
            };
            let waiting = self.machine.workers.iter().find(waits);
            // Unless they are done before another is awake; and that is looked into.
            let is_known = self.machine.look_at.is_some() && self.machine.deadline() <= self.machine.look_at;
            assert!(
                waiting.is_none() || is_known,
                "calls wait at {waiting:?} while {:?} are idle",
                self.machine.idle
            );
            let pending = self.machine.items.pending();
            assert!(pending == 0 || is_known, "calls are pending while a worker is idle");
        }
        let count = |state: State| self.machine.workers.iter().filter(|worker| worker.state == state).count();
        let (preparing, reserve) = (count(State::Preparing), count(State::Reserve));
        assert!(preparing + reserve <= self.config.max_workers, "more successors than workers");
        // A pool that is to break waits for what it learns of the worker that is gone.
        let is_wanted = self.config.on_worker_loss == OnWorkerLoss::Replace && self.machine.lacks_worker();
        assert!(
            preparing + reserve == 0 || !is_wanted,
            "a successor waits, and there is a place: {:?}",
            self.machine
        );
        if self.revocable && self.machine.phase().works() && !self.machine.items.is_plain() {
            for worker in self.machine.workers.iter().filter(|worker| worker.state == State::Live) {
                let waits = worker.sent.iter().skip(1).rev().take_while(|sent| !sent.started).count() > 0;
                let is_long = worker.pace.is_none_or(|pace| pace * worker.sent.len() as u32 >= AHEAD);
                assert!(!waits || !is_long, "calls wait behind a long one, and cannot be overtaken: {worker:?}");
                assert!(!waits || self.machine.look_at.is_some(), "nobody looks whether {worker:?} takes long");
            }
        }
        for worker in self.machine.workers.iter().filter(|worker| self.machine.ties.kept(worker.id, 1) > 0) {
            let is_idle = worker.state == State::Live && worker.sent.is_empty();
            let works = self.machine.phase().works() && worker.state != State::Leaving;
            assert!(works && !is_idle, "calls are kept for {worker:?} in vain");
        }
        if let Some(max) = self.config.max_tasks_per_child {
            let ran = |process: &Process| process.started.len() as u64;
            assert!(self.processes.values().all(|process| ran(process) <= max), "too many calls at a worker");
        }
    }

    /// Mostly the usual one.
    fn treatment(&mut self) -> Treatment {
        let mut limit = |percent| self.rng.chance(percent).then(|| Duration::from_micros(self.rng.next() % 6000));
        let limits = Limits { run: limit(10), total: limit(5), soft: limit(5) };
        let is_urgent = self.has_priorities && self.rng.chance(50);
        let priority = if is_urgent { self.rng.below(5) as i32 - 2 } else { 0 };
        let is_sticky = self.has_keys && self.rng.chance(60);
        let key = is_sticky.then(|| self.rng.below(4) as u64);
        Treatment { limits, priority, key }
    }

    fn resize(&mut self) {
        let max_workers = 1 + self.rng.below(5);
        let call_queue_bound = max_workers + EXTRA_QUEUED_CALLS;
        if self.machine.phase().works() {
            self.config.max_workers = max_workers;
            // What was sent before is not taken back.
            self.config.call_queue_bound = self.config.call_queue_bound.max(call_queue_bound);
        }
        self.feed(Input::Resized { max_workers, call_queue_bound });
    }

    /// Mostly none.
    fn attempts(&mut self) -> Option<Attempts> {
        self.rng.chance(15).then(|| Attempts {
            again: self.rng.below(4) as u32,
            losses_max: self.rng.below(4) as u32,
            over_time: self.rng.chance(50),
            pause_min: Duration::from_micros(self.rng.next() % 3000),
            pause_max: Duration::from_millis(5),
        })
    }

    /// Something that a user does.
    fn user(&mut self) {
        match self.rng.below(100) {
            0..70 => {
                let treatment = self.treatment();
                let priority = match treatment.key {
                    Some(key) => self.machine.ties.priority(key, treatment.priority),
                    None => treatment.priority,
                };
                if let Some(call) = self.machine.submit(&treatment, self.now) {
                    if treatment.limits != Limits::default() {
                        self.bounded.insert(call);
                    }
                    self.priorities.insert(call, priority);
                    self.keys.extend(treatment.key.map(|key| (call, key)));
                    self.open.insert(call, self.runs.len());
                    self.runs.push(0);
                    self.settled.push(0);
                    let attempts = self.attempts();
                    self.runs_max.push(1 + attempts.map_or(0, |attempts| attempts.again));
                    if let Some(attempts) = attempts {
                        self.machine.may_repeat(call, attempts);
                    }
                } else {
                    assert_ne!(self.machine.phase(), Phase::Running);
                }
                self.carry_out();
            }
            70..80 => {
                let nth = self.rng.below(self.open.len());
                if self.rng.chance(20) {
                    self.resize();
                } else if let Some((&call, _)) = self.open.iter().nth(nth) {
                    self.bounded.insert(call);
                    self.machine.kill(call, self.now);
                    self.carry_out();
                }
            }
            80..96 => {
                let nth = self.rng.below(self.open.len());
                if let Some((&call, &name)) = self.open.iter().nth(nth) {
                    let step = if self.rng.chance(60) {
                        self.machine.cancel(call, self.now)
                    } else {
                        let grace = self.rng.chance(60).then(|| Duration::from_micros(self.rng.next() % 6000));
                        if let Some(Place::Sent(..)) = self.machine.place(call) {
                            self.called_off.insert(call);
                        }
                        self.bounded.extend(grace.map(|_| call));
                        self.machine.call_off(call, grace, self.now)
                    };
                    self.carry_out();
                    if let Cancel::Revoke(id, seq) = step {
                        let claim = self.revoke(id, seq);
                        self.feed(Input::Answered(id, seq, claim));
                        assert_eq!(claim == Claim::Revoked, self.settled[name] == 1, "revoked is cancelled");
                    }
                }
            }
            96..98 => {
                let cancel_pending = self.rng.chance(50);
                let ladder = self.rng.chance(60).then(|| {
                    let mut time = || Duration::from_micros(self.rng.next() % 8000);
                    Ladder { timeout: time(), grace: time() }
                });
                if let Some(at) = ladder.map(|ladder| self.now + ladder.timeout) {
                    self.patience = Some(self.patience.map_or(at, |known| known.min(at)));
                }
                self.feed(Input::ShutdownCalled { cancel_pending, ladder });
            }
            98 => self.feed(Input::Interrupted),
            _ => {
                let signal = if self.rng.chance(50) { Signal::Kill } else { Signal::Terminate };
                self.feed(Input::ForceCalled(signal));
            }
        }
    }

    /// Something that the world does by itself. `kind`: no new misfortunes.
    fn world(&mut self, kind: bool) {
        let nth = self.rng.below(self.spawning.len() + self.processes.len());
        if nth < self.spawning.len() {
            let id = self.spawning.remove(nth);
            if !kind && self.rng.chance(15) {
                let transient = self.rng.chance(50);
                self.feed(Input::SpawnFailed { worker: id, transient });
            } else {
                let unreturned = self.rng.chance(20);
                self.processes.insert(id, Process { alive: true, unreturned, ..Process::default() });
            }
            return;
        }
        let Some(id) = self.processes.keys().nth(nth - self.spawning.len()).copied() else { return };
        let choice = self.rng.below(100);
        let process = self.processes.get_mut(&id).expect("chosen from the table");
        if !process.alive {
            return self.after_death(id);
        }
        if process.unreturned && self.rng.chance(20) {
            process.unreturned = false;
            if !kind && self.rng.chance(30) {
                self.start_fails(id);
            }
        } else if !kind && choice < 6 {
            (process.alive, process.misfortune) = (false, true);
        } else if !process.ready {
            process.ready = true;
            match choice {
                6..10 if !kind => self.feed(Input::InitializerFailed(id)),
                10..20 if !kind => self.feed(Input::WorkerUnusable(id)),
                _ => self.feed(Input::WorkerReady(id, self.revocable.then_some(16))),
            }
        } else if let Some((seq, _)) = process.running {
            process.running = None;
            process.replies.push_back(seq);
            if choice < 8 {
                self.feed(Input::WorkerWorn(id));
            }
        } else if let Some((seq, call)) = process.inbox.pop_front() {
            process.started.push(seq);
            process.running = Some((seq, call));
            if let Some(name) = self.open.get(&call).copied() {
                self.runs[name] += 1;
                assert!(self.runs[name] <= self.runs_max[name], "a call runs at most once, or as often as it may");
                self.check_key(id, call, name);
            }
        } else if process.left {
            process.alive = false;
        } else if process.stopping && process.replies.is_empty() {
            process.left = true;
            self.feed(Input::WorkerLeft(id));
        } else {
            self.replies(id);
        }
    }

    /// Calls of one key begin in the order of their submission, and not while another of them runs elsewhere.
    fn check_key(&mut self, worker: WorkerId, call: WorkId, name: usize) {
        let Some(key) = self.keys.get(&call).copied() else { return };
        let last = self.begun.get(&key).copied();
        self.begun.insert(key, last.map_or(name, |last| last.max(name)));
        // One that is made again comes when it has rested; it may be taken for lost before it has begun.
        let in_order = self.runs_max[name] > 1 || last.is_none_or(|last| last < name);
        assert!(in_order, "{name} begins after {last:?}, both of key {key}");
        for (id, process) in self.processes.iter().filter(|(id, process)| process.alive && **id != worker) {
            let running = process.running.and_then(|(_, call)| self.keys.get(&call));
            assert_ne!(running, Some(&key), "{id:?} is still at a call of key {key}");
        }
    }

    fn replies(&mut self, id: WorkerId) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let replies = std::mem::take(&mut process.replies);
        for seq in replies {
            let took = Duration::from_micros(self.rng.next() % 2000);
            if self.rng.chance(30) && self.machine.repeat(id, seq, took, self.now) {
                self.tally.repeated += 1;
                continue;
            }
            if let Some(call) = self.machine.result(id, seq, took) {
                self.tally.finished += 1;
                self.settle(call);
            }
        }
        self.machine.refill(id, self.now);
        self.carry_out();
    }

    /// The start of a worker fails that was up already. There is no process then whose end could be told.
    fn start_fails(&mut self, worker: WorkerId) {
        let process = self.processes.get_mut(&worker).expect("chosen from the table");
        (process.alive, process.misfortune, process.exit_reported) = (false, true, true);
        let transient = self.rng.chance(50);
        self.feed(Input::SpawnFailed { worker, transient });
    }

    /// A dead worker's link drains and closes, and its exit is reported, in any order.
    fn after_death(&mut self, id: WorkerId) {
        let choice = self.rng.below(3);
        let process = self.processes.get_mut(&id).expect("chosen from the table");
        match choice {
            0 if process.unreturned => {
                process.unreturned = false;
                if self.rng.chance(50) {
                    self.start_fails(id);
                }
            }
            0 if !process.exit_reported => {
                process.exit_reported = true;
                self.feed(Input::Exited(id));
            }
            1 if !process.close_reported => {
                self.replies(id);
                if let Some(process) = self.processes.get_mut(&id) {
                    process.close_reported = true;
                    self.feed(Input::LinkClosed(id));
                }
            }
            _ => {}
        }
    }

    fn pass_time(&mut self) {
        self.now += Duration::from_micros(self.rng.next() % 3000);
        self.feed(Input::TimePassed);
        self.machine.await_deadline();
        self.check_rungs();
    }

    /// The clock has been looked at: whoever should have been told to end has been.
    fn check_rungs(&self) {
        if let Some(timeout) = self.config.idle_timeout.filter(|_| self.machine.phase().works()) {
            let rests = |worker: &&Worker| worker.state == State::Live && worker.sent.is_empty();
            let left = self.machine.workers.iter().find(rests);
            let may_stay = self.machine.count(State::Live) <= self.config.min_workers;
            let is_seen_to = self.machine.recycling.rest_at().is_some_and(|at| at <= self.now + timeout);
            assert!(left.is_none() || may_stay || is_seen_to, "{left:?} rests for ever");
        }
        if self.machine.phase() != Phase::Stopping {
            return;
        }
        let is_late = self.machine.rungs.next().is_some_and(|at| at <= self.now);
        assert!(!is_late, "nobody has climbed on");
        if self.machine.rungs.is_time_to_kill(self.now) {
            let spared = |worker: &&Worker| worker.state != State::Suspect && worker.told != Some(Signal::Kill);
            let spared = self.machine.workers.iter().find(spared);
            assert!(spared.is_none(), "{spared:?} lives on");
        }
    }

    fn run(&mut self) {
        for _ in 0..self.rng.below(120) {
            match self.rng.below(10) {
                0..4 => self.user(),
                4..9 => self.world(false),
                _ => self.pass_time(),
            }
        }
        self.feed(Input::ShutdownCalled { cancel_pending: false, ladder: None });
        // From here on the world is kind, so the pool has to come to its end.
        let mut patience = 20_000;
        while !self.closed {
            patience -= 1;
            self.tally.steps += 1;
            assert!(patience > 0, "the pool does not close: {:?}", self.machine);
            if self.rng.chance(90) {
                self.world(true);
            } else if let Some(deadline) = self.machine.await_deadline() {
                // Waiting for ever is not an option for the machine either, so time may jump, a bit.
                self.now = self.now.max(deadline.min(self.now + Duration::from_millis(200)));
                self.feed(Input::TimePassed);
                self.check_rungs();
            }
        }
        assert!(self.open.is_empty(), "every call is settled when the pool is closed");
        assert!(self.settled.iter().all(|times| *times == 1), "each call is settled exactly once");
        assert_eq!(self.machine.workers.len(), 0);
    }
}

fn world(seed: u64) -> Tally {
    let mut world = World::new(seed);
    world.run();
    world.tally
}

#[test]
fn in_every_world_each_call_settles_once_and_the_pool_closes() {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let visit = |thread: u64| {
        let mut tally = Tally::default();
        for seed in (thread..WORLDS).step_by(threads as usize) {
            let outcome = std::panic::catch_unwind(|| world(seed));
            tally.add(&outcome.unwrap_or_else(|_| panic!("the world of seed {seed} fails")));
        }
        tally
    };
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let visits: Vec<_> = (0..threads).map(|thread| scope.spawn(move || visit(thread))).collect();
        visits.into_iter().for_each(|visit| tally.add(&visit.join().expect("its panic is printed above")));
    });
    println!("{WORLDS} worlds: {tally:?}");
    // Everything that can become of a call became of many.
    let seen =
        [tally.finished, tally.cancelled, tally.lost, tally.broken, tally.doomed, tally.came_back, tally.repeated];
    let is_lively = seen.iter().all(|count| *count > WORLDS / 20) && tally.stopped > WORLDS / 30;
    assert!(is_lively, "the worlds are too quiet: {tally:?}");
}
