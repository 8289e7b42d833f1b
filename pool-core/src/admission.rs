//! Bounded pools: who waits for room, and who gets it next.
//!
//! First come, first served. Whoever is let in has a place kept, and submits its call then, or gives the place up, which
//! the next one gets. Knows nothing of calls; it is kept under the pool's lock.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Waker;
use std::time::Instant;

use crate::call::lock;
use crate::error::SubmitError;

/// Who may submit to a pool that takes so many calls and no more.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The most unsettled calls.
    max: usize,
    /// Places of those who were let in and have not submitted yet.
    kept: usize,
    line: VecDeque<Arc<Waiter>>,
}

impl Admission {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, kept: 0, line: VecDeque::new() }
    }

    /// Whether one who comes now may submit now, in a pool with so many calls.
    pub(crate) fn has_room(&self, unsettled: usize) -> bool {
        self.line.is_empty() && self.is_free(unsettled)
    }

    fn is_free(&self, unsettled: usize) -> bool {
        unsettled + self.kept < self.max
    }

    /// One more waits.
    pub(crate) fn join(&mut self) -> Arc<Waiter> {
        let waiter = Arc::<Waiter>::default();
        self.line.push_back(Arc::clone(&waiter));
        waiter
    }

    /// Lets in whoever there is room for, or everybody if nobody is to wait any longer. Whom to wake for that.
    pub(crate) fn let_in(&mut self, unsettled: usize, everybody: bool) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while (everybody || self.is_free(unsettled))
            && let Some(waiter) = self.line.pop_front()
        {
            self.kept += 1;
            wakers.extend(waiter.let_in());
        }
        wakers
    }

    /// One leaves: it does not want to wait any longer, or submits now. Whether a place was kept for it.
    pub(crate) fn leave(&mut self, waiter: &Arc<Waiter>) -> bool {
        let is_in = waiter.is_in();
        if is_in {
            self.kept -= 1;
        } else {
            self.line.retain(|other| !Arc::ptr_eq(other, waiter));
        }
        is_in
    }

    /// What is said to one who has not got in.
    pub(crate) fn full(&self) -> SubmitError {
        SubmitError::Full(self.max)
    }
}

/// One who waits: a thread, or a task.
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// A place is kept. Written under the pool's lock.
    is_in: bool,
    waker: Option<Waker>,
}

impl Waiter {
    fn let_in(&self) -> Option<Waker> {
        let mut state = lock(&self.state);
        state.is_in = true;
        self.changed.notify_one();
        state.waker.take()
    }

    fn is_in(&self) -> bool {
        lock(&self.state).is_in
    }

    /// Waits until it is let in, or the deadline passes.
    pub(crate) fn wait(&self, deadline: Option<Instant>) {
        let mut state = lock(&self.state);
        while !state.is_in {
            state = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return,
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Keeps a waker for when it is let in. False if it is.
    pub(crate) fn keep_waker(&self, waker: &Waker) -> bool {
        // Wakers are the user's code: not under the lock.
        let waker = waker.clone();
        let mut state = lock(&self.state);
        if state.is_in {
            return false;
        }
        let before = state.waker.replace(waker);
        drop(state);
        drop(before);
        true
    }
}
