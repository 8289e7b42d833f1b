//! A chunk of a map: how its items lie in a call, and how a worker runs them.
//!
//! In the payload each item is `[length u32][bytes]`, so that what one item's type makes of its bytes cannot
//! shift the next. The reply is `[nanoseconds u64]`, then for each item the same again; the length's highest
//! bit says that the bytes are a failure.

use std::any::type_name;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::CodecStep;
use crate::function::{self, Invocation, Ran};
use crate::wire::{self, Failure};
use crate::worker;

/// In an item's length: the bytes are a failure.
const FAILED: u32 = 1 << 31;

/// A reply begins with how long the chunk took.
pub(crate) const REPLY_HEAD: usize = 8;

/// What is said of an item that has no place in a chunk.
pub(crate) const TOO_LONG: &str = "an item of a chunk takes 2 GiB or more";

/// Leaves room for an item's length.
pub(crate) fn begin_item(bytes: &mut Vec<u8>) -> usize {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    start
}

/// Fills in the length of the item that began at `start`, and its flag.
pub(crate) fn end_item(bytes: &mut [u8], start: usize, flag: u32) -> Result<(), ()> {
    let length = u32::try_from(bytes.len() - start - 4).ok().filter(|length| length & FAILED == 0).ok_or(())?;
    bytes[start..start + 4].copy_from_slice(&(length | flag).to_le_bytes());
    Ok(())
}

/// How many nanoseconds a chunk took, and its items.
pub(crate) fn split_head(reply: &[u8]) -> Option<(u64, &[u8])> {
    let (took, items) = reply.split_first_chunk::<REPLY_HEAD>()?;
    Some((u64::from_le_bytes(*took), items))
}

/// Whether the item at `at` failed, its bytes, and where they end.
pub(crate) fn split_item(reply: &[u8], at: usize) -> Option<(bool, &[u8], usize)> {
    let (word, rest) = reply.get(at..)?.split_first_chunk::<4>()?;
    let word = u32::from_le_bytes(*word);
    let length = (word & !FAILED) as usize;
    Some((word & FAILED != 0, rest.get(..length)?, at + 4 + length))
}

/// Runs `f` on each item of a chunk, in the worker.
pub(crate) fn run_chunk<A, R, F>(f: &F, invocation: &mut Invocation<'_>) -> Ran
where
    A: DeserializeOwned,
    R: Serialize,
    F: Fn(A) -> R,
{
    let start = Instant::now();
    let head = invocation.reply.len();
    invocation.reply.extend_from_slice(&[0; REPLY_HEAD]);
    let mut items =
        Items { codec: invocation.codec, rest: invocation.argument, reply: invocation.reply, begun: 0 };
    loop {
        // One for all: only a panic needs another.
        match worker::catch(|| items.run(f)) {
            Ok(Ran::Done) => break,
            Ok(ran) => return ran,
            Err(panic) => {
                if let Err(ran) = items.fail::<R>(&panic) {
                    return ran;
                }
            }
        }
    }
    let took = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    items.reply[head..head + REPLY_HEAD].copy_from_slice(&took.to_le_bytes());
    Ran::Done
}

/// The items of a chunk that is being run.
struct Items<'a> {
    codec: crate::Codec,
    /// Those that have not begun.
    rest: &'a [u8],
    reply: &'a mut Vec<u8>,
    /// Where in the reply the last one begins.
    begun: usize,
}

impl Items<'_> {
    /// Runs what has not begun. After a panic it may be called again.
    fn run<A, R>(&mut self, f: impl Fn(A) -> R) -> Ran
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        while let Some((length, after)) = self.rest.split_first_chunk::<4>() {
            let Some((item, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize) else {
                let message = "the chunk is cut short".to_owned();
                return Ran::Codec(CodecStep::DecodeArgument, type_name::<A>(), message);
            };
            self.rest = after;
            self.begun = begin_item(self.reply);
            let mut one = Invocation {
                codec: self.codec,
                argument: item,
                reply: self.reply,
                came: crate::desk::Came::default(),
                blobs: Vec::new(),
            };
            let ended = match worker::failure(function::run_once(&f, &mut one)) {
                None => self.end::<R>(0),
                Some(failure) => self.fail::<R>(&failure),
            };
            if let Err(ran) = ended {
                return ran;
            }
        }
        Ran::Done
    }

    /// Puts a failure in the place of the last item's result.
    fn fail<R>(&mut self, failure: &Failure) -> Result<(), Ran> {
        self.reply.truncate(self.begun + 4);
        self.reply.extend(wire::to_bytes(failure));
        self.end::<R>(FAILED)
    }

    fn end<R>(&mut self, flag: u32) -> Result<(), Ran> {
        let too_long = |()| Ran::Codec(CodecStep::EncodeResult, type_name::<R>(), TOO_LONG.to_owned());
        end_item(self.reply, self.begun, flag).map_err(too_long)
    }
}
