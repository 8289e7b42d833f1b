//! Who gets which call, who gives one back, and when a worker is started.
//!
//! As long as calls differ in priority, none waits at a worker behind one that takes long: nothing could overtake it
//! there. What was sent ahead is taken back when the first call comes that is not of the usual priority, and from then on
//! calls are sent ahead only to workers at short ones, where a millisecond's worth of them waits.

use std::time::Duration;

use super::items::Place;
use super::workers::{AHEAD, HAND_OVER, STALLED, Sent, State, TINY, WAKE, Worker};
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
                // The answers bring us back to here.
                None if idle.is_some() && self.look_into(now) => None,
                None => idle.or_else(|| self.roomy(now)),
            };
            let Some(worker) = worker.filter(|worker| self.send_some(*worker, now)) else { break };
            self.last_quick = worker;
        }
        if !self.ties.is_empty() {
            self.send_kept(now);
        }
        self.watch_quick(now);
        self.order_workers(now);
        // What a worker may get, and whether one is started, depends on how many calls are pending only as long as these
        // are no more than there may be workers. (Of calls of one key, one worker can do any number.)
        self.stuck = self.items.pending() > self.config.max_workers + 1 && self.ties.is_empty();
    }

    /// A worker that is at short calls, while another would have to be woken.
    fn quick(&self, now: Duration) -> Option<Quick> {
        let busy = self.busy();
        let look = |worker: &Worker| {
            let (count, limit) = (worker.sent.len(), self.quick_limit(worker, busy));
            let may_be_large = count == 1 && worker.stalled(now);
            if worker.state != State::Live || count == 0 || may_be_large || !worker.is_quick(count + 1, limit, now)
            {
                None
            } else if self.room(worker, now) > 0 {
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
                && worker.is_held_up(now)
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

    /// Sees to it that somebody looks again, if calls wait at a worker that could be elsewhere or behind others.
    #[inline]
    fn watch_quick(&mut self, now: Duration) {
        if self.look_at.is_none() && self.holding_up().next().is_some() {
            self.look_at = Some(now + STALLED);
            self.out.push_back(Output::Alarm);
        }
    }

    /// When the first of them wait for too long.
    pub(super) fn stalls_at(&self) -> Option<Duration> {
        if self.phase.works() { self.holding_up().map(Worker::stalls_at).min() } else { None }
    }

    /// Workers at which calls wait while others are idle or more urgent.
    #[inline]
    fn holding_up(&self) -> impl Iterator<Item = &Worker> {
        let (is_plain, has_idle) = (self.items.is_plain(), !self.idle.is_empty());
        // Those in the queue wait for short calls to end, though one is idle.
        let is_full = has_idle && self.items.pending() > 0;
        // What only that worker may do is of use nowhere else, but may have to let others pass.
        let waits = move |worker: &&Worker| {
            worker.sent.len() > usize::from(!is_full)
                && worker.revocable.is_some()
                && worker.state == State::Live
                && (is_full || worker.has_waiting(!is_plain))
        };
        let workers = if has_idle || !is_plain { &self.workers[..] } else { &[] };
        workers.iter().filter(waits)
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
        let is_wanted = self.items.pending() > 0 && !self.is_surplus(index, now);
        if worth_it && (is_wanted || self.ties.kept(worker, 1) > 0) {
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
        if !self.items.is_plain() {
            self.watch_quick(now);
        }
        self.order_workers(now);
    }

    /// A first call comes that is not of the usual priority.
    pub(super) fn keep_short(&mut self, now: Duration) {
        for index in 0..self.workers.len() {
            self.keep_short_at(self.workers[index].id, now);
        }
        self.stuck = false;
    }

    /// Takes back what was sent ahead to a worker, unless it is at short calls.
    pub(super) fn keep_short_at(&mut self, id: WorkerId, now: Duration) {
        let Some(index) = self.index(id) else { return };
        let worker = &self.workers[index];
        let count = worker.behind();
        let is_long = worker.stalled(now) || !worker.is_quick(worker.sent.len(), AHEAD, now);
        if worker.revocable.is_some() && worker.state == State::Live && count > 0 && is_long {
            self.ask_back(index, count);
        }
    }

    /// Whether as many others as can run are at tiny calls like this worker: one more would take its time from them.
    fn is_surplus(&self, index: usize, now: Duration) -> bool {
        let cores = self.config.cores;
        let is_tiny = |worker: &Worker| worker.state == State::Live && worker.is_quick(1, TINY, now);
        if self.busy() <= cores || !is_tiny(&self.workers[index]) {
            return false;
        }
        let others = self.workers.iter().enumerate().filter(|(at, other)| *at != index && !other.sent.is_empty());
        others.filter(|(_, other)| is_tiny(other)).take(cores).count() == cores
    }

    pub(super) fn worker_ready(&mut self, id: WorkerId, revocable: Option<usize>, now: Duration) {
        let Some(index) = self.index(id) else { return };
        let state = self.workers[index].state;
        if !matches!(state, State::Starting | State::Preparing) {
            return;
        }
        let worker = &mut self.workers[index];
        worker.is_up = true;
        worker.deadline = None;
        worker.revocable = revocable;
        let took = now.saturating_sub(worker.progress);
        worker.progress = now;
        self.failing_since = None;
        self.recycling.learn_start(took);
        self.note_rest(now);
        if state == State::Preparing {
            self.set_state(index, State::Reserve);
            return self.order_workers(now);
        }
        self.set_state(index, State::Live);
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
                && self.room(worker, now) > 0
                && worker.sent.len() <= worker.window / 2
                && !worker.stalled(now)
        };
        self.workers.iter().filter(can).min_by_key(|worker| worker.sent.len()).map(|worker| worker.id)
    }

    /// How many calls a worker may get: its own limits, for calls beyond the reach of `cancel` the call queue's bound,
    /// and one at a time where others are more urgent than what it gets.
    pub(super) fn room(&self, worker: &Worker, now: Duration) -> usize {
        let own = worker.room();
        if self.items.is_plain() && worker.revocable.is_some() {
            return own;
        }
        let first = usize::from(worker.sent.is_empty());
        if !self.items.is_plain() {
            return if worker.is_quick(worker.window, AHEAD, now) { own } else { own.min(first) };
        }
        let queued: usize = self.workers.iter().map(Worker::beyond_reach).sum();
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
        // The bound may have been a larger one when they were sent.
        own.min(first + ahead.min(self.config.call_queue_bound.saturating_sub(queued)))
    }

    /// Sends a worker its share of what is pending, and what is kept for it. False if it may not get any.
    pub(super) fn send_some(&mut self, id: WorkerId, now: Duration) -> bool {
        let Some(index) = self.index(id) else { return false };
        let share = self.items.pending().div_ceil(self.workers().max(1));
        let room = self.room(&self.workers[index], now);
        let count = room.min(share + self.ties.kept(id, room));
        if self.workers[index].state != State::Live || count == 0 {
            return false;
        }
        let mut sent = 0;
        while sent < count
            && let Some(call) = self.next_call(id, now)
        {
            let seq = self.workers[index].push(call, self.ties.has(call), now);
            let item = self.items.get_mut(call).expect("invariant: a popped call is unsettled");
            item.place = Place::Sent(id, seq);
            self.out.push_back(Output::Send(id, seq, call));
            sent += 1;
        }
        if sent == 0 {
            return false;
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
            self.ask_back_if(index, count.div_ceil(2), |sent| !sent.tied);
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
                self.probe(index);
            }
        }
    }

    /// Looks into those that have settled nothing for long though their calls are short. True if there are such. One that
    /// has a single call is left alone: that may be large, and on its way; taken back it would only begin anew elsewhere.
    fn look_into(&mut self, now: Duration) -> bool {
        let mut is_any = false;
        for index in 0..self.workers.len() {
            let worker = &self.workers[index];
            let has_waiting = worker.sent.len() > 1 && worker.stalled(now);
            if worker.state == State::Live && has_waiting && worker.is_quick(1, AHEAD, now) {
                self.probe(index);
                is_any |= self.workers[index].sent.iter().any(|sent| sent.asked);
            }
        }
        is_any
    }

    /// Finds out why a worker has settled nothing for long, by asking for the first call that it is not known to have
    /// started. If it has started that too, it goes on, and its answers are on their way. If not, it is at the call before,
    /// and all that waits behind that is taken back; or it has not begun at all, because it waits for a core, or somebody
    /// has stopped it: then twice as many are asked for with each further look.
    fn probe(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        if worker.sent.iter().any(|sent| sent.asked) {
            return;
        }
        // What is for that worker alone is of use nowhere else, but may have to let others pass. And to take back one of
        // those out of its turn would change their order.
        if worker.sent.iter().any(|sent| sent.tied && sent.is_open()) {
            return self.hold_up(index);
        }
        let started = worker.sent.iter().take_while(|sent| sent.started).count();
        if started == 0 {
            self.ask_back_first(index, 1 + self.workers[index].taken_back());
        } else if started < worker.sent.len() {
            self.ask_back_one(index, started);
        } else {
            worker.held_up = true;
        }
    }

    /// Concludes from an answer, about the call at this place, what a worker is at that has settled nothing for long.
    fn conclude(&mut self, index: usize, at: usize, started: bool, now: Duration) {
        let worker = &mut self.workers[index];
        if worker.state != State::Live || !worker.stalled(now) || worker.revocable.is_none() {
            return;
        }
        let is_next = worker.sent.iter().take(at).all(|before| before.started);
        match (started, at) {
            (true, 0) => self.probe(index),
            (true, _) if is_next => worker.progress = now,
            (false, 1..) if is_next => self.hold_up(index),
            (false, 0) => worker.held_up = true,
            _ => {}
        }
    }

    /// Holds a worker to be at a long call, and asks back what others can do meanwhile: all but its tied calls, and
    /// those too where they may have to let others pass.
    fn hold_up(&mut self, index: usize) {
        self.workers[index].held_up = true;
        let is_plain = self.items.is_plain();
        self.ask_back_if(index, usize::MAX, |sent| !(sent.tied && is_plain));
    }

    /// Orders the last `count` calls at a worker to be revoked, the last one first, so that those that
    /// come back return to the head of the queue in their old order.
    pub(super) fn ask_back(&mut self, index: usize, count: usize) {
        self.ask_back_if(index, count, |_| true);
    }

    /// The same, of certain calls.
    fn ask_back_if(&mut self, index: usize, count: usize, is_meant: impl Fn(&Sent) -> bool) {
        let worker = &mut self.workers[index];
        let id = worker.id;
        let open = worker.sent.iter_mut().rev().filter(|sent| sent.is_open() && is_meant(sent));
        for sent in open.take(count) {
            sent.asked = true;
            self.out.push_back(Output::Revoke(id, sent.seq));
        }
    }

    /// Orders the first `count` calls at a worker to be revoked, the last of them first.
    fn ask_back_first(&mut self, index: usize, count: usize) {
        let count = count.min(self.workers[index].sent.len());
        for at in (0..count).rev() {
            self.ask_back_one(index, at);
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
            Claim::Revoked => {
                self.returned(index, seq, gone, now);
                self.conclude(index, at, false, now);
            }
            // The first may have started; a worker takes the others after it, and there is no after. One that was only
            // given up, a stopped one that no signal reaches, may go on and take them.
            Claim::Unknown if gone && at > 0 && worker.revocable.is_none() && !worker.presumed => {
                self.returned(index, seq, gone, now);
            }
            Claim::Started | Claim::Unknown | Claim::Queued if gone => {
                worker.sent.remove(at);
                worker.fruitful = true;
                let told = worker.told;
                (self.failures, self.stumbles) = (0, 0);
                let how = self.bounds.doom(call).map(|doom| doom.how(Some(id)));
                let how = how.unwrap_or_else(|| self.down_with(id, told));
                self.fail(call, how, now);
            }
            Claim::Started | Claim::Unknown | Claim::Queued => {
                worker.sent[at].started = claim == Claim::Started;
                if let Some(item) = self.items.get_mut(call) {
                    item.cancelling = false;
                }
                if claim == Claim::Started {
                    self.conclude(index, at, true, now);
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
    fn returned(&mut self, index: usize, seq: Seq, gone: bool, now: Duration) {
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
            _ if item.cancelling || self.cancel_returned || self.bounds.is_called_off(sent.id) => How::Cancelled,
            _ if item.resends > super::RESENDS_MAX => How::Lost(id),
            // If its time was up, that had not begun.
            _ => {
                self.bounds.pardon(sent.id);
                return self.put_back(sent.id, id);
            }
        };
        self.fail(sent.id, how, now);
    }

    /// A worker whose last call was taken back is idle, without having settled anything.
    fn note_idle(&mut self, id: WorkerId, now: Duration) {
        let Some(index) = self.index(id) else { return };
        let worker = &self.workers[index];
        if worker.sent.is_empty() && worker.state == State::Live && !self.idle.contains(&id) {
            // It has not even begun, whatever the reason: others are better tried first.
            self.idle.insert(0, id);
            self.note_rest(now);
            self.retire(id, now);
        }
    }

    /// Starts workers while there are calls for them. A worker that is starting counts, or each call
    /// submitted meanwhile would start another.
    #[inline]
    pub(super) fn order_workers(&mut self, now: Duration) {
        if self.config.max_tasks_per_child.is_some() && self.see_to_successors(now) {
            return self.dispatch(now);
        }
        if self.wants_worker() {
            self.order_wanted(now);
        }
    }

    #[inline(never)]
    fn order_wanted(&mut self, now: Duration) {
        if now < self.spawn_after {
            self.out.push_back(Output::Alarm);
            return;
        }
        while self.wants_worker() {
            self.order_worker(State::Starting, now);
        }
    }

    pub(super) fn order_worker(&mut self, state: State, now: Duration) -> WorkerId {
        let id = WorkerId(self.next_worker);
        self.next_worker += 1;
        let deadline = now.saturating_add(self.config.start_deadline);
        self.census.enter(state);
        self.workers.push(Worker::new(id, state, now, deadline, self.config.max_tasks_per_child));
        if state == State::Starting {
            self.failing_since = self.failing_since.or((self.count(State::Live) == 0).then_some(now));
        }
        self.out.push_back(Output::Spawn(id));
        id
    }

    /// Whether there is a place, and a call, for one more.
    pub(super) fn lacks_worker(&self) -> bool {
        self.phase.works() && self.workers() < self.places().min(self.wanted())
    }

    /// For how many workers there is something to do.
    pub(super) fn wanted(&self) -> usize {
        // What a stalled worker holds is wanted elsewhere too, so every unsettled call counts; but not those that have
        // to wait for another one wherever that is.
        let unsettled = self.items.unsettled();
        if self.ties.is_empty() { unsettled } else { unsettled - self.ties.behind_others() }
    }

    /// How many workers may be at work. Those that leave, which may take a while, are no more than that besides.
    pub(super) fn places(&self) -> usize {
        let max = self.config.max_workers;
        max.saturating_sub(self.count(State::Leaving).saturating_sub(max))
    }

    pub(super) fn wants_worker(&self) -> bool {
        self.lacks_worker() && !self.has_open_question()
    }

    /// One that seems to have come to nothing first has its end looked into, which may ask for a pause.
    pub(super) fn has_open_question(&self) -> bool {
        let is_open = |worker: &Worker| worker.state == State::Suspect && !worker.fruitful && !worker.expected;
        self.workers.iter().any(is_open)
    }
}
