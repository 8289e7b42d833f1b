//! Calls that may not take as long as they like, and calls that are killed.
//!
//! Whatever a call is to end for, its *doom*, it ends in one of three ways. One that is not sent leaves the queue. One
//! that is at a worker and has not started is taken back. One that runs ends with its worker, which is killed; and
//! before that everything behind it is taken back, so that no other call can have started by then. A worker whose link
//! cannot take calls back is killed when the call is the first there: one that was sent ahead is with a dead worker
//! then, and goes to another, unless it had started in that very moment.
//!
//! A call that is *called off* is to end by itself: nobody starts it any more, and where it has started its worker is asked
//! to stop it, which is the driver's to do. If it is to be killed for that in the end, its doom has a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::again::Record;
use super::items::{Place, WorkId};
use super::workers::State;
use super::{Cancel, How, Machine, Output};
use crate::WorkerId;

/// How long a call may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// From when its turn has come at a worker.
    pub run: Option<Duration>,
    /// From its submission on.
    pub total: Option<Duration>,
    /// From its start, until it is to stop by itself. Nobody but the call itself does anything about it.
    pub soft: Option<Duration>,
}

impl Limits {
    fn is_none(self) -> bool {
        self.run.is_none() && self.total.is_none() && self.soft.is_none()
    }
}

/// Why a call is to end before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    /// Somebody wants it to.
    Killed,
    /// It has run for longer than this.
    OverTime(Duration),
    /// It was submitted longer ago than this.
    Expired(Duration),
}

impl Doom {
    /// How a call ends that was at this worker, or at none.
    pub(super) fn how(self, worker: Option<WorkerId>) -> How {
        match (self, worker) {
            (Self::Killed, None) => How::Cancelled,
            _ => How::Doomed(self, worker),
        }
    }
}

/// What there is to say about the few calls that are bounded, doomed, or made again when they fail.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    by_call: BTreeMap<WorkId, Bound>,
    /// When calls end, wherever they are then.
    ends: BTreeSet<(Duration, WorkId)>,
    /// Until when those rest that have failed.
    rests: BTreeSet<(Duration, WorkId)>,
}

#[derive(Debug, Default)]
struct Bound {
    limits: Limits,
    /// When it ends, wherever it is then, and why.
    end: Option<(Duration, Doom)>,
    /// It is to end by itself.
    is_called_off: bool,
    doom: Option<Doom>,
    record: Option<Record>,
    rests_until: Option<Duration>,
}

impl Bounds {
    pub(super) fn is_empty(&self) -> bool {
        self.by_call.is_empty()
    }

    /// Bounds a call that is submitted `now`, and says when it expires, if it does.
    fn insert(&mut self, id: WorkId, limits: Limits, now: Duration) -> Option<Duration> {
        self.by_call.insert(id, Bound { limits, ..Bound::default() });
        let total = limits.total?;
        // What the clock cannot count to never comes.
        let expires_at = now.checked_add(total)?;
        self.set_end(id, expires_at, Doom::Expired(total));
        Some(expires_at)
    }

    /// Ends a call then, unless it ends before.
    fn set_end(&mut self, id: WorkId, at: Duration, doom: Doom) {
        let bound = self.by_call.entry(id).or_default();
        if bound.end.is_some_and(|(before, _)| before <= at) {
            return;
        }
        if let Some((later, _)) = bound.end.replace((at, doom)) {
            self.ends.remove(&(later, id));
        }
        self.ends.insert((at, id));
    }

    /// Forgets a call that is settled.
    #[inline]
    pub(super) fn remove(&mut self, id: WorkId) {
        if !self.is_empty() {
            self.remove_one(id);
        }
    }

    fn remove_one(&mut self, id: WorkId) {
        let Some(bound) = self.by_call.remove(&id) else { return };
        if let Some((at, _)) = bound.end {
            self.ends.remove(&(at, id));
        }
        if let Some(at) = bound.rests_until {
            self.rests.remove(&(at, id));
        }
    }

    pub(super) fn set_record(&mut self, id: WorkId, record: Record) {
        self.by_call.entry(id).or_default().record = Some(record);
    }

    pub(super) fn record(&self, id: WorkId) -> Option<&Record> {
        self.by_call.get(&id)?.record.as_ref()
    }

    pub(super) fn record_mut(&mut self, id: WorkId) -> Option<&mut Record> {
        self.by_call.get_mut(&id)?.record.as_mut()
    }

    pub(super) fn rest_until(&mut self, id: WorkId, at: Duration) {
        self.by_call.entry(id).or_default().rests_until = Some(at);
        self.rests.insert((at, id));
    }

    /// Takes out those that have rested.
    pub(super) fn rested(&mut self, now: Duration) -> Vec<WorkId> {
        let mut rested = Vec::new();
        while let Some((_, id)) = self.rests.first().copied().filter(|(at, _)| *at <= now) {
            self.rests.pop_first();
            self.by_call.entry(id).or_default().rests_until = None;
            rested.push(id);
        }
        rested
    }

    /// Those that rest.
    pub(super) fn resting(&self) -> Vec<WorkId> {
        self.rests.iter().map(|(_, id)| *id).collect()
    }

    fn run_limit(&self, id: WorkId) -> Option<Duration> {
        self.by_call.get(&id)?.limits.run
    }

    pub(super) fn is_called_off(&self, id: WorkId) -> bool {
        self.by_call.get(&id).is_some_and(|bound| bound.is_called_off)
    }

    pub(super) fn doom(&self, id: WorkId) -> Option<Doom> {
        self.by_call.get(&id)?.doom
    }

    /// The first doom of a call stands.
    pub(super) fn set_doom(&mut self, id: WorkId, doom: Doom) {
        let known = &mut self.by_call.entry(id).or_default().doom;
        // That the time of one attempt is up gives way to what ends the call.
        if matches!(known, None | Some(Doom::OverTime(_))) {
            *known = Some(doom);
        }
    }

    /// A call whose time was up had not begun.
    pub(super) fn pardon(&mut self, id: WorkId) {
        if let Some(bound) = self.by_call.get_mut(&id) {
            bound.doom = None;
        }
    }

    /// Takes out one whose end has come.
    fn ended(&mut self, now: Duration) -> Option<(WorkId, Doom)> {
        let (_, id) = self.ends.first().copied().filter(|(at, _)| *at <= now)?;
        self.ends.pop_first();
        let (_, doom) = self.by_call.get_mut(&id)?.end.take()?;
        Some((id, doom))
    }
}

impl Machine {
    /// Ends a call wherever it is. One that has not started is cancelled.
    pub fn kill(&mut self, id: WorkId, now: Duration) {
        self.doom(id, Doom::Killed, now);
    }

    /// Asks to cancel a call. If it has started, or may have, it is to end by itself; when `grace` has passed, it is
    /// killed.
    pub fn call_off(&mut self, id: WorkId, grace: Option<Duration>, now: Duration) -> Cancel {
        if let Some(Place::Sent(..)) = self.place(id) {
            self.bounds.by_call.entry(id).or_default().is_called_off = true;
            if let Some(at) = grace.and_then(|grace| now.checked_add(grace)) {
                self.bounds.set_end(id, at, Doom::Killed);
                self.see_to(at);
            }
        }
        self.cancel(id, now)
    }

    /// How long a call that is sent now may take, as it would see it: until it is to stop by itself, or is ended.
    pub fn time_of(&self, id: WorkId, now: Duration) -> Option<Duration> {
        if self.bounds.is_empty() {
            return None;
        }
        let bound = self.bounds.by_call.get(&id)?;
        let left = bound.end.map(|(at, _)| at.saturating_sub(now));
        [bound.limits.soft, bound.limits.run, left].into_iter().flatten().min()
    }

    fn doom(&mut self, id: WorkId, doom: Doom, now: Duration) {
        self.stuck = false;
        match self.items.get(id).map(|item| item.place) {
            None => {}
            Some(Place::Pending | Place::Kept(_) | Place::Resting) => {
                self.settle_without(id, doom.how(None));
                self.settle_phase(now);
            }
            Some(Place::Sent(worker, seq)) => {
                self.bounds.set_doom(id, doom);
                let index = self.index(worker).expect("invariant: a sent call's worker is in the table");
                let worker = &self.workers[index];
                match worker.position(seq) {
                    Some(0) => self.condemn_first(index, now),
                    Some(at) if worker.revocable.is_some() => self.ask_back_one(index, at),
                    _ => {}
                }
            }
        }
    }

    /// Settles a call that has no result.
    pub(super) fn settle_without(&mut self, id: WorkId, how: How) {
        self.forget(id);
        self.out.push_back(Output::Settle(id, how));
    }

    /// Looks at the first call of a worker: it may be a new one, whose time begins now, or doomed; or the one that the
    /// worker was to be killed for may be through.
    #[inline]
    pub(super) fn look_at_first(&mut self, id: WorkerId, now: Duration) {
        if !self.bounds.is_empty() {
            self.look_at_bounded(id, now);
        }
    }

    fn look_at_bounded(&mut self, id: WorkerId, now: Duration) {
        let Some(index) = self.index(id) else { return };
        self.execute(index, now);
        let worker = &mut self.workers[index];
        let first = worker.sent.front().map(|first| (first.seq, first.id));
        let Some((seq, call)) = first.filter(|_| worker.state == State::Live) else {
            worker.over_at = None;
            return;
        };
        if worker.first != Some(seq) {
            worker.first = Some(seq);
            worker.over_at = self.bounds.run_limit(call).and_then(|limit| now.checked_add(limit));
            if let Some(at) = worker.over_at {
                self.see_to(at);
            }
        }
        if self.bounds.doom(call).is_some() {
            self.condemn_first(index, now);
        }
    }

    /// The worker is to be killed for its first call. It gets nothing more, and what waits there is asked back: also that
    /// call, which may not have started.
    fn condemn_first(&mut self, index: usize, now: Duration) {
        let worker = &mut self.workers[index];
        let Some(first) = worker.sent.front() else { return };
        if worker.state != State::Live || worker.condemned.is_some() {
            return;
        }
        worker.condemned = Some(first.seq);
        if worker.revocable.is_some() {
            self.ask_back(index, usize::MAX);
        }
        self.execute(index, now);
    }

    /// Kills a worker that is condemned, once it is known that it can be at no other call.
    fn execute(&mut self, index: usize, now: Duration) {
        let worker = &mut self.workers[index];
        if worker.condemned.is_none() || worker.state != State::Live {
            return;
        }
        let is_open = worker.sent.iter().any(|sent| sent.asked);
        // Then the first is through, and its answer on its way.
        let is_past = worker.sent.iter().skip(1).any(|sent| sent.started);
        if is_open || is_past {
            return;
        }
        worker.expected = true;
        let id = worker.id;
        self.unusable(id, now);
    }

    /// Bounds a call that was just submitted.
    #[inline]
    pub(super) fn bound(&mut self, id: WorkId, limits: Limits, now: Duration) {
        if !limits.is_none() {
            self.note_limits(id, limits, now);
        }
    }

    fn note_limits(&mut self, id: WorkId, limits: Limits, now: Duration) {
        if let Some(at) = self.bounds.insert(id, limits, now) {
            self.see_to(at);
        }
    }

    /// Sees to it that the clock is looked at then.
    pub(super) fn see_to(&mut self, at: Duration) {
        if self.known_doom.is_none_or(|known| at < known) {
            self.known_doom = Some(at);
            self.out.push_back(Output::Alarm);
        }
    }

    /// When the time of the next call is up, or one has rested.
    pub(super) fn next_doom(&self) -> Option<Duration> {
        if self.bounds.is_empty() {
            return None;
        }
        let running = self.workers.iter().filter_map(|worker| worker.over_at).min();
        let [ending, resting] =
            [&self.bounds.ends, &self.bounds.rests].map(|times| times.first().map(|(at, _)| *at));
        [running, ending, resting].into_iter().flatten().min()
    }

    /// Dooms the calls whose time is up.
    pub(super) fn doom_late(&mut self, now: Duration) {
        if self.bounds.is_empty() {
            return;
        }
        let mut late = Vec::new();
        for worker in &mut self.workers {
            if worker.over_at.is_none_or(|at| at > now) {
                continue;
            }
            worker.over_at = None;
            let first = worker.sent.front().map(|first| first.id);
            if let Some((first, limit)) = first.and_then(|first| Some((first, self.bounds.run_limit(first)?))) {
                late.push((first, Doom::OverTime(limit)));
            }
        }
        late.extend(std::iter::from_fn(|| self.bounds.ended(now)));
        for (id, doom) in late {
            self.doom(id, doom, now);
        }
    }
}
