//! An accepted call, shared between the handle, the driver and whoever waits for it.
//!
//! It is settled once, by whoever learns its end first; that thread wakes the waiters after it has done the
//! pool's own work. User code (wakers, callbacks) never runs under one of the pool's locks.

use std::any::Any;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;
use std::thread::ThreadId;
use std::time::Instant;

use crate::WorkerId;
use crate::codec::Codec;
use crate::driver::{Pool, task_error};
use crate::error::TaskError;
use crate::function::TaskRef;
use crate::machine::WorkId;
use crate::slot::Slot;
use crate::transport::{Driven, Payload, Until};
use crate::wire::Failure;

/// Locks, also after a panic: no lock of ours guards anything that a panic leaves half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a call ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The encoded result, until somebody decodes it.
    Reply(Mutex<ReplyBytes>),
    Failed(TaskError),
}

/// An encoded result: short ones lie inside, a long one stays in the frame that brought it.
#[derive(Debug)]
pub(crate) enum ReplyBytes {
    Short(Payload),
    Long { frame: Vec<u8>, start: usize },
}

impl ReplyBytes {
    pub(crate) const EMPTY: Self = Self::Short(Payload::EMPTY);

    /// The part of `frame` from `start` on.
    pub(crate) fn new(frame: Cow<'_, [u8]>, start: usize) -> Self {
        match frame {
            Cow::Owned(frame) => Self::Long { frame, start },
            Cow::Borrowed(frame) if frame.len() - start <= Payload::INLINE_MAX => {
                Self::Short(Payload::copied(&frame[start..]))
            }
            Cow::Borrowed(frame) => Self::Long { frame: frame[start..].to_vec(), start: 0 },
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short(bytes) => bytes.as_slice(),
            Self::Long { frame, start } => &frame[*start..],
        }
    }
}

/// Whoever waits for one of several calls.
pub(crate) trait Observer: Send + Sync {
    /// The call that was registered under this number is settled. Called once, outside of locks.
    fn settled(&self, number: usize);
}

/// A done-callback; it is given the error, if the call has one.
pub(crate) type Callback = Box<dyn FnOnce(&Call) + Send>;

pub(crate) struct Call {
    pub(crate) task: TaskRef,
    pub(crate) codec: Codec,
    pool: Weak<Pool>,
    /// Set before anybody but the submitting thread sees the call.
    id: OnceLock<WorkId>,
    /// The worker that answered.
    worker: OnceLock<WorkerId>,
    outcome: OnceLock<Outcome>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    payload: Option<Payload>,
    parked: usize,
    /// Who drives a link while it waits for this call, and which worker's.
    driver: Option<(ThreadId, Arc<Slot>)>,
    waker: Option<Waker>,
    observers: Vec<(Weak<dyn Observer>, usize)>,
    callbacks: Vec<Callback>,
}

/// What is left to do for a settled call: user code, to be run last.
#[must_use]
#[derive(Default)]
pub(crate) struct Aftermath {
    waker: Option<Waker>,
    observers: Vec<(Weak<dyn Observer>, usize)>,
    callbacks: Vec<Callback>,
}

impl Call {
    pub(crate) fn new(task: TaskRef, codec: Codec, payload: Payload, pool: Weak<Pool>) -> Self {
        let state = State { payload: Some(payload), ..State::default() };
        Self {
            task,
            codec,
            pool,
            id: OnceLock::new(),
            worker: OnceLock::new(),
            outcome: OnceLock::new(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Names the call. Called once, by the thread that submits it.
    pub(crate) fn set_id(&self, id: WorkId) {
        let fresh = self.id.set(id).is_ok();
        debug_assert!(fresh, "invariant: a call is accepted once");
    }

    pub(crate) fn id(&self) -> Option<WorkId> {
        self.id.get().copied()
    }

    pub(crate) fn pool(&self) -> Option<Arc<Pool>> {
        self.pool.upgrade()
    }

    /// Notes which worker answered, before the call is settled.
    pub(crate) fn set_worker(&self, worker: WorkerId) {
        let _ = self.worker.set(worker);
    }

    /// The encoded argument, as long as it may still have to be sent.
    pub(crate) fn payload(&self) -> Option<Payload> {
        lock(&self.state).payload.clone()
    }

    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// Takes in the end of the call, and wakes the threads that wait for it.
    pub(crate) fn settle(self: &Arc<Self>, outcome: Outcome) {
        self.decide(outcome);
        self.announce();
    }

    /// Takes in the end of the call: whoever asks from now on is told. Done under the pool's lock where others may
    /// have a hand in it, so that none of them finds the call gone and its end unknown.
    pub(crate) fn decide(&self, outcome: Outcome) {
        let fresh = self.outcome.set(outcome).is_ok();
        debug_assert!(fresh, "invariant: a call is settled once");
    }

    /// Wakes those who wait for a call that is decided: they have seen the outcome, or are registered here by now.
    pub(crate) fn announce(self: &Arc<Self>) {
        let (driver, aftermath, payload) = {
            let mut state = lock(&self.state);
            if state.parked > 0 {
                self.changed.notify_all();
            }
            let aftermath = Aftermath {
                waker: state.waker.take(),
                observers: std::mem::take(&mut state.observers),
                callbacks: std::mem::take(&mut state.callbacks),
            };
            (state.driver.take(), aftermath, state.payload.take())
        };
        drop(payload);
        // The driver registered before it first looked whether the call is done, so it has either seen
        // the outcome or gets this interruption.
        if let Some((thread, slot)) = driver
            && thread != std::thread::current().id()
        {
            slot.interrupt();
        }
        aftermath.run(self);
    }

    /// Cancels the call if it has not started. Whether it is cancelled now.
    pub(crate) fn cancel(&self) -> bool {
        if let Some((pool, id)) = self.pool().zip(self.id())
            && !self.is_done()
        {
            pool.cancel(id);
        }
        matches!(self.outcome(), Some(Outcome::Failed(TaskError::Cancelled)))
    }

    /// Puts the names to a failure that a worker reported of one of the call's items.
    pub(crate) fn explain(&self, failure: Failure) -> TaskError {
        task_error(failure, self, self.worker.get().copied().unwrap_or(WorkerId(0)))
    }

    /// Waits until the call is settled. False if `deadline` passed first.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        if self.is_done() {
            return true;
        }
        if let Some(driven) = self.drive(deadline) {
            return driven;
        }
        let mut state = lock(&self.state);
        while !self.is_done() {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            state.parked += 1;
            state = match left {
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.parked -= 1;
        }
        true
    }

    /// Waits by driving the link of the worker that has the call, if it is at one and its link allows that.
    fn drive(&self, deadline: Option<Instant>) -> Option<bool> {
        let slot = self.pool()?.slot_of(self.id()?)?;
        {
            let mut state = lock(&self.state);
            if state.driver.is_some() {
                return None;
            }
            state.driver = Some((std::thread::current().id(), Arc::clone(&slot)));
        }
        let driven = slot.drive(&Until { done: &|| self.is_done(), deadline });
        lock(&self.state).driver = None;
        match driven {
            Driven::Done => Some(true),
            Driven::TimedOut => Some(false),
            Driven::Busy | Driven::Unsupported => None,
        }
    }

    /// Keeps `waker` for when the call is settled, instead of the one kept before. False if it is already.
    pub(crate) fn keep_waker(&self, waker: &Waker) -> bool {
        let mut state = lock(&self.state);
        if self.is_done() {
            return false;
        }
        match &mut state.waker {
            Some(kept) => kept.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        true
    }

    /// Registers an observer; it is told at once if the call is settled already.
    pub(crate) fn observe(&self, observer: &Arc<dyn Observer>, number: usize) {
        {
            let mut state = lock(&self.state);
            if !self.is_done() {
                // Those who gave up waiting left nothing but a dead reference.
                state.observers.retain(|(observer, _)| observer.strong_count() > 0);
                state.observers.push((Arc::downgrade(observer), number));
                return;
            }
        }
        observer.settled(number);
    }

    /// Adds a callback; it runs at once, here, if the call is settled already.
    pub(crate) fn add_callback(&self, callback: Callback) {
        {
            let mut state = lock(&self.state);
            if !self.is_done() {
                state.callbacks.push(callback);
                return;
            }
        }
        contained(|| callback(self));
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("task", &self.task.name()).field("done", &self.is_done()).finish()
    }
}

impl Aftermath {
    fn run(self, call: &Arc<Call>) {
        for (observer, number) in self.observers {
            if let Some(observer) = observer.upgrade() {
                observer.settled(number);
            }
        }
        if let Some(waker) = self.waker {
            contained(|| waker.wake());
        }
        if self.callbacks.is_empty() {
            return;
        }
        let (settled, callbacks) = (Arc::clone(call), self.callbacks);
        let run = move || {
            for callback in callbacks {
                contained(|| callback(&settled));
            }
        };
        match call.pool() {
            Some(pool) => pool.run_callbacks(Box::new(run)),
            // The pool is gone, and its thread with it.
            None => run(),
        }
    }
}

/// Runs user code; a panic in it stays there (the panic hook has told about it).
pub(crate) fn contained(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        discard(payload);
    }
}

/// Drops what user code has panicked with: it may panic once more then, with something that does so too.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
        // There may be no end of it.
        std::mem::forget(another);
    }
}
