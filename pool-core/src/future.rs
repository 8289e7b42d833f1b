//! The handle of a call: its state, its result, and waiting for one or many.
//!
//! CPython's `Future`, `wait` and `as_completed`, with these differences: a result is moved out once, not
//! shared; `await` works on any runtime; a handle that is dropped lets its call go on.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::call::{Call, Observer, ReplyBytes, lock};
use crate::codec::Codec;
use crate::error::{CodecError, CodecStep, TaskError};

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Waiting; `cancel` succeeds.
    Pending,
    /// A worker has started it. (On a transport that cannot tell: it is at a worker.)
    Running,
    /// Cancelled before it started.
    Cancelled,
    /// It has a result, or an error.
    Finished,
}

/// What [asking a call to stop](TaskHandle::ask_to_stop) has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Asked {
    /// It had not started, and never will.
    Cancelled,
    /// It has started, or is about to: [`task::cancelled`](crate::task::cancelled) tells it. Whether it stops is the
    /// call's affair.
    Told,
    /// It is at a worker that cannot be told: the transport has no way to say it to one that is busy, or that worker is
    /// at its end.
    OutOfReach,
    /// It was settled before.
    Settled,
}

pub(crate) type Decode<R> = fn(ReplyBytes, Codec) -> Result<R, TaskError>;

/// Decodes a result of type `R` out of the reply that it came in.
pub(crate) fn decode_reply<R: DeserializeOwned>(reply: ReplyBytes, codec: Codec) -> Result<R, TaskError> {
    reply.decode(codec).map_err(|message| decode_error::<R>(codec, message))
}

/// What the codec said of a result.
#[cold]
pub(crate) fn decode_error<R>(codec: Codec, message: String) -> TaskError {
    TaskError::Codec(Box::new(CodecError {
        step: CodecStep::DecodeResult,
        type_name: std::any::type_name::<R>().to_owned(),
        codec: codec.name(),
        message,
    }))
}

/// A call that was accepted by a pool, and its result to come.
///
/// [`result`](Self::result) and `.await` wait for the result and consume the handle; everything else
/// borrows it. Dropping a handle detaches it: the call goes on, its result is thrown away.
///
/// `Send`, `Sync` and `Unpin` whatever `R` is, as long as `R: Send`. As a [`Future`] it needs no runtime of
/// a certain kind; the last waker wins, and polling it after it was ready panics.
#[must_use = "a dropped handle lets its call go on, but its result and its error are lost"]
pub struct TaskHandle<R> {
    call: Arc<Call>,
    decode: Decode<R>,
    /// The end of the call, where it was asked for without consuming the handle.
    end: OnceLock<Box<End<R>>>,
}

/// The decoded result, until it is taken, or why there is none.
type End<R> = Result<Mutex<Option<R>>, TaskError>;

// The handle never pins what it holds.
impl<R> Unpin for TaskHandle<R> {}

impl<R> TaskHandle<R> {
    pub(crate) fn new(call: Arc<Call>, decode: Decode<R>) -> Self {
        Self { call, decode, end: OnceLock::new() }
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// Why there is none. A call that returned `Err(e)` has one: `Ok(Err(e))`.
    pub fn result(self) -> Result<R, TaskError> {
        self.call.wait(None);
        self.take_only()
    }

    /// Waits for the result, but not longer than `timeout`: then `None`, and the call goes on.
    ///
    /// # Errors
    /// As [`result`](Self::result), and [`TaskError::Taken`] if the result was taken by an earlier call.
    pub fn result_timeout(&self, timeout: Duration) -> Option<Result<R, TaskError>> {
        self.wait_timeout(timeout).then(|| self.take())
    }

    /// Waits until the call is settled.
    pub fn wait(&self) {
        self.call.wait(None);
    }

    /// Waits until the call is settled, but not longer than `timeout`. Whether it is.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        // A timeout beyond what the clock can count is none.
        self.call.wait(Instant::now().checked_add(timeout))
    }

    /// Where the call is just now.
    pub fn state(&self) -> TaskState {
        if !self.call.is_done() {
            return if self.started() { TaskState::Running } else { TaskState::Pending };
        }
        if self.call.is_cancelled() { TaskState::Cancelled } else { TaskState::Finished }
    }

    fn started(&self) -> bool {
        let Some((pool, id)) = self.call.pool().zip(self.call.id()) else { return false };
        pool.started(id)
    }

    /// Whether a worker is running the call.
    pub fn running(&self) -> bool {
        self.state() == TaskState::Running
    }

    /// Whether the call is settled, in whatever way.
    pub fn done(&self) -> bool {
        self.call.is_done()
    }

    /// Whether the call was cancelled before it started.
    pub fn cancelled(&self) -> bool {
        self.state() == TaskState::Cancelled
    }

    /// The error of a settled call; `None` if it has a result or is not settled. Does not wait.
    pub fn error(&self) -> Option<&TaskError> {
        if !self.done() {
            return None;
        }
        self.end().as_ref().err()
    }

    /// Cancels the call if it has not started. Whether it is cancelled now.
    ///
    /// On a transport that can take sent calls back (pipes on Linux) this holds to the last moment: `true`
    /// means that the call never ran and never will. On others, a call that is at a worker cannot be
    /// cancelled, as in CPython.
    pub fn cancel(&self) -> bool {
        self.call.cancel()
    }

    /// Ends the call wherever it is. Whether it was not settled before.
    ///
    /// One that has not started is cancelled, as by [`cancel`](Self::cancel). One that runs ends with its worker, which
    /// is killed, and its error is [`TaskError::Killed`]; unless it was done in that moment. No other call is touched:
    /// see [`CallOptions::time_limit`](crate::CallOptions::time_limit). Returns at once; [`wait`](Self::wait) tells when
    /// it is over.
    pub fn kill(&self) -> bool {
        self.call.kill()
    }

    /// Asks the call to stop. Returns at once; [`wait`](Self::wait) tells when it is over.
    ///
    /// One that has not started is cancelled, as by [`cancel`](Self::cancel). One that runs is told by
    /// [`task::cancelled`](crate::task::cancelled), where it looks for that, and ends as it likes: what it returns is its
    /// result, and it is not made again, whatever its [policy](crate::Retry) says. One that never looks goes on, and nothing
    /// else happens to it: see [`kill_after`](Self::kill_after).
    pub fn ask_to_stop(&self) -> Asked {
        self.call.call_off(None)
    }

    /// As [`ask_to_stop`](Self::ask_to_stop), and if the call is not done when `grace` has passed, as [`kill`](Self::kill).
    /// Whether it was not settled before.
    ///
    /// Where its worker cannot be told, it is killed when the grace is over all the same.
    pub fn kill_after(&self, grace: Duration) -> bool {
        self.call.call_off(Some(grace)) != Asked::Settled
    }

    /// Calls `callback` once, when the call is settled: on the pool's callback thread, in the order of
    /// registration, or at once, here, if it is settled already. A panic in it is contained.
    ///
    /// It may submit calls, and shut the pool down. It cannot take the result, which belongs to the
    /// handle, but is told how the call ended.
    pub fn add_done_callback(&self, callback: impl FnOnce(&Settled<'_>) + Send + 'static) {
        self.call.add_callback(Box::new(|call| callback(&Settled { call, error: call.failure() })));
    }

    /// The function's name, as it appears in errors.
    pub fn task(&self) -> &str {
        self.call.task_name()
    }

    pub(crate) fn call(&self) -> &Arc<Call> {
        &self.call
    }

    /// How the settled call ended. Its result is decoded at most once.
    fn end(&self) -> &End<R> {
        self.end.get_or_init(|| {
            Box::new(match self.decoded() {
                Ok(value) => Ok(Mutex::new(Some(value))),
                // It had one.
                Err(TaskError::Taken) => Ok(Mutex::new(None)),
                Err(error) => Err(error),
            })
        })
    }

    /// Decodes the result of the settled call, unless that was done before.
    fn decoded(&self) -> Result<R, TaskError> {
        let reply = self.call.take_reply()?;
        (self.decode)(reply, self.call.codec())
    }

    fn take(&self) -> Result<R, TaskError> {
        match self.end() {
            Ok(value) => lock(value).take().ok_or(TaskError::Taken),
            Err(error) => Err(error.clone()),
        }
    }

    /// As [`take`](Self::take), for whom nobody else looks at the handle: nothing needs to be kept for others.
    fn take_only(&self) -> Result<R, TaskError> {
        if self.end.get().is_some() { self.take() } else { self.decoded() }
    }
}

impl<R> Future for TaskHandle<R> {
    type Output = Result<R, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.call.is_done() && self.call.keep_waker(context.waker()) {
            return Poll::Pending;
        }
        let result = self.take_only();
        if let Err(error) = &result {
            assert!(!matches!(error, TaskError::Taken), "a TaskHandle was polled after its result was taken");
            // Those who ask again are told the same.
            let _ = self.end.set(Box::new(Err(error.clone())));
        }
        Poll::Ready(result)
    }
}

impl<R> std::fmt::Debug for TaskHandle<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("TaskHandle");
        out.field("task", &self.task()).field("state", &self.state());
        if let Some(error) = self.call.failure() {
            out.field("error", &error);
        }
        out.finish_non_exhaustive()
    }
}

/// A settled call, as a done-callback sees it.
#[derive(Debug)]
pub struct Settled<'a> {
    call: &'a Call,
    error: Option<TaskError>,
}

impl Settled<'_> {
    /// [`TaskState::Finished`] or [`TaskState::Cancelled`].
    pub fn state(&self) -> TaskState {
        match self.error() {
            Some(TaskError::Cancelled) => TaskState::Cancelled,
            _ => TaskState::Finished,
        }
    }

    /// Why there is no result. A result that the parent cannot decode is found out by the handle only.
    pub fn error(&self) -> Option<&TaskError> {
        self.error.as_ref()
    }

    /// The function's name.
    pub fn task(&self) -> &str {
        self.call.task_name()
    }
}

/// When [`wait`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnWhen {
    /// When one is settled.
    FirstCompleted,
    /// When one is settled with an error other than cancellation, or all are settled.
    FirstException,
    /// When all are settled.
    AllCompleted,
}

/// What [`wait`] found, in the order in which the handles were given.
#[derive(Debug)]
pub struct Waited<'a, R> {
    /// Settled.
    pub done: Vec<&'a TaskHandle<R>>,
    /// Not settled.
    pub not_done: Vec<&'a TaskHandle<R>>,
}

/// Waits for several calls, of whatever pools. A `timeout` that passes is no error.
pub fn wait<'a, R>(
    handles: impl IntoIterator<Item = &'a TaskHandle<R>>,
    return_when: ReturnWhen,
    timeout: Option<Duration>,
) -> Waited<'a, R> {
    let handles: Vec<_> = handles.into_iter().collect();
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let group = Group::watch(handles.iter().map(|handle| handle.call()));
    let failed =
        |handle: &TaskHandle<R>| handle.error().is_some_and(|error| !matches!(error, TaskError::Cancelled));
    let mut left = handles.len();
    while left > 0 {
        let Some(number) = group.next(deadline) else { break };
        left -= 1;
        let enough = match return_when {
            ReturnWhen::FirstCompleted => true,
            ReturnWhen::FirstException => failed(handles[number]),
            ReturnWhen::AllCompleted => false,
        };
        if enough {
            break;
        }
    }
    let (done, not_done) = handles.into_iter().partition(|handle| handle.done());
    Waited { done, not_done }
}

/// `as_completed` took longer than its timeout. Its text is CPython's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{unfinished} (of {total}) futures unfinished")]
#[non_exhaustive]
pub struct TimedOut {
    /// How many handles were not yielded.
    pub unfinished: usize,
    /// How many were given.
    pub total: usize,
}

/// Yields handles as their calls are settled, first those that are already. `timeout` counts from this
/// call; when it has passed, one error is yielded, and then nothing.
pub fn as_completed<R>(
    handles: impl IntoIterator<Item = TaskHandle<R>>,
    timeout: Option<Duration>,
) -> AsCompleted<R> {
    let handles: Vec<_> = handles.into_iter().map(Some).collect();
    let group = Group::watch(handles.iter().flatten().map(TaskHandle::call));
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    AsCompleted { left: handles.len(), handles, group, deadline, timed_out: false }
}

/// The iterator that [`as_completed`] returns.
#[derive(Debug)]
pub struct AsCompleted<R> {
    handles: Vec<Option<TaskHandle<R>>>,
    group: Arc<Group>,
    left: usize,
    deadline: Option<Instant>,
    timed_out: bool,
}

impl<R> AsCompleted<R> {
    /// Gives back the handles that were not yielded.
    pub fn into_unfinished(self) -> Vec<TaskHandle<R>> {
        self.handles.into_iter().flatten().collect()
    }
}

impl<R> Iterator for AsCompleted<R> {
    type Item = Result<TaskHandle<R>, TimedOut>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 || self.timed_out {
            return None;
        }
        let Some(number) = self.group.next(self.deadline) else {
            self.timed_out = true;
            return Some(Err(TimedOut { unfinished: self.left, total: self.handles.len() }));
        };
        self.left -= 1;
        let handle = self.handles[number].take().expect("invariant: each call is settled once");
        Some(Ok(handle))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let most = if self.timed_out { 0 } else { self.left };
        (0, Some(most))
    }
}

/// Collects, in order of settlement, the numbers of the calls it watches.
#[derive(Debug, Default)]
pub(crate) struct Group {
    settled: Mutex<std::collections::VecDeque<usize>>,
    more: Condvar,
}

impl Group {
    /// Watches calls, numbered as they come.
    pub(crate) fn watch<'a>(calls: impl Iterator<Item = &'a Arc<Call>>) -> Arc<Self> {
        let group = Arc::new(Self::default());
        for (number, call) in calls.enumerate() {
            group.add(call, number);
        }
        group
    }

    /// Watches one more call.
    pub(crate) fn add(self: &Arc<Self>, call: &Call, number: usize) {
        let observer: Arc<dyn Observer> = Arc::clone(self) as _;
        call.observe(&observer, number);
    }

    /// The number of the next call that is settled; `None` if `deadline` passes first.
    pub(crate) fn next(&self, deadline: Option<Instant>) -> Option<usize> {
        let mut settled = lock(&self.settled);
        loop {
            if let Some(number) = settled.pop_front() {
                return Some(number);
            }
            settled = match deadline {
                None => self.more.wait(settled).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
                    self.more.wait_timeout(settled, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Observer for Group {
    fn settled(&self, number: usize) {
        lock(&self.settled).push_back(number);
        self.more.notify_one();
    }
}
