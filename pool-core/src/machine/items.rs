//! The pending items: every call that is accepted and not settled, and the queue of those not yet sent.
//!
//! Knows ids and places, nothing of workers' states. Finding an item is an index, not a search: a
//! [`WorkId`] carries its slot and, so that a late fact about a settled call is never taken for one about
//! the slot's next tenant, the slot's generation.

use std::collections::VecDeque;
use std::fmt;

use super::ranks::Ranks;
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

    /// The same as one number.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The id that became this number.
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self { generation: (bits >> 32) as u32, index: bits as u32 }
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
    /// Not sent, and for no other worker than this.
    Kept(WorkerId),
    /// At a worker, sent as its `seq`.
    Sent(WorkerId, Seq),
    /// It has failed, and is made again later.
    Resting,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) place: Place,
    /// How often the call was sent again because its worker died before starting it.
    pub(super) resends: u8,
    /// Somebody has asked to cancel it, and the answer to a revocation is awaited.
    pub(super) cancelling: bool,
}

/// What is to be said of a call that never left the queue.
const FRESH: Item = Item { place: Place::Pending, resends: 0, cancelling: false };

/// There is one for each pending call, so it is small: only a call that has left the queue has an item of its own.
#[derive(Debug)]
struct Slot {
    generation: u32,
    tenant: u32,
}

impl Slot {
    /// The tenant of a slot that is free.
    const NOBODY: u32 = u32::MAX;
    /// One that never left the queue. Any other is the number of its item.
    const FRESH: u32 = u32::MAX - 1;
}

/// All unsettled calls.
#[derive(Debug, Default)]
pub(super) struct Items {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Of the calls that left the queue, and what such calls left behind.
    items: Vec<Item>,
    free_items: Vec<u32>,
    /// First in, first out; calls given back by a worker go to the front. An id whose item is settled or
    /// sent is stale and skipped.
    queue: VecDeque<WorkId>,
    /// Calls that go before these, or after them.
    ranks: Ranks,
    pending: usize,
    unsettled: usize,
}

impl Items {
    /// Accepts a call.
    pub(super) fn insert(&mut self, priority: i32) -> WorkId {
        let id = match self.free.pop() {
            Some(index) => {
                let slot = &mut self.slots[index as usize];
                slot.tenant = Slot::FRESH;
                WorkId { generation: slot.generation, index }
            }
            None => {
                let index = u32::try_from(self.slots.len()).ok().filter(|index| *index < Slot::FRESH);
                let index = index.expect("invariant: fewer than 2^32 - 2 unsettled calls");
                self.slots.push(Slot { generation: 0, tenant: Slot::FRESH });
                WorkId { generation: 0, index }
            }
        };
        match priority {
            0 => self.queue.push_back(id),
            _ => self.ranks.insert(id, priority),
        }
        self.pending += 1;
        self.unsettled += 1;
        id
    }

    /// The slot of an unsettled call.
    fn slot(&self, id: WorkId) -> Option<&Slot> {
        let slot = self.slots.get(id.index())?;
        (slot.generation == id.generation && slot.tenant != Slot::NOBODY).then_some(slot)
    }

    pub(super) fn get(&self, id: WorkId) -> Option<&Item> {
        match self.slot(id)?.tenant {
            Slot::FRESH => Some(&FRESH),
            number => Some(&self.items[number as usize]),
        }
    }

    pub(super) fn get_mut(&mut self, id: WorkId) -> Option<&mut Item> {
        let number = match self.slot(id)?.tenant {
            Slot::FRESH => {
                let number = self.new_item();
                self.slots[id.index()].tenant = number;
                number
            }
            number => number,
        };
        Some(&mut self.items[number as usize])
    }

    fn new_item(&mut self) -> u32 {
        if let Some(number) = self.free_items.pop() {
            self.items[number as usize] = FRESH;
            return number;
        }
        self.items.push(FRESH);
        // There are no more of them than of slots, which were counted.
        self.items.len() as u32 - 1
    }

    /// Settles a call: its id means nothing from now on. False if it did not before.
    pub(super) fn remove(&mut self, id: WorkId) -> bool {
        let Some(was_pending) = self.get(id).map(|item| item.place == Place::Pending) else { return false };
        let slot = &mut self.slots[id.index()];
        if slot.tenant != Slot::FRESH {
            self.free_items.push(slot.tenant);
        }
        slot.tenant = Slot::NOBODY;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        self.unsettled -= 1;
        self.ranks.remove(id);
        if was_pending {
            self.pending -= 1;
            self.sweep();
        }
        true
    }

    /// Takes the next call from the queue, which the caller then marks as sent.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<WorkId> {
        if self.is_plain() { self.pop_plain() } else { self.pop_ranked() }
    }

    #[inline]
    fn pop_plain(&mut self) -> Option<WorkId> {
        while let Some(id) = self.queue.pop_front() {
            if self.get(id).is_some_and(|item| item.place == Place::Pending) {
                self.pending -= 1;
                return Some(id);
            }
        }
        None
    }

    fn pop_ranked(&mut self) -> Option<WorkId> {
        if let Some(id) = self.ranks.pop(false) {
            self.pending -= 1;
            return Some(id);
        }
        self.pop_plain().or_else(|| self.ranks.pop(true).inspect(|_| self.pending -= 1))
    }

    /// Puts a call that a worker gave back at the head of the queue; behind those of a higher priority.
    pub(super) fn put_back(&mut self, id: WorkId) {
        let item = self.get_mut(id).expect("invariant: only an unsettled call is put back");
        item.place = Place::Pending;
        if self.is_plain() || !self.ranks.put_back(id) {
            self.queue.push_front(id);
        }
        self.pending += 1;
    }

    /// The priority of the next call in the queue.
    pub(super) fn first_priority(&self) -> Option<i32> {
        let plain = (self.pending > self.ranks.pending()).then_some(0);
        self.ranks.first_priority().max(plain)
    }

    /// Whether all unsettled calls have the same priority, the usual one.
    pub(super) fn is_plain(&self) -> bool {
        self.ranks.is_empty()
    }

    /// Every unsettled call, in no particular order.
    pub(super) fn all(&self) -> Vec<WorkId> {
        let live = |(index, slot): (usize, &Slot)| {
            (slot.tenant != Slot::NOBODY).then_some(WorkId { generation: slot.generation, index: index as u32 })
        };
        self.slots.iter().enumerate().filter_map(live).collect()
    }

    /// Every queued call, in order.
    pub(super) fn queued(&self) -> Vec<WorkId> {
        let pending = |id: &&WorkId| self.get(**id).is_some_and(|item| item.place == Place::Pending);
        let [mut queued, after] = self.ranks.queued();
        queued.extend(self.queue.iter().filter(pending));
        queued.extend(after);
        queued
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
        let mut queue = std::mem::take(&mut self.queue);
        queue.retain(|id| self.get(*id).is_some_and(|item| item.place == Place::Pending));
        self.queue = queue;
    }
}
