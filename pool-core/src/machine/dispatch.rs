//! Who gets which call, who gives one back, and when a worker is started.

use std::time::Duration;

use super::items::Place;
use super::workers::{AHEAD, HAND_OVER, STALLED, State, WAKE, Worker};
use super::{Doom, How, Machine, Output};
use crate::WorkerId;
use crate::transport::{Claim, Seq};

/// What is left for a short call, where idle workers would have to be woken.
enum Quick {
    /// This one has room for it.
    Roomy(WorkerId),
    /// Those that can run have enough to do, and are done with it soon: it waits until one has room.
    Full,
}

impl Machine {
    /// Does what a new call, or one that came back, makes possible.
    pub(super) fn dispatch(&mut self, now: Duration) {
        if !self.phase.works() {
            return;
        }
        while self.items.pending() > 0 {
            // One that is at short calls, and done with those it has before another is awake; an idle one; then, ahead
            // of time, any that is busy with short calls.
            let idle = self.idle.last().copied();
            let quick = idle.and_then(|_| self.quick(now));
            let worker = match quick {
                Some(Quick::Full) => None,
                Some(Quick::Roomy(worker)) => Some(worker),
                None => idle.or_else(|| self.roomy(now)),
            };
            let Some(worker) = worker.filter(|worker| self.send_some(*worker, now)) else { break };
            self.last_quick = worker;
        }
        self.watch_quick(now);
        self.order_workers(now);
        // What a worker may get, and whether one is started, depends on how many calls are pending only as long as these
        // are no more than there may be workers.
        self.stuck = self.items.pending() > self.config.max_workers + 1;
    }

    /// A worker that is at short calls, while another would have to be woken.
    fn quick(&self, now: Duration) -> Option<Quick> {
        let busy = self.busy();
        let look = |worker: &Worker| {
            let (count, limit) = (worker.sent.len(), self.quick_limit(worker, busy));
            if worker.state != State::Live || count == 0 || !worker.is_quick(count + 1, limit, now) {
                None
            } else if self.room(worker) > 0 {
                Some(Quick::Roomy(worker.id))
            } else {
                (count >= worker.window && limit == AHEAD).then_some(Quick::Full)
            }
        };
        let best = |proven: bool| {
            let found = self.workers.iter().filter(|worker| worker.proven == proven).filter_map(look);
            found.max_by_key(|quick| matches!(quick, Quick::Roomy(_)))
        };
        let last = self.worker(self.last_quick).filter(|worker| worker.proven).and_then(look);
        last.filter(|quick| matches!(quick, Quick::Roomy(_)))
            .or_else(|| best(true))
            .or_else(|| self.trusts(now).then(|| best(false)).flatten())
    }

    /// Whether the first call of a worker that was idle is believed to be as short as those before it. As long as there
    /// may be a core for another worker, it is not. Where as many have just been woken as can run, none of them has had
    /// the time to prove anything, and another would have to wait for a core just as the call does. For each call that
    /// has turned out to be long one more may be woken at a time: many of them are all at work after a few looks at the
    /// clock.
    fn trusts(&self, now: Duration) -> bool {
        let busy = self.busy();
        if busy < self.config.cores {
            return false;
        }
        // A worker that was asked for what waits there, and has started its first: the others may not have run since.
        let is_long = |worker: &&Worker| {
            worker.state == State::Live
                && worker.sent.front().is_some_and(|first| first.started)
                && worker.stalled(now)
        };
        let long = self.workers.iter().filter(is_long).count();
        busy.saturating_sub(long) >= self.config.cores + long
    }

    /// How many workers are at calls.
    fn busy(&self) -> usize {
        self.count(State::Live).saturating_sub(self.idle.len())
    }

    /// How much time worth of short calls is left to a busy worker while others are idle. Where every core has a worker
    /// that is busy, waking another would not have them done any sooner; and if handing a call over takes longer than
    /// running it, one of the cores is busy with that.
    fn quick_limit(&self, worker: &Worker, busy: usize) -> Duration {
        let taken = usize::from(worker.pace.is_some_and(|pace| pace < HAND_OVER));
        if busy + taken >= self.config.cores { AHEAD } else { WAKE }
    }

    /// Sees to it that somebody looks again, if calls wait for a worker while others are idle.
    fn watch_quick(&mut self, now: Duration) {
        if self.look_at.is_none() && self.stalls_at().is_some() {
            self.look_at = Some(now + STALLED);
            self.out.push_back(Output::Alarm);
        }
    }

    /// When the first of the calls that wait, while others are idle, wait for too long.
    pub(super) fn stalls_at(&self) -> Option<Duration> {
        if self.idle.is_empty() || !self.phase.works() {
            return None;
        }
        let waits =
            |worker: &&Worker| worker.revocable.is_some() && worker.state == State::Live && worker.waiting() > 0;
        self.workers.iter().filter(waits).map(Worker::stalls_at).min()
    }

    /// Does what a worker that has settled something makes possible.
    pub(super) fn dispatch_to(&mut self, worker: WorkerId, now: Duration) {
        if !self.phase.works() {
            return;
        }
        self.rescue(now);
        let Some(index) = self.index(worker) else { return };
        // Half a window is left to work on while the other half travels: fewer, larger sends.
        let found = &self.workers[index];
        let worth_it = found.sent.len() <= found.window / 2;
        let is_quick = found.proven && found.is_quick(found.sent.len(), AHEAD, now);
        if worth_it && self.items.pending() > 0 {
            self.send_some(worker, now);
        }
        if !self.idle.is_empty() {
            // As long as it is at short calls nothing has changed for those that are idle.
            if worth_it || !is_quick {
                self.dispatch(now);
            }
            self.steal(now);
        }
        self.retire(worker, now);
        self.order_workers(now);
    }

    pub(super) fn worker_ready(&mut self, id: WorkerId, revocable: Option<usize>, now: Duration) {
        let Some(index) = self.index(id) else { return };
        if self.workers[index].state != State::Starting {
            return;
        }
        self.set_state(index, State::Live);
        let worker = &mut self.workers[index];
        worker.deadline = None;
        worker.revocable = revocable;
        worker.progress = now;
        self.failing_since = None;
        self.idle.push(id);
        self.dispatch(now);
        self.steal(now);
    }

    /// A busy worker that may get calls ahead of time: the one with the fewest.
    fn roomy(&self, now: Duration) -> Option<WorkerId> {
        // A worker that is starting will want one of the waiting calls: do not tie them all to busy ones.
        let starting = self.count(State::Starting);
        if self.items.pending() <= starting {
            return None;
        }
        let can = |worker: &&Worker| {
            worker.state == State::Live
                && self.room(worker) > 0
                && worker.sent.len() <= worker.window / 2
                && !worker.stalled(now)
        };
        self.workers.iter().filter(can).min_by_key(|worker| worker.sent.len()).map(|worker| worker.id)
    }

    /// How many calls a worker may get: its own limits, and for calls beyond the reach of `cancel` the
    /// call queue's bound.
    fn room(&self, worker: &Worker) -> usize {
        let own = worker.room();
        if worker.revocable.is_some() {
            return own;
        }
        let queued: usize = self.workers.iter().map(Worker::beyond_reach).sum();
        assert!(queued <= self.config.call_queue_bound, "invariant: the call queue's bound holds");
        let first = usize::from(worker.sent.is_empty());
        if !self.config.certain_ends {
            return own.min(first);
        }
        // Sent ahead it would wait for the call before it, however long that takes, though a worker that is
        // starting, or could be started, has nothing else to do.
        let coming = self.count(State::Starting) + self.config.max_workers.saturating_sub(self.workers());
        if self.items.pending().saturating_sub(first) <= coming {
            return own.min(first);
        }
        // Beside its first, one call more at each busy worker is all that helps.
        let ahead = (2 - worker.sent.len().min(2)).saturating_sub(first);
        own.min(first + ahead.min(self.config.call_queue_bound - queued))
    }

    /// Sends a worker its share of what is pending. False if it may not get any.
    fn send_some(&mut self, id: WorkerId, now: Duration) -> bool {
        let Some(index) = self.index(id) else { return false };
        let share = self.items.pending().div_ceil(self.workers().max(1));
        let count = self.room(&self.workers[index]).min(share);
        if self.workers[index].state != State::Live || count == 0 {
            return false;
        }
        for _ in 0..count {
            let Some(call) = self.items.pop() else { break };
            let seq = self.workers[index].push(call, now);
            let item = self.items.get_mut(call).expect("invariant: a popped call is unsettled");
            item.place = Place::Sent(id, seq);
            self.out.push_back(Output::Send(id, seq, call));
        }
        self.idle.retain(|idle| *idle != id);
        self.look_at_first(id, now);
        true
    }

    /// An idle worker and nothing pending: half of what waits at the fullest worker may move, if that is worth it.
    fn steal(&mut self, now: Duration) {
        if self.idle.is_empty() || self.items.pending() > 0 {
            return;
        }
        let (busy, trusted) = (self.busy(), self.trusts(now));
        let is_quick = |worker: &Worker| {
            let limit = self.quick_limit(worker, busy);
            (worker.proven || trusted) && worker.is_quick(worker.sent.len(), limit, now)
        };
        let fullest = self
            .workers
            .iter()
            .enumerate()
            .filter(|(_, worker)| worker.revocable.is_some() && worker.state == State::Live)
            .filter(|(_, worker)| !is_quick(worker))
            .map(|(index, worker)| (worker.waiting(), index))
            .max_by_key(|(count, _)| *count);
        let Some((count, index)) = fullest else { return };
        if count > 0 {
            self.ask_back(index, count.div_ceil(2));
        }
    }

    /// What waits behind a long call is offered to others, oldest first, before newer calls are.
    pub(super) fn rescue(&mut self, now: Duration) {
        if now.saturating_sub(self.last_rescue) < STALLED {
            return;
        }
        self.last_rescue = now;
        for index in 0..self.workers.len() {
            let worker = &self.workers[index];
            if worker.revocable.is_some() && worker.state == State::Live && worker.stalled(now) {
                let count = worker.sent.iter().filter(|sent| sent.is_open()).count();
                self.ask_back(index, count);
            }
        }
    }

    /// Orders the last `count` calls at a worker to be revoked, the last one first, so that those that
    /// come back return to the head of the queue in their old order.
    pub(super) fn ask_back(&mut self, index: usize, count: usize) {
        let worker = &mut self.workers[index];
        let id = worker.id;
        let open = worker.sent.iter_mut().rev().filter(|sent| sent.is_open());
        for sent in open.take(count) {
            sent.asked = true;
            self.out.push_back(Output::Revoke(id, sent.seq));
        }
    }

    /// Orders one call at a worker to be revoked.
    pub(super) fn ask_back_one(&mut self, index: usize, at: usize) {
        let worker = &mut self.workers[index];
        let sent = &mut worker.sent[at];
        if sent.is_open() {
            sent.asked = true;
            self.out.push_back(Output::Revoke(worker.id, sent.seq));
        }
    }

    pub(super) fn answered(&mut self, id: WorkerId, seq: Seq, claim: Claim, now: Duration) {
        let Some(index) = self.index(id) else { return };
        let worker = &mut self.workers[index];
        let gone = worker.is_gone();
        let Some(at) = worker.position(seq) else { return };
        let call = worker.sent[at].id;
        worker.sent[at].asked = false;
        match claim {
            Claim::Revoked => self.returned(index, seq, gone),
            // The first may have started; a worker takes the others after it, and there is no after. One that was only
            // given up, a stopped one that no signal reaches, may go on and take them.
            Claim::Unknown if gone && at > 0 && worker.revocable.is_none() && !worker.presumed => {
                self.returned(index, seq, gone);
            }
            Claim::Started | Claim::Unknown | Claim::Queued if gone => {
                worker.sent.remove(at);
                worker.fruitful = true;
                (self.failures, self.stumbles) = (0, 0);
                let how = self.bounds.doom(call).map_or(How::Lost(id), |doom| doom.how(Some(id)));
                self.settle_without(call, how);
            }
            Claim::Started | Claim::Unknown | Claim::Queued => {
                worker.sent[at].started = claim == Claim::Started;
                if let Some(item) = self.items.get_mut(call) {
                    item.cancelling = false;
                }
            }
        }
        if gone {
            self.forget_if_empty(id, now);
        } else {
            self.look_at_first(id, now);
            self.note_idle(id, now);
        }
        self.dispatch(now);
        // One question may not have been enough: the call had started, or it went to another idle worker.
        // Each such answer leaves one call less to ask for, so this ends.
        if matches!(claim, Claim::Revoked | Claim::Started) {
            self.steal(now);
        }
        self.settle_phase(now);
    }

    /// A call came back from a worker, unstarted.
    fn returned(&mut self, index: usize, seq: Seq, gone: bool) {
        let worker = &mut self.workers[index];
        let id = worker.id;
        // Only the call whose turn was next can be what killed the worker on its arrival: those behind it,
        // and behind the one that had started, are innocent.
        let suspicious = gone && worker.condemned.is_none() && worker.position(seq) == Some(0);
        let Some(sent) = worker.give_back(seq) else { return };
        if let Some(left) = &mut worker.allowance {
            *left += 1;
        }
        let item = self.items.get_mut(sent.id).expect("invariant: a call at a worker is unsettled");
        item.resends += u8::from(suspicious);
        let how = match self.bounds.doom(sent.id) {
            Some(doom @ (Doom::Killed | Doom::Expired(_))) => doom.how(None),
            _ if item.cancelling || self.cancel_returned => How::Cancelled,
            _ if item.resends > super::RESENDS_MAX => How::Lost(id),
            // If its time was up, that had not begun.
            _ => {
                self.bounds.pardon(sent.id);
                return self.items.put_back(sent.id);
            }
        };
        self.settle_without(sent.id, how);
    }

    /// A worker whose last call was taken back is idle, without having settled anything.
    fn note_idle(&mut self, id: WorkerId, now: Duration) {
        let Some(index) = self.index(id) else { return };
        let worker = &self.workers[index];
        if worker.sent.is_empty() && worker.state == State::Live && !self.idle.contains(&id) {
            // It has not even begun, whatever the reason: others are better tried first.
            self.idle.insert(0, id);
            self.retire(id, now);
        }
    }

    /// A worker that has run its `max_tasks_per_child` leaves.
    fn retire(&mut self, id: WorkerId, now: Duration) {
        let Some(index) = self.index(id) else { return };
        let worker = &self.workers[index];
        if worker.allowance == Some(0) && worker.sent.is_empty() && worker.state == State::Live {
            self.stop(index, now);
        }
    }

    /// Starts workers while there are calls for them. A worker that is starting counts, or each call
    /// submitted meanwhile would start another.
    pub(super) fn order_workers(&mut self, now: Duration) {
        if !self.wants_worker() {
            return;
        }
        if now < self.spawn_after {
            self.out.push_back(Output::Alarm);
            return;
        }
        while self.wants_worker() {
            let id = WorkerId(self.next_worker);
            self.next_worker += 1;
            let deadline = now + self.config.start_deadline;
            self.census.enter(State::Starting);
            self.workers.push(Worker::new(id, now, deadline, self.config.max_tasks_per_child));
            self.failing_since = self.failing_since.or((self.count(State::Live) == 0).then_some(now));
            self.out.push_back(Output::Spawn(id));
        }
    }

    pub(super) fn wants_worker(&self) -> bool {
        // One that seems to have come to nothing first has its end looked into, which may ask for a pause.
        let open_question =
            |worker: &Worker| worker.state == State::Suspect && !worker.fruitful && !worker.expected;
        // What a stalled worker holds is wanted elsewhere too, so every unsettled call counts.
        self.phase.works()
            && self.workers() < self.config.max_workers.min(self.items.unsettled())
            && !self.workers.iter().any(open_question)
    }
}
