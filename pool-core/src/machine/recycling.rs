//! Workers that are let go: after so many calls, when they have grown too large, or when there is nothing for them to
//! do. And their successors, which are there by then.
//!
//! A worker whose calls are soon used up has its successor started meanwhile. That one is ready, and waits: it gets no
//! call before there is a place for it, so no more workers are at calls than there may be.

use std::time::Duration;

use super::workers::{State, Worker};
use super::{Machine, Output};
use crate::WorkerId;

/// What there is to know for it.
#[derive(Debug, Default)]
pub(super) struct Recycling {
    /// About how long a worker takes from its order until it is ready.
    start_takes: Option<Duration>,
    /// When to look for workers that have had nothing to do for too long.
    rest_at: Option<Duration>,
}

impl Recycling {
    pub(super) fn rest_at(&self) -> Option<Duration> {
        self.rest_at
    }

    /// A worker is ready, so long after it was ordered.
    pub(super) fn learn_start(&mut self, took: Duration) {
        self.start_takes = Some(self.start_takes.map_or(took, |known| (known * 3 + took) / 4));
    }
}

impl Worker {
    /// Whether it may run no more than it has.
    fn is_spent(&self) -> bool {
        self.is_worn || self.allowance == Some(0)
    }

    /// Whether it will have run its last call by the time that another is ready.
    fn is_soon_spent(&self, start_takes: Duration) -> bool {
        let Some(left) = self.allowance else { return false };
        if self.state != State::Live || self.sent.is_empty() || self.excess {
            return false;
        }
        let calls = u32::try_from(left.saturating_add(self.sent.len() as u64)).unwrap_or(u32::MAX);
        // Twice: what is there too early waits, what is there too late is waited for.
        left == 0 || self.pace.is_some_and(|pace| pace.saturating_mul(calls) <= start_takes * 2)
    }
}

impl Machine {
    /// A worker that has run its last call leaves, and so does one too many.
    pub(super) fn retire(&mut self, id: WorkerId, now: Duration) {
        let Some(index) = self.index(id) else { return };
        let worker = &self.workers[index];
        let is_done = worker.is_spent() || worker.excess;
        if is_done && worker.sent.is_empty() && worker.state == State::Live && self.stop(index, now) {
            self.dispatch(now);
        }
    }

    /// A worker has grown too large: what it runs is its last call.
    pub(super) fn worn(&mut self, id: WorkerId, now: Duration) {
        let Some(index) = self.index(id) else { return };
        self.workers[index].is_worn = true;
        if self.workers[index].state == State::Live && self.workers[index].revocable.is_some() {
            self.ask_back(index, usize::MAX);
        }
        self.retire(id, now);
        self.order_workers(now);
    }

    /// Starts successors, and gives them places that are free. True if there are calls to hand out.
    #[inline(never)]
    pub(super) fn see_to_successors(&mut self, now: Duration) -> bool {
        self.order_successors(now);
        self.promote_successors()
    }

    /// Starts the successors of those that will leave soon.
    pub(super) fn order_successors(&mut self, now: Duration) {
        let there = self.count(State::Preparing) + self.count(State::Reserve);
        let start_takes = self.recycling.start_takes.unwrap_or_default();
        let soon = self.workers.iter().filter(|worker| worker.is_soon_spent(start_takes)).count();
        let soon = soon.min(self.config.max_workers);
        if soon <= there || !self.phase.works() || now < self.spawn_after || self.has_open_question() {
            return;
        }
        for _ in there..soon {
            self.order_worker(State::Preparing, now);
        }
    }

    /// Gives a place that is free to a successor: to one that is ready, or will be. True if there are calls to hand out.
    pub(super) fn promote_successors(&mut self) -> bool {
        let mut promoted = false;
        while self.lacks_worker()
            && let Some(worker) = self.promote()
        {
            promoted |= self.idle.contains(&worker);
        }
        promoted
    }

    /// Gives a place to a successor, if there is one.
    pub(super) fn promote(&mut self) -> Option<WorkerId> {
        let of = |state: State| move |worker: &Worker| worker.state == state;
        if let Some(index) = self.workers.iter().position(of(State::Reserve)) {
            self.set_state(index, State::Live);
            self.idle.push(self.workers[index].id);
            return Some(self.workers[index].id);
        }
        let index = self.workers.iter().position(of(State::Preparing))?;
        self.set_state(index, State::Starting);
        Some(self.workers[index].id)
    }

    /// A worker has nothing to do: somebody looks whether that is still so when it has been for too long.
    #[inline]
    pub(super) fn note_rest(&mut self, now: Duration) {
        if self.config.idle_timeout.is_some() && self.recycling.rest_at.is_none() {
            self.recycling.rest_at = self.config.idle_timeout.and_then(|timeout| now.checked_add(timeout));
            self.out.push_back(Output::Alarm);
        }
    }

    /// Lets those go that have had nothing to do for too long, but for so many as are to stay.
    pub(super) fn end_rest(&mut self, now: Duration) {
        self.recycling.rest_at = None;
        let Some(timeout) = self.config.idle_timeout.filter(|_| self.phase.works()) else { return };
        let mut resting: Vec<_> = self.workers.iter().filter(|worker| self.rests(worker)).collect();
        resting.sort_by_key(|worker| worker.progress);
        let resting: Vec<_> =
            resting.into_iter().map(|worker| (worker.id, worker.progress.saturating_add(timeout))).collect();
        for (id, until) in resting {
            let Some(index) = self.index(id) else { continue };
            // A successor is one too many as long as it waits.
            let may_go =
                self.workers[index].state == State::Reserve || self.count(State::Live) > self.config.min_workers;
            if !may_go {
                continue;
            }
            let is_live = self.workers[index].state == State::Live;
            if is_live && self.workers() <= self.config.max_workers.min(self.wanted()) {
                // Another would take its place at once. Nothing else may ask for a further look.
                self.recycling.rest_at = now.checked_add(timeout);
                continue;
            }
            if until > now {
                self.recycling.rest_at = Some(until);
                self.out.push_back(Output::Alarm);
                return;
            }
            if self.stop(index, now) {
                self.dispatch(now);
            }
        }
    }

    fn rests(&self, worker: &Worker) -> bool {
        match worker.state {
            State::Live => worker.sent.is_empty(),
            State::Reserve => true,
            State::Starting | State::Preparing | State::Leaving | State::Suspect => false,
        }
    }
}
