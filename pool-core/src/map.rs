//! `map`: one function, many inputs, in chunks, with a bound on what is under way.
//!
//! A chunk is one call that runs the function on each of its items. Items keep their own results: one that
//! panics, or cannot be encoded or decoded, is an error at its own place, and the others are not touched.
//! Only a worker that is lost takes the whole chunk with it.
//!
//! Inside a chunk's payload each item is `[length u32][bytes]`, inside its reply
//! `[tag u8][length u32][bytes]`, so that what one item's type makes of its bytes cannot shift the next.

use std::any::type_name;
use std::collections::BTreeMap;
use std::iter::Fuse;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::{Call, Observer, ReplyBytes};
use crate::error::{CodecError, CodecStep, SubmitError, TaskError};
use crate::executor::{Executor, encode_error};
use crate::function::{self, Function, Invocation, Ran, TaskRef};
use crate::future::{self, Group};
use crate::wire::{self, Failure};
use crate::worker;

const OK: u8 = 0;
const FAILED: u8 = 1;

/// The iterator that [`Executor::map`] returns.
///
/// It is lazy: inputs are taken, and calls submitted, as it is iterated, never more of them ahead of the
/// results than [`buffersize`](Self::buffersize). [`start`](Self::start) submits the first ones at once.
/// Each input yields one item, a result or its error; iteration goes on after an error. Dropping it cancels
/// what has not started.
///
/// Differs from CPython, where `map` without `buffersize` takes all its inputs at once, and ends at the
/// first error.
#[must_use = "map is lazy: nothing runs before it is iterated or started"]
pub struct Map<'e, F, A, R, I: Iterator> {
    executor: &'e Executor,
    f: F,
    inputs: Fuse<I>,
    chunksize: usize,
    buffersize: Option<usize>,
    timeout: Option<Duration>,
    ordered: bool,
    deadline: Option<Instant>,
    started: bool,
    ended: bool,
    /// Chunks under way, by the number in which they were submitted.
    chunks: UnderWay,
    next: usize,
    /// Items taken and not yielded.
    outstanding: usize,
    group: Arc<Group>,
    current: Option<Current>,
    taken: Taken,
    types: PhantomData<fn(A) -> R>,
}

/// Items that were submitted as one call.
struct Chunk {
    /// `None`: no item of it was sent.
    call: Option<Arc<Call>>,
    items: usize,
    /// Why some were not, by their place.
    unsent: BTreeMap<usize, TaskError>,
}

/// Items that are to become the next chunk.
#[derive(Default)]
struct Taken {
    items: usize,
    unsent: BTreeMap<usize, TaskError>,
    payload: Vec<u8>,
    /// So much of the payload is of whole items.
    whole: usize,
}

/// Chunks that are submitted and not yet yielded; what nobody will ask for any more is cancelled.
#[derive(Default)]
struct UnderWay(BTreeMap<usize, Chunk>);

impl UnderWay {
    fn cancel(&mut self) {
        for (_, chunk) in std::mem::take(&mut self.0) {
            if let Some(call) = chunk.call {
                // If it is too late for that, its end is of no interest.
                let _ = call.cancel();
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// A chunk whose results are being yielded.
struct Current {
    chunk: Chunk,
    reply: Result<ReplyBytes, TaskError>,
    /// The next item, and where its result begins.
    item: usize,
    at: usize,
}

impl<'e, F, A, R, I> Map<'e, F, A, R, I>
where
    F: Function<A, R>,
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
    I: Iterator<Item = A>,
{
    pub(crate) fn new(executor: &'e Executor, f: F, inputs: I) -> Self {
        Self {
            executor,
            f,
            inputs: inputs.fuse(),
            chunksize: 1,
            buffersize: None,
            timeout: None,
            ordered: true,
            deadline: None,
            started: false,
            ended: false,
            chunks: UnderWay::default(),
            next: 0,
            outstanding: 0,
            group: Arc::default(),
            current: None,
            taken: Taken::default(),
            types: PhantomData,
        }
    }

    /// How many inputs make one call. Default: 1. Worth raising when a call takes less than some 100 µs.
    ///
    /// 0 is refused: by [`start`](Self::start), or by the first item.
    pub fn chunksize(self, chunksize: usize) -> Self {
        Self { chunksize, ..self }
    }

    /// How many inputs may be taken ahead of the results that were yielded. Default: 1024, or four chunks
    /// for each worker if that is more.
    ///
    /// 0 is refused: by [`start`](Self::start), or by the first item.
    pub fn buffersize(self, buffersize: usize) -> Self {
        Self { buffersize: Some(buffersize), ..self }
    }

    /// How long all of it may take, from the start. What is not yielded by then is one error,
    /// [`TaskError::MapTimedOut`], and the end.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Yields results as they come, not in the order of the inputs.
    pub fn unordered(self) -> Self {
        Self { ordered: false, ..self }
    }

    /// Submits the first calls now instead of at the first item.
    ///
    /// # Errors
    /// If a size is 0, or the pool takes no more calls. No input was taken then.
    pub fn start(mut self) -> Result<Self, SubmitError> {
        self.check()?;
        self.begin();
        Ok(self)
    }

    fn check(&self) -> Result<(), SubmitError> {
        match (self.chunksize, self.buffersize) {
            (0, _) => Err(SubmitError::Zero("chunksize")),
            (_, Some(0)) => Err(SubmitError::Zero("buffersize")),
            _ => self.executor.accepts(),
        }
    }

    fn begin(&mut self) {
        self.started = true;
        self.deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.refill();
    }

    fn bound(&self) -> usize {
        let four_each = self.executor.max_workers().saturating_mul(4).saturating_mul(self.chunksize);
        self.buffersize.unwrap_or(four_each.max(1024))
    }

    /// Submits chunks as far as the bound allows.
    fn refill(&mut self) {
        let bound = self.bound();
        let size = self.chunksize.min(bound);
        while !self.ended && self.outstanding + size <= bound {
            let (mut chunk, payload) = self.take_chunk(size);
            if chunk.items == 0 {
                self.ended = true;
                return;
            }
            if chunk.unsent.len() < chunk.items {
                let task = TaskRef::Native(function::chunk(self.f));
                match self.executor.submit_encoded(task, payload.into()) {
                    Ok(call) => chunk.call = Some(call),
                    Err(error) => {
                        // The pool takes no more: these inputs say so, and no others are taken.
                        self.ended = !matches!(error, SubmitError::TooLarge { .. });
                        for item in 0..chunk.items {
                            chunk.unsent.entry(item).or_insert_with(|| TaskError::Refused(error.clone()));
                        }
                    }
                }
            }
            let number = self.next;
            self.next += 1;
            self.outstanding += chunk.items;
            match &chunk.call {
                Some(_) if self.ordered => {}
                Some(call) => self.group.add(call, number),
                None if self.ordered => {}
                None => self.group.settled(number),
            }
            self.chunks.0.insert(number, chunk);
        }
    }

    /// Takes inputs and encodes them until there are `size`. To take one or to encode it may panic; those before
    /// it stay, and the next attempt goes on behind them.
    fn take_chunk(&mut self, size: usize) -> (Chunk, Vec<u8>) {
        let codec = self.executor.codec();
        while self.taken.items < size {
            let Some(input) = self.inputs.next() else { break };
            let Taken { items, unsent, payload, whole } = &mut self.taken;
            payload.truncate(*whole);
            let start = begin_item(payload);
            let encoded = codec.encode(&input, payload).map_err(|message| encode_error::<A>(codec, message));
            if let Err(error) = encoded.and_then(|()| end_item(payload, start).map_err(|()| too_long::<A>(codec)))
            {
                payload.truncate(start);
                unsent.insert(*items, TaskError::Refused(SubmitError::Codec(error)));
            }
            *items += 1;
            *whole = payload.len();
        }
        let Taken { items, unsent, mut payload, whole } = std::mem::take(&mut self.taken);
        payload.truncate(whole);
        (Chunk { call: None, items, unsent }, payload)
    }

    /// The next chunk whose call is settled; `None` if the deadline passes first.
    fn wait_chunk(&mut self) -> Option<Chunk> {
        if self.ordered {
            let entry = self.chunks.0.first_entry()?;
            let settled = entry.get().call.as_ref().is_none_or(|call| call.wait(self.deadline));
            settled.then(|| entry.remove())
        } else {
            let number = self.group.next(self.deadline)?;
            self.chunks.0.remove(&number)
        }
    }

    fn next_item(&mut self) -> Option<Result<R, TaskError>> {
        if !self.started {
            if let Err(error) = self.check() {
                (self.started, self.ended) = (true, true);
                return Some(Err(TaskError::Refused(error)));
            }
            self.begin();
        }
        loop {
            if let Some(current) = &mut self.current
                && current.item < current.chunk.items
            {
                // First: to decode it may panic, and then it is yielded all the same.
                self.outstanding -= 1;
                return Some(current.next::<R>(self.executor.codec()));
            }
            self.current = None;
            self.refill();
            if self.chunks.0.is_empty() {
                return None;
            }
            let Some(chunk) = self.wait_chunk() else {
                (self.ended, self.outstanding) = (true, 0);
                self.chunks.cancel();
                return Some(Err(TaskError::MapTimedOut(self.timeout.unwrap_or_default())));
            };
            self.current = Some(Current::new(chunk));
        }
    }
}

impl<F, A, R, I> Iterator for Map<'_, F, A, R, I>
where
    F: Function<A, R>,
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
    I: Iterator<Item = A>,
{
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_item()
    }
}

impl<F, A, R, I: Iterator> std::fmt::Debug for Map<'_, F, A, R, I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Map")
            .field("chunksize", &self.chunksize)
            .field("outstanding", &self.outstanding)
            .finish_non_exhaustive()
    }
}

impl Current {
    fn new(chunk: Chunk) -> Self {
        let reply = chunk.call.as_ref().map_or(Ok(ReplyBytes::EMPTY), |call| call.take_reply());
        Self { chunk, reply, item: 0, at: 0 }
    }

    /// The next item's result. There must be one.
    fn next<R: DeserializeOwned>(&mut self, codec: crate::Codec) -> Result<R, TaskError> {
        let unsent = self.chunk.unsent.remove(&self.item);
        self.item += 1;
        if let Some(error) = unsent {
            return Err(error);
        }
        let reply = self.reply.as_ref().map_err(Clone::clone)?.as_slice();
        let Some((tag, bytes, end)) = split_item(reply, self.at) else {
            return Err(codec_error::<R>(codec, "the chunk's reply is cut short".to_owned()));
        };
        self.at = end;
        let call = self.chunk.call.as_ref().expect("invariant: an item that was sent was sent by a call");
        match tag {
            OK => future::decode::<R>(bytes, codec),
            _ => Err(wire::from_bytes::<Failure>(bytes).map_or_else(
                || codec_error::<R>(codec, "the item's failure is malformed".to_owned()),
                |failure| call.explain(failure),
            )),
        }
    }
}

fn codec_error<R>(codec: crate::Codec, message: String) -> TaskError {
    let type_name = type_name::<R>().to_owned();
    TaskError::Codec(Box::new(CodecError {
        step: CodecStep::DecodeResult,
        type_name,
        codec: codec.name(),
        message,
    }))
}

fn too_long<A>(codec: crate::Codec) -> CodecError {
    encode_error::<A>(codec, "an item of a chunk takes 4 GiB or more".to_owned())
}

/// Leaves room for an item's length.
fn begin_item(bytes: &mut Vec<u8>) -> usize {
    let start = bytes.len();
    bytes.extend([0; 4]);
    start
}

/// Fills in the length of the item that began at `start`.
fn end_item(bytes: &mut [u8], start: usize) -> Result<(), ()> {
    let length = u32::try_from(bytes.len() - start - 4).map_err(|_| ())?;
    bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

fn split_item(reply: &[u8], at: usize) -> Option<(u8, &[u8], usize)> {
    let (tag, rest) = reply.get(at..)?.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    Some((*tag, rest.get(..length)?, at + 5 + length))
}

/// Runs `f` on each item of a chunk, in the worker.
pub(crate) fn run_chunk<A, R, F>(f: &F, invocation: &mut Invocation<'_>) -> Ran
where
    A: DeserializeOwned,
    R: Serialize,
    F: Fn(A) -> R,
{
    let mut rest = invocation.argument;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let Some((item, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize) else {
            let message = "the chunk is cut short".to_owned();
            return Ran::Codec(CodecStep::DecodeArgument, type_name::<A>(), message);
        };
        rest = after;
        let tag_at = invocation.reply.len();
        invocation.reply.push(OK);
        let start = begin_item(invocation.reply);
        let (codec, reply) = (invocation.codec, &mut *invocation.reply);
        let ran = worker::catch(|| {
            let mut one = Invocation { codec, argument: item, reply };
            function::run_once(f, &mut one)
        });
        let failure = match ran {
            Ok(Ran::Done) => None,
            Ok(ran) => worker::failure(ran),
            Err(panic) => Some(panic),
        };
        if let Some(failure) = failure {
            invocation.reply.truncate(start + 4);
            invocation.reply[tag_at] = FAILED;
            invocation.reply.extend(wire::to_bytes(&failure));
        }
        if end_item(invocation.reply, start).is_err() {
            let message = "an item of a chunk takes 4 GiB or more".to_owned();
            return Ran::Codec(CodecStep::EncodeResult, type_name::<R>(), message);
        }
    }
    Ran::Done
}
