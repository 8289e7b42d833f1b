//! An accepted call, shared between the handle, the driver and whoever waits for it.
//!
//! It is settled once, by whoever learns its end first; that thread wakes the waiters after it has done the
//! pool's own work. User code (wakers, callbacks) never runs under one of the pool's locks.

#![cfg_attr(
    all(windows, target_env = "gnu"),
    allow(
        clippy::missing_const_for_thread_local,
        reason = "it is const, which some clippy do not see on this target"
    )
)]

use std::any::Any;
use std::borrow::Cow;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::WorkerId;
use crate::blob::{self, Split, Table};
use crate::codec::Codec;
use crate::desk::{Beside, Blobs};
use crate::driver::{Pool, task_error};
use crate::error::{CodecError, TaskError};
use crate::executor::encode_error;
use crate::function::{Native, TaskRef};
use crate::future::Asked;
use crate::machine::WorkId;
use crate::retry::Retry;
use crate::share::Share;
use crate::slot::Slot;
use crate::spare::Spare;
use crate::transport::{Driven, Link, Outgoing, Payload, Seq, Until};
use crate::wire::{self, Failure};

/// Locks, also after a panic: no lock of ours guards anything that a panic leaves half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a call ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The encoded result.
    Reply(ReplyBytes),
    Failed(TaskError),
}

/// An encoded argument or result: short ones lie inside, and a long result stays in the frame that brought it.
#[derive(Debug)]
pub(crate) enum ReplyBytes {
    Held(Argument),
    /// What follows the head of this reply.
    Framed(Spare),
    /// The same, of a result together with its blobs.
    FramedWithBlobs(Spare),
}

/// An encoded argument, as it travels. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Argument {
    Whole(Payload),
    Compound(Arc<Compound>),
}

/// An encoded value with what travels beside it.
#[derive(Debug)]
pub(crate) struct Compound {
    /// The encoded value; if there are blobs, with their table.
    pub(crate) first: Vec<u8>,
    pub(crate) blobs: Option<Payload>,
    pub(crate) shares: Vec<Arc<Share>>,
}

impl Compound {
    fn len(&self) -> usize {
        self.first.len() + self.blobs.as_ref().map_or(0, Payload::len)
    }
}

impl Argument {
    /// Encodes a value, and gives back what it was encoded in, if that is to be used again.
    pub(crate) fn encode<A: Serialize>(
        codec: Codec,
        value: &A,
        mut room: Vec<u8>,
    ) -> Result<(Self, Option<Vec<u8>>), CodecError> {
        room.clear();
        let beside =
            codec.encode_argument(value, &mut room).map_err(|message| encode_error::<A>(codec, message))?;
        if !beside.is_empty() {
            return Ok((Self::of(room, beside), None));
        }
        if room.len() > Payload::INLINE_MAX {
            return Ok((Self::Whole(room.into()), None));
        }
        Ok((Self::Whole(Payload::copied(&room)), Some(room)))
    }

    /// An encoded value and what travels beside it.
    pub(crate) fn of(encoded: Vec<u8>, beside: Beside) -> Self {
        let shares = beside.shares.map_or_else(Vec::new, |shares| shares.list);
        if beside.blobs.is_empty() {
            return match shares.is_empty() {
                true => Self::Whole(encoded.into()),
                false => Self::Compound(Arc::new(Compound { first: encoded, blobs: None, shares })),
            };
        }
        let Split { first, blobs } = Split::new(&encoded, beside.base, beside.blobs);
        Self::Compound(Arc::new(Compound { first, blobs: Some(blobs), shares }))
    }

    /// The encoded value. With blobs, which only what is to be sent has, together with their table.
    pub(crate) fn value(&self) -> &[u8] {
        match self {
            Self::Whole(payload) => payload.as_slice(),
            Self::Compound(compound) => &compound.first,
        }
    }

    /// How many bytes; of the shared values that it refers to, the largest counts by itself.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Whole(payload) => payload.len(),
            Self::Compound(compound) => {
                let shared = compound.shares.iter().map(|share| share.value.len());
                shared.max().unwrap_or(0).max(compound.len())
            }
        }
    }

    pub(crate) fn blobs(&self) -> Option<&Payload> {
        match self {
            Self::Whole(_) => None,
            Self::Compound(compound) => compound.blobs.as_ref(),
        }
    }

    pub(crate) fn shares(&self) -> &[Arc<Share>] {
        match self {
            Self::Whole(_) => &[],
            Self::Compound(compound) => &compound.shares,
        }
    }

    /// Hands `head` and this to a link, as one frame.
    pub(crate) fn send(&self, link: &dyn Link, seq: Option<Seq>, head: &[u8]) {
        match self {
            Self::Whole(payload) => link.send(Outgoing { seq, head, body: payload }),
            Self::Compound(compound) => {
                let head = [head, &compound.first].concat();
                let body = compound.blobs.as_ref().unwrap_or(&Payload::EMPTY);
                link.send(Outgoing { seq, head: &head, body });
            }
        }
    }
}

impl ReplyBytes {
    pub(crate) const EMPTY: Self = Self::Held(Argument::Whole(Payload::EMPTY));

    /// The body of a reply, which has its head.
    pub(crate) fn of_frame(frame: Cow<'_, [u8]>) -> Self {
        match &frame {
            Cow::Borrowed(short) if short.len() - wire::REPLY_HEAD <= Payload::INLINE_MAX => {
                Self::Held(Argument::Whole(Payload::copied(&short[wire::REPLY_HEAD..])))
            }
            _ => Self::Framed(frame.into()),
        }
    }

    /// Drops it. A blob may be what the user's code has lent, and takes back.
    fn let_go(self) {
        if matches!(self, Self::Held(Argument::Compound(_))) {
            waking(|| contained(|| drop(self)));
        }
    }

    /// What there is besides blobs.
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Held(argument) => argument.value(),
            Self::Framed(frame) => &frame[wire::REPLY_HEAD..],
            Self::FramedWithBlobs(frame) => {
                let body = &frame[wire::REPLY_HEAD..];
                Table::read(body).map_or(&[], |table| &body[table.value])
            }
        }
    }

    /// Decodes a result that is decoded once more later.
    pub(crate) fn decode_copy<R: DeserializeOwned>(&self, codec: Codec) -> Result<R, String> {
        match self {
            Self::FramedWithBlobs(frame) => {
                codec.decode_with_blobs(&bytes::Bytes::copy_from_slice(&frame[wire::REPLY_HEAD..]))
            }
            Self::Held(_) | Self::Framed(_) => codec.decode(self.as_slice()),
        }
    }

    /// Decodes a result.
    pub(crate) fn decode<R: DeserializeOwned>(self, codec: Codec) -> Result<R, String> {
        let Self::FramedWithBlobs(frame) = self else { return codec.decode(self.as_slice()) };
        codec.decode_with_blobs(&body(frame))
    }

    /// The encoded value, where in these bytes it begins, and its blobs.
    ///
    /// # Errors
    /// If it makes no sense.
    pub(crate) fn into_parts(self) -> Result<(Spare, usize, Blobs), String> {
        match self {
            Self::Held(argument) => Ok((Spare::copied(argument.value()), 0, Blobs::default())),
            Self::Framed(frame) => Ok((frame, wire::REPLY_HEAD, Blobs::default())),
            Self::FramedWithBlobs(frame) => {
                let (value, blobs) = blob::take_apart(&body(frame))?;
                Ok((Spare::copied(&value), 0, blobs))
            }
        }
    }
}

/// What follows the head of a reply.
fn body(frame: Spare) -> bytes::Bytes {
    bytes::Bytes::from_owner(frame).slice(wire::REPLY_HEAD..)
}

/// Whoever waits for one of several calls.
pub(crate) trait Observer: Send + Sync {
    /// The call that was registered under this number is settled. Called once, outside of locks.
    fn settled(&self, number: usize);
}

/// A done-callback; it is given the error, if the call has one.
pub(crate) type Callback = Box<dyn FnOnce(&Call) + Send>;

/// What calls have in common. Those of this image's functions share one in each pool; a named call has its own, and so
/// has one that may be made again.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) pool: Weak<Pool>,
    pub(crate) codec: Codec,
    /// The task's, if it is a named one.
    pub(crate) name: Option<Arc<str>>,
    /// When it is made again, if it may be.
    pub(crate) retry: Option<Retry>,
}

/// There may be a million of them: what few calls need is boxed, and what is needed one after the other shares a
/// place. A test holds the size.
pub(crate) struct Call {
    /// `None`: the origin names the task.
    native: Option<Native>,
    origin: Arc<Origin>,
    /// The call's id, set before anybody but the submitting thread sees the call; once it is settled with a reply,
    /// the worker that answered.
    number: AtomicU64,
    /// A [`Status`]. Written under the lock of `state`.
    status: AtomicU8,
    /// Threads wait for `changed`, or did. Written under the lock of `state`.
    parked: AtomicBool,
    changed: Condvar,
    state: Mutex<State>,
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Status {
    /// Not settled.
    Open,
    /// It has a result, which nobody has taken.
    Replied,
    /// Its result was taken.
    Taken,
    Cancelled,
    /// It has another error.
    Failed,
}

impl Status {
    const ALL: [Self; 5] = [Self::Open, Self::Replied, Self::Taken, Self::Cancelled, Self::Failed];
}

/// The bytes of a call are its argument, as long as it is not settled, and then its result, until that is taken.
enum State {
    Plain(ReplyBytes),
    /// Somebody waits for it in a way that takes more than a condition, or it has failed and that is not yet
    /// announced.
    Watched(Box<Watched>),
    /// It has failed, and that is announced.
    Failed(Box<TaskError>),
}

struct Watched {
    bytes: ReplyBytes,
    error: Option<TaskError>,
    /// Who drives a link while it waits for this call, and which worker's.
    driver: Option<(ThreadId, Arc<Slot>)>,
    aftermath: Aftermath,
}

impl State {
    const EMPTY: Self = Self::Plain(ReplyBytes::EMPTY);

    fn bytes(&mut self) -> Option<&mut ReplyBytes> {
        match self {
            Self::Plain(bytes) => Some(bytes),
            Self::Watched(watched) => Some(&mut watched.bytes),
            Self::Failed(_) => None,
        }
    }

    /// Makes room for whoever waits. Not for a call whose failure is announced.
    fn watched(&mut self) -> &mut Watched {
        if let Self::Plain(bytes) = self {
            let bytes = std::mem::replace(bytes, ReplyBytes::EMPTY);
            let watched = Watched { bytes, error: None, driver: None, aftermath: Aftermath::default() };
            *self = Self::Watched(Box::new(watched));
        }
        match self {
            Self::Watched(watched) => watched,
            Self::Plain(_) | Self::Failed(_) => unreachable!("invariant: nobody waits for what is announced"),
        }
    }
}

/// What is left to do for a settled call: user code, to be run last.
#[must_use]
#[derive(Default)]
struct Aftermath {
    waker: Option<Waker>,
    observers: Vec<(Weak<dyn Observer>, usize)>,
    callbacks: Vec<Callback>,
}

impl Call {
    pub(crate) fn new(task: TaskRef, origin: &Arc<Origin>, argument: Argument, retry: Option<Retry>) -> Self {
        let (native, name) = match task {
            TaskRef::Native(native) => (Some(native), None),
            TaskRef::Named(name) => (None, Some(name)),
        };
        let origin = match (&name, &retry) {
            (None, None) => Arc::clone(origin),
            _ => Arc::new(Origin { name, retry, ..Origin::clone(origin) }),
        };
        Self {
            native,
            origin,
            number: AtomicU64::new(0),
            status: AtomicU8::new(Status::Open as u8),
            parked: AtomicBool::new(false),
            changed: Condvar::new(),
            state: Mutex::new(State::Plain(ReplyBytes::Held(argument))),
        }
    }

    /// Names the call. Called once, by the thread that submits it.
    pub(crate) fn set_id(&self, id: WorkId) {
        self.number.store(id.to_bits(), Ordering::Release);
    }

    /// The call's id, as long as it is not settled: then it means nothing any more.
    pub(crate) fn id(&self) -> Option<WorkId> {
        let number = self.number.load(Ordering::Acquire);
        // In this sequence: the number becomes the worker's after the call is settled, so what was read is the id,
        // or this sees that the call is settled.
        (!self.is_done()).then(|| WorkId::from_bits(number))
    }

    pub(crate) fn pool(&self) -> Option<Arc<Pool>> {
        self.origin.pool.upgrade()
    }

    pub(crate) fn codec(&self) -> Codec {
        self.origin.codec
    }

    pub(crate) fn retry(&self) -> Option<&Retry> {
        self.origin.retry.as_ref()
    }

    pub(crate) fn task(&self) -> TaskRef {
        match (self.native, &self.origin.name) {
            (Some(native), _) => TaskRef::Native(native),
            (None, Some(name)) => TaskRef::Named(Arc::clone(name)),
            (None, None) => unreachable!("invariant: a call that is not native is named"),
        }
    }

    /// The task's name, as it appears in errors.
    pub(crate) fn task_name(&self) -> &str {
        match self.native {
            Some(native) => native.name(),
            None => self.origin.name.as_deref().unwrap_or_default(),
        }
    }

    /// The encoded argument, as long as it may still have to be sent.
    pub(crate) fn argument(&self) -> Option<Argument> {
        let mut state = lock(&self.state);
        match state.bytes() {
            Some(ReplyBytes::Held(argument)) if !self.is_done() => Some(argument.clone()),
            _ => None,
        }
    }

    /// Lets go of an argument that will not be sent any more, though the call is not settled.
    pub(crate) fn drop_argument(&self) {
        if self.retry().is_some() {
            return;
        }
        let mut state = lock(&self.state);
        let dropped = match state.bytes() {
            Some(bytes) if !self.is_done() => Some(std::mem::replace(bytes, ReplyBytes::EMPTY)),
            _ => None,
        };
        drop(state);
        if let Some(dropped) = dropped {
            dropped.let_go();
        }
    }

    fn status(&self) -> Status {
        let status = self.status.load(Ordering::Acquire);
        Status::ALL[usize::from(status)]
    }

    pub(crate) fn is_done(&self) -> bool {
        self.status() != Status::Open
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.status() == Status::Cancelled
    }

    /// The error of a call that is settled without a result.
    pub(crate) fn failure(&self) -> Option<TaskError> {
        match self.status() {
            Status::Open | Status::Replied | Status::Taken => None,
            Status::Cancelled => Some(TaskError::Cancelled),
            Status::Failed => match &*lock(&self.state) {
                State::Failed(error) => Some(TaskError::clone(error)),
                State::Watched(watched) => watched.error.clone(),
                State::Plain(_) => unreachable!("invariant: what has failed has an error"),
            },
        }
    }

    /// Takes the encoded result of a settled call.
    ///
    /// # Errors
    /// Why there is none; [`TaskError::Taken`] if it was taken before.
    pub(crate) fn take_reply(&self) -> Result<ReplyBytes, TaskError> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        let mut state = lock(&self.state);
        match (self.status(), state.bytes()) {
            (Status::Replied, Some(bytes)) => {
                self.set_status(Status::Taken);
                Ok(std::mem::replace(bytes, ReplyBytes::EMPTY))
            }
            (Status::Open, _) => unreachable!("invariant: asked for after the call was settled"),
            _ => Err(TaskError::Taken),
        }
    }

    fn set_status(&self, status: Status) {
        self.status.store(status as u8, Ordering::Release);
    }

    /// Looks at the encoded result, if there is one that was not taken.
    pub(crate) fn with_reply<T>(&self, f: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let mut state = lock(&self.state);
        match (self.status(), state.bytes()) {
            (Status::Replied, Some(bytes)) => Some(f(bytes.as_slice())),
            _ => None,
        }
    }

    /// Takes in the worker's answer, and wakes those who wait for it.
    pub(crate) fn settle(self: &Arc<Self>, worker: WorkerId, outcome: Outcome) {
        let mut state = lock(&self.state);
        let argument = self.take_in(&mut state, outcome);
        self.number.store(worker.0, Ordering::Release);
        self.tell(state, argument);
    }

    /// Takes in the end of the call: whoever asks from now on is told. Done under the pool's lock where others may
    /// have a hand in it, so that none of them finds the call gone and its end unknown.
    pub(crate) fn decide(&self, error: TaskError) {
        let argument = self.take_in(&mut lock(&self.state), Outcome::Failed(error));
        debug_assert!(argument.is_none(), "invariant: only a reply takes the argument's place");
    }

    /// Wakes those who wait for a call that is decided: they have seen the outcome, or are registered here by now.
    pub(crate) fn announce(self: &Arc<Self>) {
        self.tell(lock(&self.state), None);
    }

    /// Notes the end of the call. Gives back its argument where a reply takes its place, to be dropped later.
    fn take_in(&self, state: &mut State, outcome: Outcome) -> Option<ReplyBytes> {
        debug_assert!(!self.is_done(), "invariant: a call is settled once");
        let (status, argument) = match outcome {
            Outcome::Reply(reply) => {
                let bytes = state.bytes().expect("invariant: a call that is not settled has an argument");
                (Status::Replied, Some(std::mem::replace(bytes, reply)))
            }
            Outcome::Failed(TaskError::Cancelled) => (Status::Cancelled, None),
            Outcome::Failed(error) => {
                state.watched().error = Some(error);
                (Status::Failed, None)
            }
        };
        self.set_status(status);
        argument
    }

    /// Wakes those who wait for the call, and drops its argument.
    fn tell(self: &Arc<Self>, mut state: MutexGuard<'_, State>, mut argument: Option<ReplyBytes>) {
        let parked = self.parked.load(Ordering::Relaxed);
        let (bytes, error, driver, aftermath) = match std::mem::replace(&mut *state, State::EMPTY) {
            State::Plain(bytes) => (bytes, None, None, Aftermath::default()),
            State::Watched(watched) => {
                let Watched { bytes, error, driver, aftermath } = *watched;
                (bytes, error, driver, aftermath)
            }
            State::Failed(_) => unreachable!("invariant: a call is announced once"),
        };
        if self.status() == Status::Replied {
            *state = State::Plain(bytes);
        } else {
            argument = Some(bytes);
        }
        if let Some(error) = error {
            *state = State::Failed(Box::new(error));
        }
        drop(state);
        // Whoever waits wants the lock first.
        if parked {
            self.changed.notify_all();
        }
        if let Some(argument) = argument {
            argument.let_go();
        }
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
        if let Some((pool, id)) = self.pool().zip(self.id()) {
            pool.cancel(id);
        }
        self.is_cancelled()
    }

    /// Ends the call wherever it is. Whether it was not settled before.
    pub(crate) fn kill(&self) -> bool {
        let Some((pool, id)) = self.pool().zip(self.id()) else { return false };
        pool.kill(id);
        true
    }

    /// Asks the call to stop; one that has started is killed after `grace`, if it does not.
    pub(crate) fn call_off(&self, grace: Option<Duration>) -> Asked {
        let Some((pool, id)) = self.pool().zip(self.id()) else { return Asked::Settled };
        match pool.call_off(id, grace) {
            // It had another end before.
            Asked::Cancelled if !self.is_cancelled() => Asked::Settled,
            asked => asked,
        }
    }

    /// Puts the names to a failure that a worker reported of one of the call's items.
    pub(crate) fn explain(&self, failure: Failure) -> TaskError {
        // Under the lock, since whoever settles the call writes this a little after its status.
        let worker = {
            let _state = lock(&self.state);
            WorkerId(self.number.load(Ordering::Acquire))
        };
        task_error(failure, self, worker)
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
            self.parked.store(true, Ordering::Relaxed);
            state = match left {
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        true
    }

    /// Waits by driving the link of the worker that has the call, if it is at one and its link allows that.
    fn drive(&self, deadline: Option<Instant>) -> Option<bool> {
        let slot = self.pool()?.slot_of(self.id()?)?;
        {
            let mut state = lock(&self.state);
            if self.is_done() {
                return Some(true);
            }
            let driver = &mut state.watched().driver;
            if driver.is_some() {
                return None;
            }
            *driver = Some((std::thread::current().id(), Arc::clone(&slot)));
        }
        let driven = slot.drive(&Until { done: &|| self.is_done(), deadline });
        if let State::Watched(watched) = &mut *lock(&self.state) {
            watched.driver = None;
        }
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
        let place = &mut state.watched().aftermath.waker;
        if place.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            return true;
        }
        drop(state);
        // Wakers are the user's code: not under the lock.
        let waker = waker.clone();
        let mut state = lock(&self.state);
        if self.is_done() {
            return false;
        }
        let before = state.watched().aftermath.waker.replace(waker);
        drop(state);
        drop(before);
        true
    }

    /// Registers an observer; it is told at once if the call is settled already.
    pub(crate) fn observe(&self, observer: &Arc<dyn Observer>, number: usize) {
        {
            let mut state = lock(&self.state);
            if !self.is_done() {
                let observers = &mut state.watched().aftermath.observers;
                // Those who gave up waiting left nothing but a dead reference.
                observers.retain(|(observer, _)| observer.strong_count() > 0);
                observers.push((Arc::downgrade(observer), number));
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
                state.watched().aftermath.callbacks.push(callback);
                return;
            }
        }
        contained(|| callback(self));
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("task", &self.task_name()).field("done", &self.is_done()).finish()
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
            wake(waker);
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
            None => waking(run),
        }
    }
}

/// Runs user code; a panic in it stays there (the panic hook has told about it).
pub(crate) fn contained(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        discard(payload);
    }
}

thread_local! {
    /// How many wakers are being called on this thread.
    static WAKING: Cell<u32> = const { Cell::new(0) };
}

/// Wakes whoever awaits a call.
pub(crate) fn wake(waker: Waker) {
    waking(|| contained(|| waker.wake()));
}

/// Runs what does not panic in the place of a waker.
pub(crate) fn waking(f: impl FnOnce()) {
    WAKING.set(WAKING.get() + 1);
    f();
    WAKING.set(WAKING.get() - 1);
}

/// Whether a waker is being called on this thread, which may be one that a link needs for its events.
pub(crate) fn is_waking() -> bool {
    WAKING.get() > 0
}

/// Drops what user code has panicked with: it may panic once more then, with something that does so too.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
        // There may be no end of it.
        std::mem::forget(another);
    }
}

// Elsewhere locks and condition variables are of other sizes.
#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod tests {
    use super::*;

    #[test]
    fn a_pending_call_is_small() {
        // With the two counters of its `Arc` 88 bytes, which the allocator rounds up to 96.
        assert_eq!(size_of::<Call>(), 72);
        assert_eq!(size_of::<crate::TaskHandle<u64>>(), 32);
    }
}
