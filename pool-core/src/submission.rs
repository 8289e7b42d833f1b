//! How calls get into a pool: encoded here, and submitted when there is room, at once or not at all.

#![cfg_attr(
    all(windows, target_env = "gnu"),
    allow(
        clippy::missing_const_for_thread_local,
        reason = "it is const, which some clippy do not see on this target"
    )
)]

use std::cell::Cell;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admission::Waiter;
use crate::call::{Argument, Call};
use crate::codec::Codec;
use crate::driver::Pool;
use crate::error::{CodecError, SubmitError, TrySubmitError};
use crate::executor::{CallOptions, Executor};
use crate::function::{self, Function, FunctionWith, Native, Stateless, TaskRef};
use crate::future::{self, TaskHandle};
use crate::machine::Treatment;
use crate::map::Map;
use crate::wire;

/// An executor that treats calls in a certain way: [`Executor::with`].
#[derive(Clone, Debug)]
pub struct With<'a> {
    pub(crate) executor: &'a Executor,
    pub(crate) options: CallOptions,
}

impl<'a> With<'a> {
    fn way(&self) -> Way<'a, '_> {
        Way { executor: self.executor, options: &self.options }
    }

    /// As [`Executor::submit`].
    ///
    /// # Errors
    /// As there.
    pub fn submit<F, A, R>(&self, f: F, argument: A) -> Result<TaskHandle<R>, SubmitError>
    where
        F: Function<A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let () = Stateless::<F>::CHECK;
        self.way().submit(f, &argument)
    }

    /// As [`Executor::try_submit`].
    ///
    /// # Errors
    /// As there.
    pub fn try_submit<F, A, R>(&self, f: F, argument: A) -> Result<TaskHandle<R>, TrySubmitError<A>>
    where
        F: Function<A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let () = Stateless::<F>::CHECK;
        self.way().try_submit(f, argument)
    }

    /// As [`Executor::submit_async`].
    pub fn submit_async<F, A, R>(&self, f: F, argument: A) -> Submission<R>
    where
        F: Function<A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let () = Stateless::<F>::CHECK;
        self.way().submit_async(f, &argument)
    }

    /// As [`Executor::submit_with`].
    ///
    /// # Errors
    /// As there.
    pub fn submit_with<C, F, A, R>(&self, f: F, argument: A) -> Result<TaskHandle<R>, SubmitError>
    where
        C: 'static,
        F: FunctionWith<C, A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let () = Stateless::<F>::CHECK;
        self.way().submit_with(f, &argument)
    }

    /// As [`Executor::try_submit_with`].
    ///
    /// # Errors
    /// As there.
    pub fn try_submit_with<C, F, A, R>(&self, f: F, argument: A) -> Result<TaskHandle<R>, TrySubmitError<A>>
    where
        C: 'static,
        F: FunctionWith<C, A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let () = Stateless::<F>::CHECK;
        self.way().try_submit_with(f, argument)
    }

    /// As [`Executor::submit_with_async`].
    pub fn submit_with_async<C, F, A, R>(&self, f: F, argument: A) -> Submission<R>
    where
        C: 'static,
        F: FunctionWith<C, A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let () = Stateless::<F>::CHECK;
        self.way().submit_with_async(f, &argument)
    }

    /// As [`Executor::submit_named`].
    ///
    /// # Errors
    /// As there.
    pub fn submit_named<A, R>(&self, name: &str, argument: A) -> Result<TaskHandle<R>, SubmitError>
    where
        A: Serialize,
        R: DeserializeOwned,
    {
        self.way().submit_named(name, &argument)
    }

    /// As [`Executor::try_submit_named`].
    ///
    /// # Errors
    /// As there.
    pub fn try_submit_named<A, R>(&self, name: &str, argument: A) -> Result<TaskHandle<R>, TrySubmitError<A>>
    where
        A: Serialize,
        R: DeserializeOwned,
    {
        self.way().try_submit_named(name, argument)
    }

    /// As [`Executor::submit_named_async`].
    pub fn submit_named_async<A, R>(&self, name: &str, argument: A) -> Submission<R>
    where
        A: Serialize,
        R: DeserializeOwned,
    {
        self.way().submit_named_async(name, &argument)
    }

    /// As [`Executor::map`]. What the options say is of the calls that a map makes, each of which may have several
    /// inputs.
    pub fn map<F, A, R, I>(&self, f: F, inputs: I) -> Map<'a, F, A, R, I::IntoIter>
    where
        F: Function<A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        let () = Stateless::<F>::CHECK;
        self.way().map(f, inputs)
    }

    /// As [`Executor::map_with`], treated as by [`map`](Self::map).
    pub fn map_with<C, F, A, R, I>(&self, f: F, inputs: I) -> Map<'a, F, A, R, I::IntoIter>
    where
        C: 'static,
        F: FunctionWith<C, A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        let () = Stateless::<F>::CHECK;
        self.way().map_with(f, inputs)
    }
}

/// An executor and how it is to treat a call: what all ways to submit one come to.
#[derive(Clone, Copy)]
pub(crate) struct Way<'e, 'o> {
    pub(crate) executor: &'e Executor,
    pub(crate) options: &'o CallOptions,
}

impl<'e> Way<'e, '_> {
    pub(crate) fn submit<F, A, R>(self, f: F, argument: &A) -> Result<TaskHandle<R>, SubmitError>
    where
        F: Function<A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.wait(self.native_call::<A, R>(function::call(f), argument)?)
    }

    pub(crate) fn submit_with<C, F, A, R>(self, f: F, argument: &A) -> Result<TaskHandle<R>, SubmitError>
    where
        C: 'static,
        F: FunctionWith<C, A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.wait(self.call_with::<C, F, A, R>(f, argument)?)
    }

    pub(crate) fn try_submit_with<C, F, A, R>(self, f: F, argument: A) -> Result<TaskHandle<R>, TrySubmitError<A>>
    where
        C: 'static,
        F: FunctionWith<C, A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.attempt(argument, |argument| self.call_with::<C, F, A, R>(f, argument))
    }

    pub(crate) fn submit_with_async<C, F, A, R>(self, f: F, argument: &A) -> Submission<R>
    where
        C: 'static,
        F: FunctionWith<C, A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.later(self.call_with::<C, F, A, R>(f, argument))
    }

    fn call_with<C, F, A, R>(self, f: F, argument: &A) -> Result<Arc<Call>, SubmitError>
    where
        C: 'static,
        F: FunctionWith<C, A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let native = function::call_with(f);
        self.executor.check_context::<C>(native)?;
        self.native_call::<A, R>(native, argument)
    }

    pub(crate) fn map<F, A, R, I>(self, f: F, inputs: I) -> Map<'e, F, A, R, I::IntoIter>
    where
        F: Function<A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        Map::new(self.executor, Ok(function::chunk(f)), inputs.into_iter(), self.options.clone())
    }

    pub(crate) fn map_with<C, F, A, R, I>(self, f: F, inputs: I) -> Map<'e, F, A, R, I::IntoIter>
    where
        C: 'static,
        F: FunctionWith<C, A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        let task = function::chunk_with(f);
        let task = self.executor.check_context::<C>(task).map(|()| task);
        Map::new(self.executor, task, inputs.into_iter(), self.options.clone())
    }

    pub(crate) fn try_submit<F, A, R>(self, f: F, argument: A) -> Result<TaskHandle<R>, TrySubmitError<A>>
    where
        F: Function<A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.attempt(argument, |argument| self.native_call::<A, R>(function::call(f), argument))
    }

    pub(crate) fn submit_async<F, A, R>(self, f: F, argument: &A) -> Submission<R>
    where
        F: Function<A, R>,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.later(self.native_call::<A, R>(function::call(f), argument))
    }

    pub(crate) fn submit_named<A, R>(self, name: &str, argument: &A) -> Result<TaskHandle<R>, SubmitError>
    where
        A: Serialize,
        R: DeserializeOwned,
    {
        self.wait(self.named_call::<A, R>(name, argument)?)
    }

    pub(crate) fn try_submit_named<A, R>(self, name: &str, argument: A) -> Result<TaskHandle<R>, TrySubmitError<A>>
    where
        A: Serialize,
        R: DeserializeOwned,
    {
        self.attempt(argument, |argument| self.named_call::<A, R>(name, argument))
    }

    pub(crate) fn submit_named_async<A, R>(self, name: &str, argument: &A) -> Submission<R>
    where
        A: Serialize,
        R: DeserializeOwned,
    {
        self.later(self.named_call::<A, R>(name, argument))
    }

    /// Submits a call as soon as there is room.
    fn wait<R: DeserializeOwned>(self, call: Arc<Call>) -> Result<TaskHandle<R>, SubmitError> {
        self.executor.pool().submit(&call, &self.options.treatment())?;
        Ok(handle(call))
    }

    /// Submits a call if there is room.
    fn attempt<A, R: DeserializeOwned>(
        self,
        argument: A,
        encode: impl FnOnce(&A) -> Result<Arc<Call>, SubmitError>,
    ) -> Result<TaskHandle<R>, TrySubmitError<A>> {
        let pool = self.executor.pool();
        // First: who tries again and again need not encode it each time.
        if pool.is_full() {
            return Err(TrySubmitError::Full(argument));
        }
        let treatment = self.options.treatment();
        let submitted = encode(&argument).and_then(|call| pool.submit_now(&call, &treatment).map(|()| call));
        match submitted {
            Ok(call) => Ok(handle(call)),
            Err(SubmitError::Full(_)) => Err(TrySubmitError::Full(argument)),
            Err(error) => Err(TrySubmitError::Refused(argument, error)),
        }
    }

    /// Submits a call when it is awaited, and there is room.
    fn later<R>(self, call: Result<Arc<Call>, SubmitError>) -> Submission<R> {
        let (pool, treatment) = (Arc::clone(self.executor.pool()), self.options.treatment());
        Submission { pool, treatment, call: Some(call), waiter: None, result: PhantomData }
    }

    fn native_call<A: Serialize, R>(self, native: Native, argument: &A) -> Result<Arc<Call>, SubmitError> {
        if native.address().is_none() {
            return Err(SubmitError::ForeignImage(native.name()));
        }
        let argument = encode_argument(self.executor.codec(), argument)?;
        self.executor.call::<R>(TaskRef::Native(native), argument, self.options)
    }

    fn named_call<A, R>(self, name: &str, argument: &A) -> Result<Arc<Call>, SubmitError>
    where
        A: Serialize,
        R: DeserializeOwned,
    {
        if name.len() > wire::NAME_MAX {
            let (task, size) = (name.to_owned(), name.len());
            return Err(SubmitError::TooLarge { task, size, max: wire::NAME_MAX });
        }
        let argument = encode_argument(self.executor.codec(), argument)?;
        self.executor.call::<R>(TaskRef::Named(name.into()), argument, self.options)
    }
}

/// A call that is submitted as soon as its pool has room: [`Executor::submit_async`].
///
/// A [`Future`] for any runtime. Who was first to wait is first to get room. Dropping it submits nothing, and what room
/// it had been given goes to the next.
///
/// What it comes to is an error where [`Executor::submit`]'s would be. Polling it after it was ready panics.
#[must_use = "nothing is submitted before it is awaited"]
pub struct Submission<R> {
    pool: Arc<Pool>,
    treatment: Treatment,
    /// `None` once it is submitted, or refused.
    call: Option<Result<Arc<Call>, SubmitError>>,
    /// As long as it waits.
    waiter: Option<Arc<Waiter>>,
    result: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> Future for Submission<R> {
    type Output = Result<TaskHandle<R>, SubmitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let call = this.call.take().expect("a Submission was polled after it was ready");
        let call = match call {
            Ok(call) => call,
            Err(error) => return Poll::Ready(Err(error)),
        };
        match this.pool.poll_submit(&call, &this.treatment, &mut this.waiter, context.waker()) {
            Poll::Ready(submitted) => Poll::Ready(submitted.map(|()| handle(call))),
            Poll::Pending => {
                this.call = Some(Ok(call));
                Poll::Pending
            }
        }
    }
}

impl<R> Drop for Submission<R> {
    fn drop(&mut self) {
        if let Some(waiter) = &self.waiter {
            self.pool.leave(waiter);
        }
    }
}

impl<R> std::fmt::Debug for Submission<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Submission").field("waits", &self.waiter.is_some()).finish_non_exhaustive()
    }
}

fn handle<R: DeserializeOwned>(call: Arc<Call>) -> TaskHandle<R> {
    TaskHandle::new(call, future::decode_reply::<R>)
}

thread_local! {
    /// Where arguments are encoded, so that short ones, which are copied from here, take no allocation.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

fn encode_argument<A: Serialize>(codec: Codec, argument: &A) -> Result<Argument, CodecError> {
    // Taken out: an argument may submit calls of its own while it is encoded.
    let room = ROOM.try_with(Cell::take).unwrap_or_default();
    let (argument, room) = Argument::encode(codec, argument, room)?;
    if let Some(room) = room {
        // A thread at its end has no room any more, and needs none.
        let _ = ROOM.try_with(|place| place.set(room));
    }
    Ok(argument)
}
