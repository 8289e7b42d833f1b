//! The end of a pool, rung by rung: finish, terminate, a grace, kill.
//!
//! Each rung has a time that it is reached at the latest. Whoever asks for an end may bring it forward, nobody puts it
//! off: of several wishes the strictest holds.

use std::time::Duration;

use super::workers::State;
use super::{GONE_WITHIN, How, Machine, Output, Phase};
use crate::WorkerId;
use crate::spawner::Signal;

/// How long a shutdown may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// So long calls are finished; then workers are told to end.
    pub timeout: Duration,
    /// So long after that they are killed.
    pub grace: Duration,
}

/// Why workers that were at calls were ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// `terminate_workers` or `kill_workers` was called.
    Forced(Signal),
    /// A shutdown took longer than this.
    OverTime(Duration),
    /// `interrupt` was called.
    Interrupted,
}

/// How a worker came to its end, when the pool did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// By itself, be it that it was told that there is nothing more to do.
    ByItself,
    /// After it was told to end at once.
    Told,
    /// It was killed.
    Killed,
}

/// How far the end is.
#[derive(Debug, Default)]
pub(super) struct Rungs {
    /// When workers are told to end, and the timeout that this comes of.
    terminate_at: Option<(Duration, Duration)>,
    /// When those are killed that have not ended by then.
    kill_at: Option<Duration>,
    /// The first reason there was to end workers at calls.
    cause: Option<StopCause>,
    interrupted: bool,
}

impl Rungs {
    /// When the next rung is reached, unless it is for a single worker to reach.
    pub(super) fn next(&self) -> Option<Duration> {
        self.terminate_at.map(|(at, _)| at)
    }

    fn bring_forward(&mut self, ladder: Ladder, now: Duration) {
        // What the clock cannot count to never comes.
        let Some(at) = now.checked_add(ladder.timeout) else { return };
        if self.terminate_at.is_none_or(|(known, _)| at < known) {
            self.terminate_at = Some((at, ladder.timeout));
        }
        if let Some(at) = at.checked_add(ladder.grace) {
            self.kill_by(at);
        }
    }

    /// Whether nobody is to be spared any more.
    #[cfg(test)]
    pub(super) fn is_time_to_kill(&self, now: Duration) -> bool {
        self.kill_at.is_some_and(|at| at <= now) && self.cause.is_some()
    }

    pub(super) fn kill_at(&self) -> Option<Duration> {
        self.kill_at
    }

    pub(super) fn kill_by(&mut self, at: Duration) {
        self.kill_at = Some(self.kill_at.map_or(at, |known| known.min(at)));
    }
}

impl Machine {
    /// `shutdown`: what was submitted is finished, or cancelled, and does not take for ever if there is a ladder.
    pub(super) fn shut_down(&mut self, cancel_pending: bool, ladder: Option<Ladder>, now: Duration) {
        if self.phase.works() {
            self.phase = Phase::Draining;
        }
        if cancel_pending {
            self.cancel_unstarted();
        }
        if let Some(ladder) = ladder {
            self.rungs.bring_forward(ladder, now);
            self.out.push_back(Output::Alarm);
        }
        self.settle_phase(now);
        self.climb(now);
    }

    /// `interrupt`: the end at once, and without a grace the second time.
    pub(super) fn interrupt(&mut self, now: Duration) {
        let again = std::mem::replace(&mut self.rungs.interrupted, true);
        let grace = if again { Duration::ZERO } else { self.config.stop_grace };
        self.force(StopCause::Interrupted, grace, now);
    }

    /// Goes on to the next rung if its time has come.
    pub(super) fn climb(&mut self, now: Duration) {
        let Some((_, timeout)) = self.rungs.terminate_at.filter(|(at, _)| *at <= now) else { return };
        self.rungs.terminate_at = None;
        // A broken pool kills its workers already.
        if matches!(self.phase, Phase::Running | Phase::Draining | Phase::Stopping) {
            let left = self.rungs.kill_at.map_or(Duration::MAX, |at| at.saturating_sub(now));
            self.force(StopCause::OverTime(timeout), left, now);
        }
    }

    /// What has not started is cancelled, what has goes down with its worker.
    pub(super) fn force(&mut self, cause: StopCause, grace: Duration, now: Duration) {
        self.phase = Phase::Stopping;
        self.rungs.cause.get_or_insert(cause);
        self.rungs.kill_by(now.saturating_add(grace));
        self.cancel_unstarted();
        self.end_all(now);
        self.settle_phase(now);
    }

    /// Tells every worker to end, or kills it if that time has come.
    pub(super) fn end_all(&mut self, now: Duration) {
        let kill_at = self.rungs.kill_at.unwrap_or(now);
        let (signal, deadline) =
            if kill_at <= now { (Signal::Kill, now + GONE_WITHIN) } else { (Signal::Terminate, kill_at) };
        self.idle.clear();
        for index in 0..self.workers.len() {
            let worker = &mut self.workers[index];
            worker.expected = true;
            if worker.exited {
                continue;
            }
            // A worker with calls still ends by its link and its exit, which tell what becomes of them.
            let (id, state) = (worker.id, worker.state);
            if state == State::Suspect {
                // It is at its end already, and has its time until that is known.
                self.out.push_back(Output::Signal(id, signal));
                continue;
            }
            worker.deadline = Some(worker.deadline.map_or(deadline, |known| known.min(deadline)));
            self.set_state(index, State::Leaving);
            let worker = &mut self.workers[index];
            // Once is enough to ask.
            if signal == Signal::Terminate && worker.told.is_some() {
                continue;
            }
            worker.told = Some(signal);
            if signal == Signal::Terminate && matches!(state, State::Live | State::Reserve) {
                // A call that hears the signal, and comes to an end of its own, leaves nothing more to do.
                self.out.push_back(Output::Stop(id));
            }
            self.out.push_back(Output::Signal(id, signal));
        }
        self.out.push_back(Output::Alarm);
    }

    /// Cancels the queue, and asks back what waits at workers.
    pub(super) fn cancel_unstarted(&mut self) {
        self.cancel_returned = true;
        for id in [self.items.queued(), self.ties.all_kept(), self.bounds.resting()].concat() {
            self.settle_without(id, How::Cancelled);
        }
        for index in 0..self.workers.len() {
            if self.workers[index].revocable.is_some() {
                self.ask_back(index, usize::MAX);
            }
        }
    }

    /// How a call ends that went down with this worker.
    pub(super) fn down_with(&self, id: WorkerId, told: Option<Signal>) -> How {
        match (told, self.rungs.cause) {
            (Some(_), Some(cause)) => How::Stopped(cause, id),
            _ => How::Lost(id),
        }
    }

    /// Says how a worker ended, if the pool is at its end too.
    pub(super) fn note_end(&mut self, id: WorkerId, is_up: bool, told: Option<Signal>) {
        if !matches!(self.phase, Phase::Stopping | Phase::Broken) {
            return;
        }
        let left = match told {
            // It was called off before it was one.
            None if !is_up => return,
            None => Left::ByItself,
            Some(Signal::Terminate) => Left::Told,
            Some(Signal::Kill) => Left::Killed,
        };
        self.out.push_back(Output::Left(id, left));
    }
}
