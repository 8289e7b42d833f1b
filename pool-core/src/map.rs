//! `map`: one function, many inputs, in chunks, with a bound on what is under way.
//!
//! A chunk is one call that runs the function on each of its items. Items keep their own results: one that
//! panics, or cannot be encoded or decoded, is an error at its own place, and the others are not touched.
//! Only a worker that is lost takes the whole chunk with it.
//!
//! How many items make a chunk is the caller's choice, or follows from how long the chunks before it took:
//! see `Pace`.
//!
//! What a chunk looks like, and how a worker runs it, is in `chunk.rs`.

use std::collections::BTreeMap;
use std::iter::Fuse;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::{Argument, Call, Observer, ReplyBytes};
use crate::chunk::{self, REPLY_HEAD};
use crate::desk::{self, Beside, Blobs, Came, Desk};
use crate::error::{SubmitError, TaskError};
use crate::executor::{CallOptions, Executor, encode_error};
use crate::function::{Native, TaskRef};
use crate::future::{Group, decode_error};
use crate::item::{self, Guess};
use crate::spare::Spare;
use crate::wire::{self, Failure};

/// How long a chunk should take. To hand one over takes some 10 to 30 µs, most of it for waking the worker: a
/// twentieth of this.
const CHUNK_TIME: Duration = Duration::from_micros(500);

/// A chunk has at most so many times the items of one that was seen to be quick.
const GROWTH: usize = 4;

/// A chunk whose size was not given takes no more bytes, but for a single item: about what a pipe takes at once
/// on Linux, with something left for a head. What takes more is handed over in parts, with a wake-up for each.
const CHUNK_BYTES: usize = 60 << 10;

/// Without a `buffersize`, so many inputs may be taken ahead in any case.
const AHEAD: usize = 1024;

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
    /// What runs a chunk, or why nothing can.
    task: Result<Native, SubmitError>,
    inputs: Fuse<I>,
    options: CallOptions,
    /// `None`: by the pace.
    chunksize: Option<usize>,
    pace: Pace,
    buffersize: Option<usize>,
    timeout: Option<Duration>,
    ordered: bool,
    deadline: Option<Instant>,
    started: bool,
    ended: bool,
    /// It waited for room until the deadline, in vain.
    late: bool,
    /// Chunks under way, by the number in which they were submitted.
    chunks: UnderWay,
    next: usize,
    /// Items taken and not yielded.
    outstanding: usize,
    yielded: usize,
    group: Arc<Group>,
    current: Option<Current>,
    taken: Taken,
    function: PhantomData<F>,
    types: PhantomData<fn(A) -> R>,
}

/// Learns from chunks how many items the next one should have.
///
/// It begins with one, and grows only by what was measured. A chunk that was slower than those before counts
/// at once and alone: what follows is probably slow too.
#[derive(Debug)]
struct Pace {
    size: usize,
    /// A chunk under way that is looked at while others are being submitted, not only when its turn comes.
    probe: Option<(Arc<Call>, usize)>,
}

impl Pace {
    /// Learns from a chunk that is settled. If its results were taken, that was done then.
    fn learn(&mut self, call: &Call, items: usize) {
        if let Some(took) = call.with_reply(chunk::took).flatten() {
            self.measured(items, took);
        } else if call.failure().is_some() {
            // Its worker is probably lost: the next one to be lost should cost less.
            self.size = 1;
        }
    }

    fn measured(&mut self, items: usize, took: u64) {
        let fits = items as u128 * CHUNK_TIME.as_nanos() / u128::from(took.max(1));
        let fits = usize::try_from(fits).unwrap_or(usize::MAX);
        self.size =
            if fits < self.size { fits.max(1) } else { fits.min(items.saturating_mul(GROWTH)).max(self.size) };
    }

    /// Looks whether there is news.
    fn look(&mut self) {
        if let Some((call, items)) = self.probe.take_if(|(call, _)| call.is_done()) {
            self.learn(&call, items);
        }
    }
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
    /// What is to travel beside them.
    beside: Option<Beside>,
    /// So many of the blobs there are of whole items, and so many bytes.
    blobs: (usize, usize),
}

/// Where an item begins that is too much for its chunk.
#[derive(Clone, Copy)]
struct Cut {
    at: usize,
    blobs: (usize, usize),
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
    /// What the worker sent; empty if there is an error instead.
    reply: Spare,
    error: Option<TaskError>,
    /// What came beside it.
    blobs: Blobs,
    /// The next item, and where its result begins.
    item: usize,
    at: usize,
    /// Before this item all are in the reply.
    plain: usize,
}

impl<'e, F, A, R, I> Map<'e, F, A, R, I>
where
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
    I: Iterator<Item = A>,
{
    pub(crate) fn new(
        executor: &'e Executor,
        task: Result<Native, SubmitError>,
        inputs: I,
        options: CallOptions,
    ) -> Self {
        Self {
            executor,
            task,
            inputs: inputs.fuse(),
            options,
            chunksize: None,
            pace: Pace { size: 1, probe: None },
            buffersize: None,
            timeout: None,
            ordered: true,
            deadline: None,
            started: false,
            ended: false,
            late: false,
            chunks: UnderWay::default(),
            next: 0,
            outstanding: 0,
            yielded: 0,
            group: Arc::default(),
            current: None,
            taken: Taken::default(),
            function: PhantomData,
            types: PhantomData,
        }
    }

    /// How many inputs make one call. Default: what takes about half a millisecond.
    ///
    /// Without it, the first calls have one input each, and the next ones as many as the last ones let
    /// expect: up to four times as many when they were quick, at once fewer when one was slow. Near an end that
    /// the inputs tell of ([`Iterator::size_hint`]) calls become smaller, so that all workers have some. No call
    /// takes more than 60 KiB, but for a single input.
    ///
    /// A worker that is lost takes all inputs of its call with it, so choose 1 if one is likely to be. Items that
    /// are quick at first and then take long are another reason.
    ///
    /// 0 is refused: by [`start`](Self::start), or by the first item.
    ///
    /// Differs from CPython, whose default is 1, whatever calls take.
    pub fn chunksize(self, chunksize: usize) -> Self {
        Self { chunksize: Some(chunksize), ..self }
    }

    /// How many inputs may be taken ahead of the results that were yielded. Default: 1024, or four chunks
    /// for each worker if that is more; but where `map` chooses the chunks, not more than were yielded.
    ///
    /// Where `map` chooses the chunks, they are so small that each worker can have two of them within the bound.
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

    /// Submits the first calls now instead of at the first item. In a [full](crate::Builder::max_pending) pool that waits
    /// until there is room for one.
    ///
    /// # Errors
    /// If a size is 0, the pool takes no more calls, or the function takes another worker context. No input was taken
    /// then.
    pub fn start(mut self) -> Result<Self, SubmitError> {
        self.check()?;
        self.begin();
        Ok(self)
    }

    fn check(&self) -> Result<(), SubmitError> {
        match (self.chunksize, self.buffersize) {
            (Some(0), _) => Err(SubmitError::Zero("chunksize")),
            (_, Some(0)) => Err(SubmitError::Zero("buffersize")),
            _ => {
                self.task.clone()?;
                self.executor.accepts()
            }
        }
    }

    fn begin(&mut self) {
        self.started = true;
        self.deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.refill();
    }

    fn bound(&self) -> usize {
        let four_each = |size: usize| self.executor.max_workers().saturating_mul(4).saturating_mul(size);
        self.buffersize.unwrap_or_else(|| match self.chunksize {
            Some(chunksize) => four_each(chunksize).max(AHEAD),
            // Who wants only the first few has not many more taken.
            None => four_each(self.pace.size).min(self.yielded).max(AHEAD),
        })
    }

    /// How many inputs the next chunk should have.
    fn size(&self, bound: usize) -> usize {
        let size = self.chunksize.unwrap_or_else(|| {
            let two_each = self.executor.max_workers().saturating_mul(2);
            let left = self.inputs.size_hint().1.unwrap_or(usize::MAX);
            let size = self.pace.size.min(bound / two_each).min(left / two_each).max(1);
            // Of a pool that takes no more, one input has to tell.
            if size > 1 && self.executor.accepts().is_err() { 1 } else { size }
        });
        // What is left of an attempt that panicked, or was too much for the last chunk, goes along.
        size.min(bound).max(self.taken.items)
    }

    /// Submits chunks as far as the bound allows.
    fn refill(&mut self) {
        let bound = self.bound();
        while !self.ended {
            self.pace.look();
            // Who can wait for results does not wait for room.
            if !self.chunks.0.is_empty() && self.executor.pool().is_full() {
                return;
            }
            let size = self.size(bound);
            if self.outstanding + size > bound {
                return;
            }
            let (mut chunk, argument) = self.take_chunk(size);
            if chunk.items == 0 {
                self.ended = true;
                return;
            }
            self.submit(&mut chunk, argument);
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

    fn submit(&mut self, chunk: &mut Chunk, argument: Argument) {
        let sent = chunk.items - chunk.unsent.len();
        if sent == 0 {
            return;
        }
        let task = self.task.clone().map(TaskRef::Native);
        let submitted = task.and_then(|task| {
            let call = self.executor.call::<()>(task, argument, &self.options)?;
            self.executor.pool().submit_until(&call, &self.options.treatment(), self.deadline).map(|()| call)
        });
        match submitted {
            Ok(call) => {
                if self.chunksize.is_none() {
                    self.pace.probe.get_or_insert_with(|| (Arc::clone(&call), sent));
                }
                chunk.call = Some(call);
            }
            Err(error) => {
                let is_over = self.deadline.is_some_and(|at| at <= Instant::now());
                self.late = is_over && matches!(error, SubmitError::Full(_));
                // The pool takes no more: these inputs say so, and no others are taken.
                self.ended = !matches!(error, SubmitError::TooLarge { .. });
                if self.ended {
                    chunk.items += std::mem::take(&mut self.taken).items;
                }
                for item in 0..chunk.items {
                    chunk.unsent.entry(item).or_insert_with(|| TaskError::Refused(error.clone()));
                }
            }
        }
    }

    /// Takes inputs and encodes them until there are `size`, or as many bytes as a chunk should have. To take one
    /// or to encode it may panic; those before it stay, and the next attempt goes on behind them.
    fn take_chunk(&mut self, size: usize) -> (Chunk, Argument) {
        let codec = self.executor.codec();
        let mut beside = self.taken.beside.take().unwrap_or_else(|| Beside::of_call(codec));
        beside.blobs.truncate(self.taken.blobs.0);
        let (cut, desk) = Desk::new(beside, Came::default()).work(|| {
            // Caught, since what those before it have left at the desk has to stay.
            std::panic::catch_unwind(AssertUnwindSafe(|| self.take(size)))
        });
        let mut beside = desk.beside.unwrap_or_default();
        let cut = match cut {
            Ok(cut) => cut,
            Err(panic) => {
                self.taken.beside = Some(beside);
                std::panic::resume_unwind(panic);
            }
        };
        let Taken { mut items, unsent, mut payload, whole, blobs, .. } = std::mem::take(&mut self.taken);
        payload.truncate(whole);
        // The next one will be about as long, but for an item that was large for once.
        let room = if self.chunksize.is_some() { whole } else { whole.min(2 * CHUNK_BYTES) };
        self.taken.payload = Vec::with_capacity(room);
        if let Some(cut) = cut {
            items -= 1;
            self.pace.size = items.min(self.pace.size);
            let taken = &mut self.taken;
            taken.payload.extend_from_slice(&payload[cut.at..]);
            (taken.items, taken.whole) = (1, whole - cut.at);
            taken.beside = Some(beside.split_off(cut.blobs.0));
            taken.blobs = (blobs.0 - cut.blobs.0, blobs.1 - cut.blobs.1);
            payload.truncate(cut.at);
        }
        (Chunk { call: None, items, unsent }, Argument::of(payload, beside))
    }

    /// Takes inputs, and leaves at the desk what is to travel beside them. Where the last one begins, if it is too much.
    fn take(&mut self, size: usize) -> Option<Cut> {
        let codec = self.executor.codec();
        let bytes_max = match self.chunksize {
            Some(_) => usize::MAX,
            None => CHUNK_BYTES.min(self.executor.payload_max()),
        };
        let mut guess = Guess::FIRST;
        let Taken { items, unsent, payload, whole, blobs, .. } = &mut self.taken;
        // What an attempt has left that panicked.
        payload.truncate(*whole);
        while *items < size {
            let Some(input) = self.inputs.next() else { break };
            let (cut, tally) = (Cut { at: payload.len(), blobs: *blobs }, desk::tally());
            if let Err(message) = desk::open(|| item::put(codec, &input, payload, &mut guess)) {
                let error = encode_error::<A>(codec, desk::explain(message));
                unsent.insert(*items, TaskError::Refused(SubmitError::Codec(error)));
                desk::keep(blobs.0);
            }
            *items += 1;
            *whole = payload.len();
            if desk::tally() != tally {
                *blobs = desk::left();
            }
            if *whole + blobs.1 > bytes_max && cut.at > 0 && *whole > cut.at {
                return Some(cut);
            }
        }
        None
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

    /// Goes on to the next chunk. False if there is none.
    ///
    /// # Errors
    /// What to yield instead of one.
    #[inline(never)]
    fn next_chunk(&mut self) -> Result<bool, TaskError> {
        if !self.started {
            if let Err(error) = self.check() {
                (self.started, self.ended) = (true, true);
                return Err(TaskError::Refused(error));
            }
            self.begin();
        }
        if let Some(Current { chunk, .. }) = self.current.take() {
            self.outstanding -= chunk.items;
            self.yielded += chunk.items;
        }
        self.refill();
        if self.chunks.0.is_empty() {
            return Ok(false);
        }
        let Some(chunk) = (if self.late { None } else { self.wait_chunk() }) else {
            (self.ended, self.outstanding) = (true, 0);
            self.chunks.cancel();
            return Err(TaskError::MapTimedOut(self.timeout.unwrap_or_default()));
        };
        if let Some(call) = &chunk.call {
            self.pace.learn(call, chunk.items - chunk.unsent.len());
        }
        self.current = Some(Current::new(chunk));
        Ok(true)
    }
}

impl<F, A, R, I> Iterator for Map<'_, F, A, R, I>
where
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
    I: Iterator<Item = A>,
{
    type Item = Result<R, TaskError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(current) = &mut self.current
                && let Some(item) = current.next::<R>(self.executor.codec())
            {
                return Some(item);
            }
            match self.next_chunk() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<F, A, R, I: Iterator> std::fmt::Debug for Map<'_, F, A, R, I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Map")
            .field("chunksize", &self.chunksize)
            .field("outstanding", &(self.outstanding - self.current.as_ref().map_or(0, |current| current.item)))
            .finish_non_exhaustive()
    }
}

impl Current {
    fn new(chunk: Chunk) -> Self {
        let reply = chunk.call.as_ref().map_or(Ok(ReplyBytes::EMPTY), |call| call.take_reply());
        let ((reply, at, blobs), error) = match reply {
            // Of what makes no sense, no item does.
            Ok(reply) => (reply.into_parts().unwrap_or_default(), None),
            Err(error) => (<_>::default(), Some(error)),
        };
        let is_plain = chunk.unsent.is_empty() && error.is_none() && blobs.list.is_none();
        let plain = if is_plain { chunk.items } else { 0 };
        Self { chunk, reply, error, blobs, item: 0, at: at + REPLY_HEAD, plain }
    }

    /// The next item's result.
    #[inline(always)]
    fn next<R: DeserializeOwned>(&mut self, codec: crate::Codec) -> Option<Result<R, TaskError>> {
        if self.item < self.plain
            && let Some(item) = self.reply.get(self.at..).and_then(item::split)
            && !item.failed
        {
            // First: to decode it may panic, and then it is yielded all the same.
            self.item += 1;
            self.at = self.reply.len() - item.rest.len();
            return match item::decode(codec, item.bytes) {
                Ok(result) => Some(Ok(result)),
                Err(message) => Some(Err(decode_error::<R>(codec, message))),
            };
        }
        if self.item < self.chunk.items { Some(self.other(codec)) } else { None }
    }

    /// The next item's result, if there is more to it.
    #[cold]
    fn other<R: DeserializeOwned>(&mut self, codec: crate::Codec) -> Result<R, TaskError> {
        let unsent = self.chunk.unsent.remove(&self.item);
        self.item += 1;
        if let Some(error) = unsent.or_else(|| self.error.clone()) {
            return Err(error);
        }
        let Some(item) = self.reply.get(self.at..).and_then(item::split) else {
            return Err(decode_error::<R>(codec, "the chunk's reply is cut short".to_owned()));
        };
        self.at = self.reply.len() - item.rest.len();
        if !item.failed {
            let came = Came::new(self.blobs.clone(), None);
            let decoded = desk::decoding(came, || item::decode(codec, item.bytes));
            return decoded.map(|(result, _)| result).map_err(|message| decode_error::<R>(codec, message));
        }
        let call = self.chunk.call.as_ref().expect("invariant: an item that was sent was sent by a call");
        Err(wire::from_bytes::<Failure>(item.bytes).map_or_else(
            || decode_error::<R>(codec, "the item's failure is malformed".to_owned()),
            |failure| call.explain(failure),
        ))
    }
}
