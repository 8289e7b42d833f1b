//! Seeded worlds: the machine against a model of links and processes in which everything that can happen
//! does, in any order that the laws allow. A failing world prints its seed; `world(SEED)` replays it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

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
    /// All workers were told to end.
    forced: bool,
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
    came_back: u64,
    steps: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.finished += other.finished;
        self.cancelled += other.cancelled;
        self.lost += other.lost;
        self.broken += other.broken;
        self.doomed += other.doomed;
        self.came_back += other.came_back;
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
            on_worker_loss: if rng.chance(15) { OnWorkerLoss::Break } else { OnWorkerLoss::Replace },
            restart_limit: RestartLimit { failures: 2 + rng.below(4) as u32, ..RestartLimit::default() },
            start_deadline: Duration::from_secs(10),
            stop_grace: Duration::from_secs(5),
            cores: 1 + rng.below(4),
            certain_ends: rng.chance(80),
        };
        let revocable = rng.chance(70);
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
            forced: false,
            broken: false,
            closed: false,
        }
    }

    fn feed(&mut self, input: Input) {
        self.machine.handle(input, self.now);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(order) = self.machine.poll() {
            assert!(!self.closed, "{order:?} after Close");
            match order {
                Output::Spawn(id) => self.spawning.push(id),
                Output::Send(id, seq, call) => {
                    let process = self.processes.get_mut(&id).expect("sent to a worker that was started");
                    assert!(process.ready, "sent to a worker that is not ready");
                    if process.alive {
                        process.inbox.push_back((seq, call));
                    }
                }
                Output::Revoke(id, seq) => {
                    let claim = self.revoke(id, seq);
                    self.machine.handle(Input::Answered(id, seq, claim), self.now);
                }
                Output::Settle(call, how) => {
                    match how {
                        How::Lost(id) if self.revocable && !self.forced => {
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
                        How::Lost(_) => self.tally.lost += 1,
                        How::Doomed(..) => self.tally.doomed += 1,
                        How::Broken => self.tally.broken += 1,
                    }
                    self.settle(call);
                }
                Output::Stop(id) => {
                    let process = self.processes.get_mut(&id).expect("stopped a worker that was started");
                    assert!(process.inbox.is_empty() || self.revocable, "stopped a worker that has calls");
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
        assert!(self.machine.workers() <= self.config.max_workers, "no more workers than allowed");
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
                worker.state == State::Live && behind.count() > 0
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
        if let Some(max) = self.config.max_tasks_per_child {
            let ran = |process: &Process| process.started.len() as u64;
            assert!(self.processes.values().all(|process| ran(process) <= max), "too many calls at a worker");
        }
    }

    /// Mostly none.
    fn limits(&mut self) -> Limits {
        let mut limit = |percent| self.rng.chance(percent).then(|| Duration::from_micros(self.rng.next() % 6000));
        Limits { run: limit(10), total: limit(5) }
    }

    /// Something that a user does.
    fn user(&mut self) {
        match self.rng.below(100) {
            0..70 => {
                let limits = self.limits();
                if let Some(call) = self.machine.submit(limits, self.now) {
                    if limits != Limits::default() {
                        self.bounded.insert(call);
                    }
                    self.open.insert(call, self.runs.len());
                    self.runs.push(0);
                    self.settled.push(0);
                } else {
                    assert_ne!(self.machine.phase(), Phase::Running);
                }
                self.carry_out();
            }
            70..80 => {
                let nth = self.rng.below(self.open.len());
                if let Some((&call, _)) = self.open.iter().nth(nth) {
                    self.bounded.insert(call);
                    self.machine.kill(call, self.now);
                    self.carry_out();
                }
            }
            80..96 => {
                let nth = self.rng.below(self.open.len());
                if let Some((&call, &name)) = self.open.iter().nth(nth) {
                    let step = self.machine.cancel(call, self.now);
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
                self.feed(Input::ShutdownCalled { cancel_pending });
            }
            _ => {
                self.forced = true;
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
        } else if let Some((seq, call)) = process.inbox.pop_front() {
            process.started.push(seq);
            process.running = Some((seq, call));
            if let Some(name) = self.open.get(&call) {
                self.runs[*name] += 1;
                assert_eq!(self.runs[*name], 1, "a call runs at most once");
            }
        } else if process.stopping && process.replies.is_empty() {
            process.alive = false;
            self.feed(Input::WorkerLeft(id));
        } else {
            self.replies(id);
        }
    }

    fn replies(&mut self, id: WorkerId) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let replies = std::mem::take(&mut process.replies);
        for seq in replies {
            let took = Duration::from_micros(self.rng.next() % 2000);
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
    }

    fn run(&mut self) {
        for _ in 0..self.rng.below(120) {
            match self.rng.below(10) {
                0..4 => self.user(),
                4..9 => self.world(false),
                _ => self.pass_time(),
            }
        }
        self.feed(Input::ShutdownCalled { cancel_pending: false });
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
    let seen = [tally.finished, tally.cancelled, tally.lost, tally.broken, tally.doomed, tally.came_back];
    assert!(seen.iter().all(|count| *count > WORLDS / 10), "the worlds are too quiet: {tally:?}");
}
