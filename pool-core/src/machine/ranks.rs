//! Calls that are more or less urgent than others: where they stand in the queue.
//!
//! Those of the usual priority, 0, are not in here. Most pools have no others.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::items::WorkId;

/// A call's place: the higher priority is first, and of the same the older one.
type Rank = (Reverse<i32>, u64);

#[derive(Debug, Default)]
pub(super) struct Ranks {
    /// Of every unsettled call that has one.
    by_call: BTreeMap<WorkId, Rank>,
    /// Those of them that are in the queue.
    queue: BTreeMap<Rank, WorkId>,
    /// How many calls have had one.
    count: u64,
}

impl Ranks {
    pub(super) fn is_empty(&self) -> bool {
        self.by_call.is_empty()
    }

    /// Queues a new call.
    pub(super) fn insert(&mut self, id: WorkId, priority: i32) {
        let rank = (Reverse(priority), self.count);
        self.count += 1;
        self.by_call.insert(id, rank);
        self.queue.insert(rank, id);
    }

    /// Forgets a call that is settled.
    #[inline]
    pub(super) fn remove(&mut self, id: WorkId) {
        if !self.is_empty() {
            self.remove_one(id);
        }
    }

    fn remove_one(&mut self, id: WorkId) {
        if let Some(rank) = self.by_call.remove(&id) {
            self.queue.remove(&rank);
        }
    }

    /// Queues a call again, at its old place. False if it has none.
    pub(super) fn put_back(&mut self, id: WorkId) -> bool {
        let Some(rank) = self.by_call.get(&id) else { return false };
        self.queue.insert(*rank, id);
        true
    }

    /// Takes the first in the queue, if it goes before calls of priority 0, or, `after` them, if it does not.
    pub(super) fn pop(&mut self, after: bool) -> Option<WorkId> {
        let first = self.queue.first_entry()?;
        let (Reverse(priority), _) = *first.key();
        ((priority < 0) == after).then(|| first.remove())
    }

    /// That of the first in the queue.
    pub(super) fn first_priority(&self) -> Option<i32> {
        self.queue.first_key_value().map(|((Reverse(priority), _), _)| *priority)
    }

    /// How many are in the queue.
    pub(super) fn pending(&self) -> usize {
        self.queue.len()
    }

    /// Those in the queue, in order: what goes before calls of priority 0, and what goes after them.
    pub(super) fn queued(&self) -> [Vec<WorkId>; 2] {
        let (before, after) =
            self.queue.iter().partition::<Vec<_>, _>(|((Reverse(priority), _), _)| *priority > 0);
        [before, after].map(|part| part.into_iter().map(|(_, id)| *id).collect())
    }
}
