//! Calls with a key: those with the same one are for the same worker, one after the other.
//!
//! A key finds its worker, its *home*, when the first of its calls has come to the head of the queue; and has it until
//! the worker leaves or is gone. A call that comes to the head of the queue is *kept* for its home from then on: by then it
//! is older than what is left in the queue, so a worker takes what is kept for it first, unless something is more urgent.
//! Nobody else takes it. When the home is gone, which is when all that it had has come back, what is kept goes to the head
//! of the queue, in its old order, and the keys find new homes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Machine;
use super::items::{Place, WorkId};
use super::workers::{State, Worker};
use crate::WorkerId;

/// So many keys without calls are remembered; beyond, the one that has had none for longest is forgotten.
const RESTING_MAX: usize = 1 << 16;

/// What there is to say about the calls that have a key, and about the keys.
#[derive(Debug, Default)]
pub(super) struct Ties {
    /// Of every unsettled call that has one.
    by_call: BTreeMap<WorkId, Tie>,
    /// Calls that only their home may take.
    kept: BTreeMap<(WorkerId, Rank), WorkId>,
    keys: BTreeMap<u64, Key>,
    homes: BTreeMap<WorkerId, Home>,
    /// Keys that have a home and no calls, by the number of the moment since when.
    resting: BTreeMap<u64, u64>,
    /// How many keys have calls and no home.
    homeless: usize,
    /// Counts calls, and such moments.
    count: u64,
}

/// The place among the calls that are kept: the higher priority is first, and of the same the older one.
type Rank = (Reverse<i32>, u64);

#[derive(Clone, Copy, Debug)]
struct Tie {
    key: u64,
    rank: Rank,
}

#[derive(Debug, Default)]
struct Key {
    home: Option<WorkerId>,
    unsettled: usize,
    /// That of its last call.
    priority: i32,
    resting_since: Option<u64>,
}

/// A worker that has keys.
#[derive(Debug, Default)]
struct Home {
    keys: BTreeSet<u64>,
    unsettled: usize,
}

impl Ties {
    /// Whether no unsettled call has a key.
    pub(super) fn is_empty(&self) -> bool {
        self.by_call.is_empty()
    }

    /// That of a call which is submitted: it cannot go before the older ones of its key.
    pub(super) fn priority(&self, key: u64, priority: i32) -> i32 {
        let known = self.keys.get(&key).filter(|key| key.unsettled > 0);
        known.map_or(priority, |key| key.priority.min(priority))
    }

    pub(super) fn insert(&mut self, id: WorkId, key: u64, priority: i32) {
        self.by_call.insert(id, Tie { key, rank: (Reverse(priority), self.count) });
        self.count += 1;
        let found = self.keys.entry(key).or_default();
        found.priority = priority;
        found.unsettled += 1;
        match found.home {
            Some(home) => self.homes.entry(home).or_default().unsettled += 1,
            None => self.homeless += usize::from(found.unsettled == 1),
        }
        if let Some(since) = found.resting_since.take() {
            self.resting.remove(&since);
        }
    }

    /// Forgets a call that is settled.
    #[inline]
    pub(super) fn remove(&mut self, id: WorkId) {
        if !self.is_empty() {
            self.remove_one(id);
        }
    }

    fn remove_one(&mut self, id: WorkId) {
        let Some(Tie { key, rank }) = self.by_call.remove(&id) else { return };
        let found = self.keys.get_mut(&key).expect("invariant: a key with calls is known");
        found.unsettled -= 1;
        let is_last = found.unsettled == 0;
        let Some(home) = found.home else {
            if is_last {
                self.keys.remove(&key);
                self.homeless -= 1;
            }
            return;
        };
        self.kept.remove(&(home, rank));
        self.homes.get_mut(&home).expect("invariant: a home is known").unsettled -= 1;
        if is_last {
            found.resting_since = Some(self.count);
            self.resting.insert(self.count, key);
            self.count += 1;
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if self.resting.len() <= RESTING_MAX {
            return;
        }
        let Some((_, key)) = self.resting.pop_first() else { return };
        let home = self.keys.remove(&key).and_then(|key| key.home);
        if let Some(home) = home.and_then(|home| self.homes.get_mut(&home)) {
            home.keys.remove(&key);
        }
    }

    fn home(&self, key: u64) -> Option<WorkerId> {
        self.keys.get(&key)?.home
    }

    fn settle_down(&mut self, key: u64, worker: WorkerId) {
        let found = self.keys.get_mut(&key).expect("invariant: a key with calls is known");
        found.home = Some(worker);
        self.homeless -= 1;
        let home = self.homes.entry(worker).or_default();
        home.keys.insert(key);
        home.unsettled += found.unsettled;
    }

    /// A worker has no keys any more. The calls that were kept for it, in order.
    fn release(&mut self, worker: WorkerId) -> Vec<WorkId> {
        let Some(home) = self.homes.remove(&worker) else { return Vec::new() };
        for key in home.keys {
            let found = self.keys.get_mut(&key).expect("invariant: a home's keys are known");
            found.home = None;
            if found.unsettled > 0 {
                self.homeless += 1;
            } else if let Some(found) = self.keys.remove(&key) {
                found.resting_since.map(|since| self.resting.remove(&since));
            }
        }
        std::iter::from_fn(|| self.take_kept(worker)).collect()
    }

    /// What a worker takes next of what is kept for it, and its priority.
    fn first_kept(&self, worker: WorkerId) -> Option<(WorkId, i32)> {
        let ((at, (Reverse(priority), _)), id) = self.kept.range((worker, FIRST)..).next()?;
        (*at == worker).then_some((*id, *priority))
    }

    fn take_kept(&mut self, worker: WorkerId) -> Option<WorkId> {
        let (id, _) = self.first_kept(worker)?;
        self.kept.remove(&(worker, self.by_call[&id].rank));
        Some(id)
    }

    /// How many are kept for a worker; counted up to `most`.
    #[inline]
    pub(super) fn kept(&self, worker: WorkerId, most: usize) -> usize {
        if self.kept.is_empty() { 0 } else { self.count_kept(worker, most) }
    }

    fn count_kept(&self, worker: WorkerId, most: usize) -> usize {
        let of_worker = self.kept.range((worker, FIRST)..).take_while(|((at, _), _)| *at == worker);
        of_worker.take(most).count()
    }

    pub(super) fn all_kept(&self) -> Vec<WorkId> {
        self.kept.values().copied().collect()
    }

    #[inline]
    pub(super) fn has(&self, id: WorkId) -> bool {
        !self.is_empty() && self.by_call.contains_key(&id)
    }

    /// How many keys are a worker's.
    pub(super) fn keys(&self, worker: WorkerId) -> usize {
        self.homes.get(&worker).map_or(0, |home| home.keys.len())
    }

    /// How many calls there are beyond the first of each worker, or of each key that has none yet: they want no worker.
    pub(super) fn behind_others(&self) -> usize {
        let homes = self.homes.values().filter(|home| home.unsettled > 0).count();
        self.by_call.len() - homes - self.homeless
    }
}

/// Before all others.
const FIRST: Rank = (Reverse(i32::MAX), 0);

impl Machine {
    /// Takes the next call for a worker. Those that come to the head of the queue on the way, and are for others, are kept
    /// for these.
    #[inline]
    pub(super) fn next_call(&mut self, worker: WorkerId, now: Duration) -> Option<WorkId> {
        if self.ties.is_empty() { self.items.pop() } else { self.next_tied(worker, now) }
    }

    fn next_tied(&mut self, worker: WorkerId, now: Duration) -> Option<WorkId> {
        loop {
            let own = self.ties.first_kept(worker).filter(|_| self.takes_kept(worker));
            if own.is_some_and(|(_, priority)| self.items.first_priority().is_none_or(|first| first <= priority)) {
                return self.ties.take_kept(worker);
            }
            let call = self.items.pop()?;
            let Some(Tie { key, .. }) = self.ties.by_call.get(&call).copied() else { return Some(call) };
            let home = self.ties.home(key).unwrap_or_else(|| {
                let home = self.find_home(worker, now);
                self.ties.settle_down(key, home);
                home
            });
            self.keep(call, home);
        }
    }

    /// Whether a worker may be sent what is kept for it: not as long as something older may come back.
    fn takes_kept(&self, worker: WorkerId) -> bool {
        self.worker(worker).is_some_and(|worker| !worker.sent.iter().any(|sent| sent.asked))
    }

    /// A home for a key, whose call this worker would take: one that is no home yet, if there is or may be one; else, of
    /// those that have time, the one with the fewest keys.
    fn find_home(&mut self, worker: WorkerId, now: Duration) -> WorkerId {
        let mut ready = std::iter::once(worker).chain(self.idle.iter().rev().copied());
        if let Some(free) = ready.find(|worker| self.ties.keys(*worker) == 0) {
            return free;
        }
        let is_free = |worker: &&Worker| worker.state == State::Starting && self.ties.keys(worker.id) == 0;
        if let Some(free) = self.workers.iter().find(is_free) {
            return free.id;
        }
        if self.workers() < self.places() && self.phase.works() {
            if let Some(successor) = self.promote() {
                return successor;
            }
            if now >= self.spawn_after && !self.has_open_question() {
                return self.order_worker(State::Starting, now);
            }
        }
        let ready = std::iter::once(worker).chain(self.idle.iter().rev().copied());
        ready.min_by_key(|worker| self.ties.keys(*worker)).unwrap_or(worker)
    }

    fn keep(&mut self, call: WorkId, home: WorkerId) {
        let item = self.items.get_mut(call).expect("invariant: only an unsettled call is kept");
        item.place = Place::Kept(home);
        let rank = self.ties.by_call[&call].rank;
        self.ties.kept.insert((home, rank), call);
    }

    /// A worker gave a call back.
    pub(super) fn put_back(&mut self, call: WorkId, worker: WorkerId) {
        if self.ties.has(call) {
            self.keep(call, worker);
        } else {
            self.items.put_back(call);
        }
    }

    /// Gives workers what is kept for them, as far as they have room. On the way there may be more for others.
    pub(super) fn send_kept(&mut self, now: Duration) {
        while let Some(worker) = self.waited_for(now)
            && self.send_some(worker, now)
        {}
    }

    /// A worker that has room for what is kept for it.
    fn waited_for(&self, now: Duration) -> Option<WorkerId> {
        let has_room = |worker: &Worker| {
            worker.state == State::Live
                && worker.sent.len() <= worker.window / 2
                && self.room(worker, now) > 0
                && self.takes_kept(worker.id)
        };
        let can = |id: &WorkerId| self.ties.kept(*id, 1) > 0 && self.worker(*id).is_some_and(has_room);
        self.ties.homes.keys().copied().find(can)
    }

    /// The keys of a worker that leaves, or is gone, find others. Whether calls want one now.
    pub(super) fn release(&mut self, worker: WorkerId) -> bool {
        let kept = self.ties.release(worker);
        kept.iter().rev().for_each(|call| self.items.put_back(*call));
        !kept.is_empty()
    }
}
