//! The pending items: every call that is accepted and not settled, and the queue of those not yet sent.
//!
//! Knows ids and places, nothing of workers' states. Finding an item is an index, not a search: a
//! [`WorkId`] carries its slot and, so that a late fact about a settled call is never taken for one about
//! the slot's next tenant, the slot's generation.

use std::collections::VecDeque;
use std::fmt;

use crate::WorkerId;
use crate::transport::Seq;

/// The pool's name for an accepted call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkId {
    generation: u32,
    index: u32,
}

impl WorkId {
    /// A small number, unique among the calls that are not settled; for tables beside the machine's.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

impl fmt::Debug for WorkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// Where an unsettled call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the queue.
    Pending,
    /// At a worker, sent as its `seq`.
    Sent(WorkerId, Seq),
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) place: Place,
    /// How often the call was sent again because its worker died before starting it.
    pub(super) resends: u8,
    /// Somebody has asked to cancel it, and the answer to a revocation is awaited.
    pub(super) cancelling: bool,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    item: Option<Item>,
}

/// All unsettled calls.
#[derive(Debug, Default)]
pub(super) struct Items {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// First in, first out; calls given back by a worker go to the front. An id whose item is settled or
    /// sent is stale and skipped.
    queue: VecDeque<WorkId>,
    pending: usize,
    unsettled: usize,
}

impl Items {
    /// Accepts a call.
    pub(super) fn insert(&mut self) -> WorkId {
        let item = Item { place: Place::Pending, resends: 0, cancelling: false };
        let id = match self.free.pop() {
            Some(index) => {
                let slot = &mut self.slots[index as usize];
                slot.item = Some(item);
                WorkId { generation: slot.generation, index }
            }
            None => {
                let index = u32::try_from(self.slots.len()).expect("invariant: fewer than 2^32 unsettled calls");
                self.slots.push(Slot { generation: 0, item: Some(item) });
                WorkId { generation: 0, index }
            }
        };
        self.queue.push_back(id);
        self.pending += 1;
        self.unsettled += 1;
        id
    }

    pub(super) fn get(&self, id: WorkId) -> Option<&Item> {
        self.slots.get(id.index()).filter(|slot| slot.generation == id.generation)?.item.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: WorkId) -> Option<&mut Item> {
        self.slots.get_mut(id.index()).filter(|slot| slot.generation == id.generation)?.item.as_mut()
    }

    /// Settles a call: its id means nothing from now on. False if it did not before.
    pub(super) fn remove(&mut self, id: WorkId) -> bool {
        let Some(slot) = self.slots.get_mut(id.index()).filter(|slot| slot.generation == id.generation) else {
            return false;
        };
        let Some(item) = slot.item.take() else { return false };
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        self.unsettled -= 1;
        if item.place == Place::Pending {
            self.pending -= 1;
            self.sweep();
        }
        true
    }

    /// Takes the next call from the queue, which the caller then marks as sent.
    pub(super) fn pop(&mut self) -> Option<WorkId> {
        while let Some(id) = self.queue.pop_front() {
            if self.get(id).is_some_and(|item| item.place == Place::Pending) {
                self.pending -= 1;
                return Some(id);
            }
        }
        None
    }

    /// Puts a call that a worker gave back at the head of the queue.
    pub(super) fn put_back(&mut self, id: WorkId) {
        let item = self.get_mut(id).expect("invariant: only an unsettled call is put back");
        item.place = Place::Pending;
        self.queue.push_front(id);
        self.pending += 1;
    }

    /// Every unsettled call, in no particular order.
    pub(super) fn all(&self) -> Vec<WorkId> {
        let live = |(index, slot): (usize, &Slot)| {
            slot.item.as_ref().map(|_| WorkId { generation: slot.generation, index: index as u32 })
        };
        self.slots.iter().enumerate().filter_map(live).collect()
    }

    /// Every queued call, in order.
    pub(super) fn queued(&self) -> Vec<WorkId> {
        let pending = |id: &&WorkId| self.get(**id).is_some_and(|item| item.place == Place::Pending);
        self.queue.iter().filter(pending).copied().collect()
    }

    /// How many calls are in the queue.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// How many calls are not settled.
    pub(super) fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// Drops stale ids once they outnumber the others, so that cancelling in a loop takes no memory.
    fn sweep(&mut self) {
        if self.queue.len() < 64 || self.queue.len() < 2 * self.pending {
            return;
        }
        let slots = &self.slots;
        self.queue.retain(|id| {
            let slot = &slots[id.index()];
            slot.generation == id.generation && slot.item.as_ref().is_some_and(|item| item.place == Place::Pending)
        });
    }
}
