//! How workers end, what becomes of their calls, and when the pool gives up.
//!
//! A worker is *gone* when its link has delivered its last event and its process has ended; the first of
//! the two makes it suspect and brings about the other. Only then is it certain which of its calls were
//! answered, and only then are the others looked at: one that it had started is lost with it, the rest go
//! back to the queue.

use std::time::Duration;

use super::workers::{STALLED, State};
use super::{BreakCause, GONE_WITHIN, How, Machine, OnWorkerLoss, Output, Phase};
use crate::WorkerId;
use crate::spawner::Signal;

impl Machine {
    /// The worker announced its end, or the pool knows of it.
    pub(super) fn expect_end(&mut self, id: WorkerId) {
        if let Some(worker) = self.worker_mut(id) {
            worker.expected = true;
        }
    }

    /// The worker said goodbye. What it has to do yet has a time of its own.
    pub(super) fn left(&mut self, id: WorkerId, now: Duration) {
        self.expect_end(id);
        let (grace, kill_at) = (self.config.exit_grace, self.rungs.kill_at());
        let Some((worker, grace)) = self.worker_mut(id).zip(grace) else { return };
        // One that is being terminated has no time to spare.
        if worker.state == State::Leaving && worker.told.is_none() {
            let at = now.saturating_add(grace);
            worker.deadline = Some(kill_at.map_or(at, |kill_at| at.min(kill_at)));
            self.out.push_back(Output::Alarm);
        }
    }

    /// Tells a worker with nothing to do to leave. Whether calls have waited for it, which now are for anybody.
    pub(super) fn stop(&mut self, index: usize, now: Duration) -> bool {
        let grace = self.config.stop_grace;
        self.set_state(index, State::Leaving);
        let worker = &mut self.workers[index];
        worker.expected = true;
        worker.deadline = Some(now.saturating_add(grace));
        let id = worker.id;
        self.idle.retain(|idle| *idle != id);
        self.out.extend([Output::Stop(id), Output::Alarm]);
        self.release(id)
    }

    pub(super) fn unusable(&mut self, id: WorkerId, now: Duration) {
        self.suspect(id, now);
        self.out.extend([Output::Signal(id, Signal::Kill), Output::CloseLink(id)]);
    }

    pub(super) fn link_closed(&mut self, id: WorkerId, now: Duration) {
        let Some(worker) = self.worker_mut(id) else { return };
        worker.link_closed = true;
        let (announced, exited) = (worker.state == State::Leaving, worker.exited);
        if !announced {
            self.suspect(id, now);
        }
        // A leaving worker ends by itself; its grace is counted already.
        if !announced && !exited {
            self.out.push_back(Output::Signal(id, Signal::Kill));
        }
        self.gone(id, now);
    }

    pub(super) fn exited(&mut self, id: WorkerId, now: Duration) {
        let Some(worker) = self.worker_mut(id) else { return };
        worker.exited = true;
        let closed = worker.link_closed;
        self.suspect(id, now);
        if !closed {
            self.out.push_back(Output::CloseLink(id));
        }
        self.gone(id, now);
    }

    /// Nothing more is sent to this worker, and the rest of its end is awaited, not for ever.
    pub(super) fn suspect(&mut self, id: WorkerId, now: Duration) {
        let Some(index) = self.index(id) else { return };
        if self.workers[index].state == State::Suspect {
            return;
        }
        self.set_state(index, State::Suspect);
        let worker = &mut self.workers[index];
        worker.deadline = Some(now + GONE_WITHIN);
        worker.over_at = None;
        self.idle.retain(|idle| *idle != id);
        self.out.push_back(Output::Alarm);
        if self.config.on_worker_loss == OnWorkerLoss::Replace {
            self.order_workers(now);
        }
    }

    /// If link and process are both at their end, looks into what the worker held.
    fn gone(&mut self, id: WorkerId, now: Duration) {
        let Some(index) = self.index(id) else { return };
        let worker = &mut self.workers[index];
        if !worker.is_gone() {
            return;
        }
        worker.deadline = None;
        let unannounced = !worker.expected;
        for sent in &mut worker.sent {
            // What is known to have started needs no question, but its answer comes in sequence.
            (sent.asked, sent.started) = (false, false);
        }
        if unannounced && self.config.on_worker_loss == OnWorkerLoss::Break && self.phase.works() {
            self.give_up(BreakCause::WorkerLost(id), now);
        } else {
            self.ask_back(index, usize::MAX);
        }
        self.forget_if_empty(id, now);
    }

    /// The last trace of a worker.
    pub(super) fn forget_if_empty(&mut self, id: WorkerId, now: Duration) {
        let Some(index) = self.index(id) else { return };
        if !self.workers[index].sent.is_empty() {
            return;
        }
        let worker = self.remove_worker(index);
        self.idle.retain(|idle| *idle != id);
        self.note_end(id, worker.is_up, worker.told);
        self.out.push_back(Output::Forget(id));
        let is_missed = self.release(id);
        if !worker.fruitful && !worker.expected {
            self.failed(id, now);
        }
        if is_missed {
            self.dispatch(now);
        }
        self.order_workers(now);
        self.settle_phase(now);
    }

    pub(super) fn spawn_failed(&mut self, id: WorkerId, transient: bool, now: Duration) {
        let Some(index) = self.index(id) else { return };
        if !self.workers[index].sent.is_empty() {
            // It was up before its start had returned, and its link has an end of its own. What it was sent ahead may
            // be with a process of which nobody knows.
            self.workers[index].presumed = true;
            return self.exited(id, now);
        }
        let worker = self.remove_worker(index);
        self.idle.retain(|idle| *idle != id);
        self.out.push_back(Output::Forget(id));
        let is_missed = self.release(id);
        if worker.fruitful || worker.expected {
            // It was in time for some calls, or was called off.
        } else if transient {
            // Others may free what ran out; until then the pool goes on with fewer workers, or, having
            // none, tries again until the start deadline.
            self.last_failed = Some(id);
            self.back_off(now);
        } else {
            self.failed(id, now);
        }
        if is_missed {
            self.dispatch(now);
        }
        self.order_workers(now);
        self.settle_phase(now);
    }

    /// A worker came to nothing.
    fn failed(&mut self, id: WorkerId, now: Duration) {
        self.failures += 1;
        self.last_failed = Some(id);
        self.back_off(now);
        // With a worker that works the pool goes on, however long that one takes for its call: what the others lack,
        // a thread say, may be there later.
        let has_none = self.count(State::Live) == 0;
        if self.failures >= self.config.restart_limit.failures && self.phase.works() && has_none {
            self.give_up(BreakCause::TooManyFailures(id), now);
        }
    }

    /// Pauses before the next start. What was under way when a pause began does not make it longer: it failed for
    /// the same reason.
    fn back_off(&mut self, now: Duration) {
        self.has_stumbled = true;
        if now < self.spawn_after {
            return;
        }
        let limit = self.config.restart_limit;
        let doubled = limit.backoff_min.saturating_mul(1 << self.stumbles.min(20));
        self.stumbles += 1;
        self.spawn_after = now.saturating_add(doubled.min(limit.backoff_max));
        self.out.push_back(Output::Alarm);
    }

    /// When a pool that wants workers and gets none gives up.
    pub(super) fn episode_end(&self) -> Option<Duration> {
        if !self.phase.works() || self.items.unsettled() == 0 || self.count(State::Live) > 0 {
            return None;
        }
        self.failing_since.map(|since| since.saturating_add(self.config.start_deadline))
    }

    /// Breaks the pool: every call is settled now, every worker is killed.
    pub(super) fn give_up(&mut self, cause: BreakCause, now: Duration) {
        self.phase = Phase::Broken;
        self.out.push_back(Output::Break(cause));
        for id in self.items.all() {
            self.settle_without(id, How::Broken);
        }
        for worker in &mut self.workers {
            worker.sent.clear();
        }
        self.rungs.kill_by(now);
        self.end_all(now);
        // Those that are gone were kept for the answers about their calls, which nobody waits for any more.
        let gone: Vec<_> = self.workers.iter().filter(|worker| worker.is_gone()).map(|worker| worker.id).collect();
        gone.into_iter().for_each(|id| self.forget_if_empty(id, now));
        self.settle_phase(now);
    }

    /// Moves on to the next phase when nothing holds the pool in this one.
    pub(super) fn settle_phase(&mut self, now: Duration) {
        if self.phase == Phase::Draining && self.items.unsettled() == 0 {
            self.phase = Phase::Stopping;
            for index in 0..self.workers.len() {
                match self.workers[index].state {
                    State::Live | State::Reserve => drop(self.stop(index, now)),
                    State::Starting | State::Preparing => self.cancel_start(index, now),
                    State::Leaving | State::Suspect => {}
                }
            }
        }
        if matches!(self.phase, Phase::Stopping | Phase::Broken) && self.workers.is_empty() {
            assert!(self.items.unsettled() == 0, "invariant: without workers every call is settled");
            self.phase = Phase::Closed;
            self.out.push_back(Output::Close);
        }
    }

    pub(super) fn time_passed(&mut self, now: Duration) {
        let due = |deadline: Option<Duration>| deadline.is_some_and(|at| at <= now);
        let late: Vec<_> = self
            .workers
            .iter()
            .filter(|worker| due(worker.deadline))
            .map(|worker| (worker.id, worker.state))
            .collect();
        for (id, state) in late {
            match state {
                State::Starting | State::Preparing => {
                    self.out.push_back(Output::StartTimedOut(id));
                    self.unusable(id, now);
                }
                State::Leaving => {
                    if let Some(worker) = self.worker_mut(id) {
                        worker.told = Some(Signal::Kill);
                    }
                    self.suspect(id, now);
                    self.out.push_back(Output::Signal(id, Signal::Kill));
                }
                // Killed long ago, and nothing was heard: a process that the kernel cannot end, or a
                // backend that broke its word. Nobody waits for it any longer.
                State::Suspect => {
                    if let Some(worker) = self.worker_mut(id) {
                        worker.presumed = !worker.exited;
                    }
                    self.link_closed(id, now);
                    self.exited(id, now);
                }
                State::Live | State::Reserve => {}
            }
        }
        self.climb(now);
        if due(self.look_at) {
            // The wish for it has been heard; it goes on as long as there is something to look at.
            self.rescue(now);
            self.dispatch(now);
            self.look_at = self.stalls_at().map(|at| at.max(now + STALLED / 2));
        }
        self.wake_rested(now);
        self.doom_late(now);
        if due(self.recycling.rest_at()) {
            self.end_rest(now);
        }
        if due(self.episode_end()) {
            self.give_up(BreakCause::NoWorkerInTime(self.last_failed), now);
        }
        self.order_workers(now);
    }
}
