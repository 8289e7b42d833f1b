//! The worker table: who is starting, live, leaving or suspect, and which calls each one holds.
//!
//! Knows no processes and no links, only what was reported of them.

use std::collections::VecDeque;
use std::time::Duration;

use super::items::WorkId;
use crate::WorkerId;
use crate::spawner::Signal;
use crate::transport::Seq;

/// How far a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Ordered, and not yet ready for calls.
    Starting,
    /// The same, as the successor of one that is about to leave.
    Preparing,
    /// A successor that is ready, and for which there is no place yet.
    Reserve,
    /// Takes calls.
    Live,
    /// Told to stop, with nothing left to do.
    Leaving,
    /// Its link closed, its process ended, or it broke the rules: it gets nothing more.
    Suspect,
}

/// How many workers are in which state.
#[derive(Debug, Default)]
pub(super) struct Census([usize; 6]);

impl Census {
    pub(super) fn count(&self, state: State) -> usize {
        self.0[state as usize]
    }

    pub(super) fn enter(&mut self, state: State) {
        self.0[state as usize] += 1;
    }

    pub(super) fn leave(&mut self, state: State) {
        self.0[state as usize] -= 1;
    }
}

/// A call at a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) seq: Seq,
    pub(super) id: WorkId,
    /// The worker is known to have started it. Never becomes false again.
    pub(super) started: bool,
    /// A revocation is ordered and not answered.
    pub(super) asked: bool,
    /// It is for no other worker.
    pub(super) tied: bool,
}

impl Sent {
    /// Nobody knows of a start, and nobody has asked: it may be asked back.
    pub(super) fn is_open(&self) -> bool {
        !self.asked && !self.started
    }
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) state: State,
    pub(super) sent: VecDeque<Sent>,
    /// Calls that were taken back after the last that it answered. It has to get past them, one by one, to what was sent
    /// behind them, and says nothing of that.
    taken_back: Vec<Seq>,
    next_seq: u64,
    /// Calls still allowed by `max_tasks_per_child`.
    pub(super) allowance: Option<u64>,
    /// It has grown too large, and runs no call but those it has.
    pub(super) is_worn: bool,
    /// How many calls the link can take back at once, if it can.
    pub(super) revocable: Option<usize>,
    /// Settled a call, with a result or by its death: its start was not in vain.
    pub(super) fruitful: bool,
    /// Its end was announced, or wished for by the pool: no loss.
    pub(super) expected: bool,
    /// It was ready for calls once.
    pub(super) is_up: bool,
    /// What it was sent to end it, since the pool is at its end or it would not leave.
    pub(super) told: Option<Signal>,
    pub(super) link_closed: bool,
    pub(super) exited: bool,
    /// Nobody has heard of its exit: it was waited for in vain, and is taken for granted.
    pub(super) presumed: bool,
    /// It is one too many: it leaves as soon as it has nothing left to do.
    pub(super) excess: bool,
    /// It is to be killed for this call, or was.
    pub(super) condemned: Option<Seq>,
    /// The call whose turn it was when this was looked at last, and when its time is up.
    pub(super) first: Option<Seq>,
    pub(super) over_at: Option<Duration>,
    /// When patience with its present state ends.
    pub(super) deadline: Option<Duration>,
    /// When it last settled a call, or got its first after being idle.
    pub(super) progress: Duration,
    /// Since then it was found to be at a long call, or not to have begun.
    pub(super) held_up: bool,
    /// Calls settled since `progress` was last taken.
    pub(super) settled: u32,
    /// How long these took.
    pub(super) took: Duration,
    /// It has settled a call since it was idle: what it is at now is as short as before, as far as can be told.
    pub(super) proven: bool,
    /// The smoothed time a call takes, and the window that follows from it.
    pub(super) pace: Option<Duration>,
    pub(super) window: usize,
}

/// Calls worth this much time are kept at a worker, so that it does not wait for the parent between two.
/// Waking a sleeping process on another core costs 25–60 µs (measured), so this is a score of wake-ups.
pub(super) const AHEAD: Duration = Duration::from_millis(1);

/// What a worker does for a call beside running it.
const OVERHEAD: Duration = Duration::from_nanos(500);

/// What handing a call over costs the parent, about.
pub(super) const HAND_OVER: Duration = Duration::from_micros(2);

/// A call that takes less than this has no time to wait for anything: it wants a core, and nothing else.
pub(super) const TINY: Duration = Duration::from_micros(10);

/// Calls worth less than this are sent to a worker that is at such already, rather than to one that sleeps and has to
/// be woken for them.
pub(super) const WAKE: Duration = Duration::from_micros(50);

/// A worker that has settled nothing for this long is busy with a long call: what waits behind it is
/// offered to others.
pub(super) const STALLED: Duration = AHEAD;

impl Worker {
    pub(super) fn new(
        id: WorkerId,
        state: State,
        now: Duration,
        deadline: Duration,
        allowance: Option<u64>,
    ) -> Self {
        Self {
            id,
            state,
            sent: VecDeque::new(),
            taken_back: Vec::new(),
            next_seq: 0,
            allowance,
            is_worn: false,
            revocable: None,
            fruitful: false,
            expected: false,
            is_up: false,
            told: None,
            link_closed: false,
            exited: false,
            presumed: false,
            excess: false,
            condemned: None,
            first: None,
            over_at: None,
            deadline: Some(deadline),
            progress: now,
            held_up: false,
            settled: 0,
            took: Duration::ZERO,
            proven: false,
            pace: None,
            // Nothing is sent behind a call of which nobody knows how long it takes: it may be waiting for
            // the very call that would be.
            window: 1,
        }
    }

    /// Notes a call as sent, and numbers it.
    pub(super) fn push(&mut self, id: WorkId, tied: bool, now: Duration) -> Seq {
        if self.sent.is_empty() {
            // Unless it has just answered: calls are flowing, and that is no pause.
            self.proven &= now.saturating_sub(self.progress) < STALLED;
            (self.progress, self.held_up) = (now, false);
            (self.settled, self.took) = (0, Duration::ZERO);
        }
        if let Some(left) = &mut self.allowance {
            *left -= 1;
        }
        let seq = Seq(self.next_seq);
        self.next_seq += 1;
        self.sent.push_back(Sent { seq, id, started: false, asked: false, tied });
        seq
    }

    /// Takes out the call sent as `seq`. Mostly it is the first.
    pub(super) fn take(&mut self, seq: Seq) -> Option<Sent> {
        let at = self.position(seq)?;
        if self.first == Some(seq) {
            self.over_at = None;
        }
        // Once it is dying, it is for this call for good.
        if self.state == State::Live && self.condemned == Some(seq) {
            self.condemned = None;
        }
        self.sent.remove(at)
    }

    /// Takes out a call that it has answered, and so is past.
    pub(super) fn answered(&mut self, seq: Seq) -> Option<Sent> {
        if !self.taken_back.is_empty() {
            self.taken_back.retain(|back| *back > seq);
        }
        self.take(seq)
    }

    /// Takes out a call that was taken back from it.
    pub(super) fn give_back(&mut self, seq: Seq) -> Option<Sent> {
        let sent = self.take(seq)?;
        self.taken_back.push(seq);
        Some(sent)
    }

    /// How many were taken back since it has last answered.
    pub(super) fn taken_back(&self) -> usize {
        self.taken_back.len()
    }

    pub(super) fn position(&self, seq: Seq) -> Option<usize> {
        match self.sent.front() {
            Some(first) if first.seq == seq => Some(0),
            _ => self.sent.binary_search_by_key(&seq, |sent| sent.seq).ok(),
        }
    }

    /// Learns from the calls settled since the last time how many to keep here.
    pub(super) fn learn(&mut self, now: Duration, window_max: usize, last: &mut Duration) {
        if self.settled == 0 {
            return;
        }
        let each = OVERHEAD + self.took / self.settled;
        let before = std::mem::replace(last, each);
        // A long call after short ones counts at once. The way back is smooth, or as fast as others have found it.
        let smooth = self.pace.map_or(each, |pace| (pace * 3 + each) / 4);
        let pace = each.max(before.min(smooth));
        self.pace = Some(pace);
        let fit = AHEAD.as_nanos() / pace.as_nanos().max(1);
        // What waits behind a long call can be taken back from there, or else should not wait there.
        let least = if self.revocable.is_some() { 2 } else { 1 };
        self.window = usize::try_from(fit).unwrap_or(usize::MAX).clamp(least, window_max.max(2));
        (self.progress, self.held_up) = (now, false);
        (self.settled, self.took) = (0, Duration::ZERO);
        self.proven = true;
    }

    /// How many more calls it may get by its own limits.
    pub(super) fn room(&self) -> usize {
        if self.condemned.is_some() || self.is_worn || self.excess {
            return 0;
        }
        // What it has to get past takes it time as well: on a link that decides slowly, a worker from which much was taken
        // back would else get ever more that has to be taken back again. One it gets, whose answer tells that it is past.
        let on_the_way = self.sent.len() + self.taken_back.len();
        let by_window = self.window.saturating_sub(on_the_way).max(usize::from(self.sent.is_empty()));
        let by_window = match self.revocable {
            // A claim slot is used again `slots` calls later: the oldest call here must not lose its own to
            // a new one, also where those between them were taken back.
            Some(slots) => {
                let span = self.sent.front().map_or(0, |first| self.next_seq - first.seq.0);
                let by_slots = slots.saturating_sub(usize::try_from(span).unwrap_or(usize::MAX));
                by_window.min(by_slots)
            }
            // Beyond the reach of `cancel`: the call queue's bound decides too.
            None => by_window,
        };
        match self.allowance {
            Some(left) => by_window.min(usize::try_from(left).unwrap_or(usize::MAX)),
            None => by_window,
        }
    }

    /// Calls here that count against the call queue's bound: sent, unstarted as far as anybody knows, and
    /// not revocable. What an idle worker got first counts as started.
    pub(super) fn beyond_reach(&self) -> usize {
        match self.revocable {
            Some(_) => 0,
            None => self.sent.len().saturating_sub(1),
        }
    }

    /// Whether both its link and its process are at their end, so that no more will be heard of it.
    pub(super) fn is_gone(&self) -> bool {
        self.link_closed && self.exited
    }

    /// Calls here that others could do: not known to have started, nor the first, which may have.
    pub(super) fn waiting(&self) -> usize {
        self.sent.iter().skip(1).filter(|sent| sent.is_open() && !sent.tied).count()
    }

    /// Whether there are any; among those that only this worker may do, too, if that is of interest.
    pub(super) fn has_waiting(&self, with_tied: bool) -> bool {
        self.sent.iter().skip(1).any(|sent| sent.is_open() && (with_tied || !sent.tied))
    }

    /// Calls here that could be asked back, but for the first.
    pub(super) fn behind(&self) -> usize {
        self.sent.iter().skip(1).filter(|sent| sent.is_open()).count()
    }

    /// Whether so many calls take less than `limit` here, if they are as long as those before.
    pub(super) fn is_quick(&self, calls: usize, limit: Duration, now: Duration) -> bool {
        let calls = u32::try_from(calls).unwrap_or(u32::MAX);
        let worth = self.pace.and_then(|pace| pace.checked_mul(calls));
        self.revocable.is_some()
            && self.condemned.is_none()
            && !self.excess
            && worth.is_some_and(|worth| worth < limit)
            && !self.is_held_up(now)
    }

    /// Whether that was looked into, and what waits here has to wait.
    pub(super) fn is_held_up(&self, now: Duration) -> bool {
        self.held_up && self.stalled(now)
    }

    /// Whether its present call takes so unusually long that what waits here is better off elsewhere.
    pub(super) fn stalled(&self, now: Duration) -> bool {
        now >= self.stalls_at()
    }

    /// When that is so, if it settles nothing until then.
    pub(super) fn stalls_at(&self) -> Duration {
        let usual = self.pace.unwrap_or_default() * 3;
        self.progress + STALLED.max(usual)
    }
}
