//! The state machine, and a world without time or processes around it.

use std::collections::VecDeque;
use std::time::Duration;

use pool_core::WorkerId;
use pool_core::machine::{Config, How, Input, Machine, OnWorkerLoss, Output, RestartLimit, Treatment};
use pool_core::transport::{Claim, Seq};

/// Calls as short as those that pools are measured with.
const SHORT: Duration = Duration::from_micros(1);
/// Calls that are worth a wake-up of another worker.
const LONG: Duration = Duration::from_micros(100);
/// How many calls a link can take back at once.
const SLOTS: usize = 256;
const WARM: usize = 20;

/// Submits a call, and has its result, before the next.
pub(crate) fn calls(times: usize) {
    let mut world = World::new(SHORT);
    for _ in 0..WARM + times {
        world.submit(1);
        world.finish_all();
    }
    assert_eq!(world.settled, WARM + times);
}

/// Submits a thousand calls, then has their results.
pub(crate) fn batches(times: usize) {
    let mut world = World::new(SHORT);
    for _ in 0..WARM + times {
        world.submit(1000);
        world.finish_all();
    }
    assert_eq!(world.settled, 1000 * (WARM + times));
}

/// Submits calls, of which the first at one worker takes as long as all the others at the other.
pub(crate) fn steals(times: usize) {
    let mut world = World::new(LONG);
    for _ in 0..WARM + times {
        world.submit(64);
        let held = world.fullest();
        while let Some(other) = world.workers.iter().find(|worker| worker.id != held && !worker.calls.is_empty()) {
            world.finish_one(other.id);
        }
        world.finish_all();
    }
    assert_eq!(world.settled, 64 * (WARM + times));
    assert!(world.revoked >= WARM + times, "nothing was stolen");
}

/// Submits calls, kills the worker that has most of them, starts another one, and has the results.
pub(crate) fn losses(times: usize) {
    let mut world = World::new(LONG);
    for _ in 0..WARM + times {
        world.submit(8);
        let victim = world.fullest();
        world.feed(Input::LinkClosed(victim));
        world.feed(Input::Exited(victim));
        world.finish_all();
    }
    assert_eq!((world.settled, world.lost), (7 * (WARM + times), WARM + times));
}

/// A machine, two workers, and what they hold.
struct World {
    machine: Machine,
    now: Duration,
    /// How long each call takes.
    took: Duration,
    workers: Vec<Worker>,
    settled: usize,
    lost: usize,
    revoked: usize,
}

struct Worker {
    id: WorkerId,
    calls: VecDeque<Seq>,
}

impl World {
    fn new(took: Duration) -> Self {
        let config = Config {
            max_workers: 2,
            call_queue_bound: 3,
            window_max: SLOTS,
            max_tasks_per_child: None,
            idle_timeout: None,
            min_workers: 0,
            on_worker_loss: OnWorkerLoss::Replace,
            restart_limit: RestartLimit::default(),
            start_deadline: Duration::from_secs(10),
            stop_grace: Duration::from_secs(5),
            exit_grace: None,
            cores: 2,
            certain_ends: true,
        };
        let machine = Machine::new(config);
        Self { machine, now: Duration::from_secs(1), took, workers: Vec::new(), settled: 0, lost: 0, revoked: 0 }
    }

    fn submit(&mut self, count: usize) {
        for _ in 0..count {
            self.machine.submit(&Treatment::default(), self.now).expect("it runs");
            self.carry_out();
        }
    }

    fn feed(&mut self, fact: Input) {
        self.machine.handle(fact, self.now);
        self.carry_out();
    }

    /// Does what the machine orders, at once.
    fn carry_out(&mut self) {
        while let Some(order) = self.machine.poll() {
            match order {
                Output::Spawn(id) => {
                    self.workers.push(Worker { id, calls: VecDeque::new() });
                    self.machine.handle(Input::WorkerReady(id, Some(SLOTS)), self.now);
                }
                Output::Send(id, seq, _) => self.worker(id).calls.push_back(seq),
                Output::Revoke(id, seq) => {
                    let calls = &mut self.worker(id).calls;
                    // The first has started.
                    let at = calls.iter().position(|sent| *sent == seq).filter(|at| *at > 0);
                    let claim = at.map_or(Claim::Started, |_| Claim::Revoked);
                    at.map(|at| calls.remove(at));
                    self.revoked += usize::from(at.is_some());
                    self.machine.handle(Input::Answered(id, seq, claim), self.now);
                }
                Output::Settle(_, how) => {
                    assert!(matches!(how, How::Lost(_)), "nothing else happens here");
                    self.lost += 1;
                }
                Output::Forget(id) => self.workers.retain(|worker| worker.id != id),
                Output::Signal(..) | Output::CloseLink(_) | Output::Alarm => {}
                other => unreachable!("{other:?}"),
            }
        }
    }

    fn worker(&mut self, id: WorkerId) -> &mut Worker {
        self.workers.iter_mut().find(|worker| worker.id == id).expect("it is there")
    }

    fn fullest(&self) -> WorkerId {
        self.workers.iter().max_by_key(|worker| worker.calls.len()).expect("there is one").id
    }

    /// A worker answers the call whose turn it is.
    fn finish_one(&mut self, id: WorkerId) {
        let seq = self.worker(id).calls.pop_front().expect("it has one");
        self.now += self.took;
        self.settled += usize::from(self.machine.result(id, seq, self.took).is_some());
        self.machine.refill(id, self.now);
        self.carry_out();
    }

    /// The workers take turns until nothing is left.
    fn finish_all(&mut self) {
        while let Some(worker) = self.workers.iter().find(|worker| !worker.calls.is_empty()) {
            self.finish_one(worker.id);
            self.workers.rotate_left(1);
        }
        assert_eq!(self.machine.unsettled(), 0);
    }
}
