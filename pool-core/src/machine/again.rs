//! Calls that are made again after they have failed, because whoever submitted them wishes that.
//!
//! Such a call is settled once it has a result that will do, or has failed too often. Between two attempts it rests: it
//! is at no worker and not in the queue, and can be cancelled, be killed and expire as if it were.

use std::time::Duration;

use super::items::{Place, WorkId};
use super::{Doom, How, Machine};
use crate::WorkerId;
use crate::transport::Seq;

/// How often a call may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// So often at most.
    pub again: u32,
    /// Not, once so many workers were lost with it: it may be what ends them.
    pub losses_max: u32,
    /// Also when it has run for too long.
    pub over_time: bool,
    /// The rest before it is made again for the first time; it doubles with each further one.
    pub pause_min: Duration,
    /// The longest rest.
    pub pause_max: Duration,
}

impl Attempts {
    /// The rest after so many failures, at least one.
    fn pause(&self, failures: u32) -> Duration {
        self.pause_min.saturating_mul(1 << (failures - 1).min(20)).min(self.pause_max)
    }
}

/// What has become of the attempts so far.
#[derive(Debug)]
pub(super) struct Record {
    attempts: Attempts,
    failures: u32,
    losses: u32,
}

impl Record {
    pub(super) fn new(attempts: Attempts) -> Self {
        Self { attempts, failures: 0, losses: 0 }
    }
}

impl Machine {
    /// Has a call that was just submitted made again when it fails.
    pub fn may_repeat(&mut self, id: WorkId, attempts: Attempts) {
        if self.items.get(id).is_some() {
            self.bounds.set_record(id, Record::new(attempts));
        }
    }

    /// Which call a worker's answer is about, before it is told by [`result`](Self::result).
    pub fn asked(&self, worker: WorkerId, seq: Seq) -> Option<WorkId> {
        let worker = self.worker(worker)?;
        Some(worker.sent[worker.position(seq)?].id)
    }

    /// Notes that a worker answered the call it was sent as `seq`, which took so long, and that this answer will not do.
    /// False: there is no other attempt, so that it has to. Call [`refill`](Self::refill) after the last answer at hand.
    pub fn repeat(&mut self, worker: WorkerId, seq: Seq, took: Duration, now: Duration) -> bool {
        let Some(id) = self.asked(worker, seq) else { return false };
        if !self.rest(id, false, now) {
            return false;
        }
        self.note_answer(worker, seq, took);
        true
    }

    /// Settles a call that has failed with its worker, or makes it again.
    pub(super) fn fail(&mut self, id: WorkId, how: How, now: Duration) {
        let is_loss = matches!(how, How::Lost(_));
        let may = match how {
            How::Lost(_) => true,
            How::Doomed(Doom::OverTime(_), _) => {
                self.bounds.record(id).is_some_and(|record| record.attempts.over_time)
            }
            _ => false,
        };
        if may && self.rest(id, is_loss, now) {
            return;
        }
        let how = match (how, self.bounds.record(id)) {
            (How::Lost(worker), Some(record)) if record.losses > 1 => How::LostAgain(worker, record.losses),
            _ => how,
        };
        self.settle_without(id, how);
    }

    /// Lets a call rest that has failed, if it may be made again.
    fn rest(&mut self, id: WorkId, is_loss: bool, now: Duration) -> bool {
        let works = self.phase.works() && !self.cancel_returned;
        let is_doomed =
            matches!(self.bounds.doom(id), Some(Doom::Killed | Doom::Expired(_))) || self.bounds.is_called_off(id);
        let Some(record) = self.bounds.record_mut(id) else { return false };
        record.failures += 1;
        record.losses += u32::from(is_loss);
        let Record { attempts, failures, losses } = *record;
        if !works || is_doomed || failures > attempts.again || losses >= attempts.losses_max {
            return false;
        }
        // The time that the last attempt has had is not the next one's.
        self.bounds.pardon(id);
        let item = self.items.get_mut(id).expect("invariant: a call with a record is unsettled");
        (item.place, item.resends, item.cancelling) = (Place::Resting, 0, false);
        let pause = attempts.pause(failures);
        if pause.is_zero() {
            self.items.put_back(id);
        } else {
            let at = now.saturating_add(pause);
            self.bounds.rest_until(id, at);
            self.see_to(at);
        }
        true
    }

    /// Queues the calls that have rested, the one that did so first at the head.
    pub(super) fn wake_rested(&mut self, now: Duration) {
        let rested = self.bounds.rested(now);
        if rested.is_empty() {
            return;
        }
        rested.into_iter().rev().for_each(|id| self.items.put_back(id));
        self.dispatch(now);
    }
}
