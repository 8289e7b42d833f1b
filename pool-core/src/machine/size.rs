//! How many workers there may be, when that changes.
//!
//! More are started as calls want them. Of those that are too many the idle ones leave at once, a start that nobody waits
//! for any more is called off, and one that is at a call leaves after it: what waits behind the call is taken back.

use std::time::Duration;

use super::workers::State;
use super::{Machine, Output};
use crate::WorkerId;
use crate::spawner::Signal;

impl Machine {
    /// From now on there may be so many.
    pub(super) fn resize(&mut self, max_workers: usize, call_queue_bound: usize, now: Duration) {
        assert!(max_workers > 0 && call_queue_bound > 0, "invariant: refused by the executor");
        (self.config.max_workers, self.config.call_queue_bound) = (max_workers, call_queue_bound);
        // One that was too many before, and has not left, may stay.
        self.workers.iter_mut().for_each(|worker| worker.excess = false);
        for id in self.too_many().into_iter().chain(self.too_many_successors()) {
            self.let_go(id, now);
        }
        self.dispatch(now);
    }

    /// Those that are to leave: idle ones first, with the fewest keys, idle for longest; then those ordered last; then those
    /// with the fewest calls.
    fn too_many(&self) -> Vec<WorkerId> {
        let count = self.workers().saturating_sub(self.config.max_workers);
        let in_state = |state| self.workers.iter().filter(move |worker| worker.state == state);
        let starting = in_state(State::Starting).rev().map(|worker| worker.id);
        let mut busy: Vec<_> = in_state(State::Live).filter(|worker| !self.idle.contains(&worker.id)).collect();
        busy.sort_by_key(|worker| worker.sent.len());
        let busy = busy.into_iter().map(|worker| worker.id);
        let mut idle = self.idle.clone();
        idle.sort_by_key(|worker| self.ties.keys(*worker));
        idle.into_iter().chain(starting).chain(busy).take(count).collect()
    }

    /// There are never more successors than workers.
    fn too_many_successors(&self) -> Vec<WorkerId> {
        let in_state = |state| self.workers.iter().filter(move |worker| worker.state == state);
        let count = self.count(State::Preparing) + self.count(State::Reserve);
        let successors = in_state(State::Preparing).chain(in_state(State::Reserve)).map(|worker| worker.id);
        successors.take(count.saturating_sub(self.config.max_workers)).collect()
    }

    fn let_go(&mut self, id: WorkerId, now: Duration) {
        let index = self.index(id).expect("invariant: it was found in the table");
        let worker = &mut self.workers[index];
        match worker.state {
            State::Live if worker.sent.is_empty() => drop(self.stop(index, now)),
            State::Live => {
                worker.excess = true;
                if worker.revocable.is_some() {
                    let count = worker.behind();
                    self.ask_back(index, count);
                }
            }
            State::Reserve => drop(self.stop(index, now)),
            State::Starting | State::Preparing => self.cancel_start(index, now),
            State::Leaving | State::Suspect => {}
        }
    }

    /// Nobody waits any more for a worker that is being started.
    pub(super) fn cancel_start(&mut self, index: usize, now: Duration) {
        let worker = &mut self.workers[index];
        worker.expected = true;
        let id = worker.id;
        self.suspect(id, now);
        self.out.push_back(Output::Signal(id, Signal::Kill));
    }
}
