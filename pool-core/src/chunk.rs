//! A chunk of a map: how a worker runs it.
//!
//! The payload is one [item] after the other. The reply is `[nanoseconds u64]`, and again items.

use std::any::type_name;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::BLOBS_LEFT;
use crate::desk::{self, Beside, Desk};
use crate::error::CodecStep;
use crate::function::{Invocation, Ran};
use crate::item::{self, Guess};
use crate::wire::{self, Failure};
use crate::worker;

/// A reply begins with how long the chunk took.
pub(crate) const REPLY_HEAD: usize = 8;

/// How many nanoseconds a chunk took; `None` if the reply is cut short.
pub(crate) fn took(reply: &[u8]) -> Option<u64> {
    reply.first_chunk::<REPLY_HEAD>().map(|took| u64::from_le_bytes(*took))
}

/// Runs `f` on each item of a chunk, in the worker.
pub(crate) fn run_chunk<A, R, F>(mut f: F, invocation: &mut Invocation<'_>) -> Ran
where
    A: DeserializeOwned,
    R: Serialize,
    F: FnMut(A) -> R,
{
    let start = Instant::now();
    let head = invocation.reply.len();
    invocation.reply.extend_from_slice(&[0; REPLY_HEAD]);
    let came = std::mem::take(&mut invocation.came);
    let mut items = Items {
        codec: invocation.codec,
        has_come: !came.is_empty(),
        rest: invocation.argument,
        reply: invocation.reply,
        begun: 0,
    };
    let (ran, desk) = Desk::new(Beside::default(), came).work(|| {
        loop {
            // One for all: only a panic needs another.
            match worker::catch(|| items.run(&mut f)) {
                Ok(ran) => return ran,
                Err(panic) => items.fail(panic),
            }
        }
    });
    match ran {
        Ran::Done => {}
        ran => return ran,
    }
    if desk.came.left() > 0 && !items.codec.describes() {
        return Ran::Codec(CodecStep::DecodeArgument, type_name::<A>(), BLOBS_LEFT.to_owned());
    }
    invocation.beside = desk.beside.unwrap_or_default();
    let took = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    items.reply[head..head + REPLY_HEAD].copy_from_slice(&took.to_le_bytes());
    Ran::Done
}

/// The items of a chunk that is being run.
struct Items<'a> {
    codec: crate::Codec,
    /// Something came beside them.
    has_come: bool,
    /// Those that have not begun.
    rest: &'a [u8],
    reply: &'a mut Vec<u8>,
    /// Where in the reply the last one begins.
    begun: usize,
}

impl Items<'_> {
    /// Runs what has not begun. After a panic it may be called again.
    fn run<A, R>(&mut self, mut f: impl FnMut(A) -> R) -> Ran
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        // In registers; what a panic must not lose is written back before user code can run.
        let (codec, has_come, mut rest, mut guess) = (self.codec, self.has_come, self.rest, Guess::FIRST);
        while !rest.is_empty() {
            let Some(item) = item::split(rest) else {
                let message = "the chunk is cut short".to_owned();
                return Ran::Codec(CodecStep::DecodeArgument, type_name::<A>(), message);
            };
            rest = item.rest;
            self.rest = rest;
            self.begun = self.reply.len();
            let argument = match has_come {
                false => item::decode::<A>(codec, item.bytes),
                true => desk::open(|| item::decode::<A>(codec, item.bytes)).map_err(desk::explain),
            };
            let (step, type_name, message) = match argument {
                Ok(argument) => match put(codec, &f(argument), self.reply, &mut guess) {
                    Ok(()) => continue,
                    Err(message) => (CodecStep::EncodeResult, type_name::<R>(), message),
                },
                Err(message) => (CodecStep::DecodeArgument, type_name::<A>(), message),
            };
            self.fail(Failure::Codec { step, type_name: type_name.to_owned(), message });
        }
        Ran::Done
    }

    /// Puts a failure in the place of the last item's result.
    #[cold]
    fn fail(&mut self, failure: Failure) {
        self.reply.truncate(self.begun);
        item::put_failure(&wire::failure(failure, u32::MAX as usize), self.reply);
    }
}

/// Appends a result to the reply, and leaves at the desk what is to travel beside it.
#[inline(always)]
fn put<R: Serialize>(
    codec: crate::Codec,
    result: &R,
    reply: &mut Vec<u8>,
    guess: &mut Guess,
) -> Result<(), String> {
    desk::open(|| item::put(codec, result, reply, guess))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Codec;
    use crate::desk::Came;

    /// What panics when it is encoded, if so.
    struct Trap(bool);

    impl Serialize for Trap {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            assert!(!self.0, "not to be encoded");
            serializer.serialize_unit()
        }
    }

    /// Panics for 1, has a result that panics for 2, and one of `n` bytes for others.
    fn text(n: usize) -> (String, Trap) {
        assert!(n != 1, "not to be run");
        ("x".repeat(n), Trap(n == 2))
    }

    /// A payload of these numbers; `None` is an item that is none.
    fn payload(codec: Codec, items: &[Option<usize>]) -> Vec<u8> {
        let (mut payload, mut guess) = (Vec::new(), Guess::FIRST);
        for item in items {
            match item {
                Some(n) => item::put(codec, n, &mut payload, &mut guess),
                None => item::put(codec, &[1_u8; 30], &mut payload, &mut guess),
            }
            .expect("can be encoded");
        }
        payload
    }

    fn run(codec: Codec, argument: &[u8]) -> (Ran, Vec<u8>) {
        let mut reply = b"what was there".to_vec();
        let ran = run_chunk(
            text,
            &mut Invocation {
                codec,
                argument,
                reply: &mut reply,
                came: Came::default(),
                beside: Beside::default(),
            },
        );
        assert!(reply.starts_with(b"what was there"));
        (ran, reply.split_off(14))
    }

    #[test]
    fn each_item_has_its_result_or_its_failure_in_its_place() {
        let items = [0, 1, 2, 300, 1, 2, 2, 5, 9, 127, 128].map(|n| (n != 9).then_some(n));
        for codec in Codec::available() {
            let (ran, reply) = run(*codec, &payload(*codec, &items));
            assert!(matches!(ran, Ran::Done));
            assert!(took(&reply).is_some_and(|took| took > 0));
            let mut rest = &reply[REPLY_HEAD..];
            for item in items {
                let found = item::split(rest).expect("an item");
                rest = found.rest;
                let failure = found.failed.then(|| wire::from_bytes::<Failure>(found.bytes).expect("a failure"));
                match (item, failure) {
                    (Some(1), Some(Failure::Panicked { message, .. })) => assert_eq!(message, "not to be run"),
                    (Some(2), Some(Failure::Panicked { message, .. })) => assert_eq!(message, "not to be encoded"),
                    (None, Some(Failure::Codec { step, .. })) => assert_eq!(step, CodecStep::DecodeArgument),
                    (Some(n), None) => {
                        assert_eq!(item::decode(*codec, found.bytes), Ok(("x".repeat(n), ())), "{codec}");
                    }
                    other => panic!("{codec}: {other:?}"),
                }
            }
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_chunk_that_is_cut_short_is_refused() {
        let whole = payload(Codec::Postcard, &[Some(3), Some(4)]);
        let (ran, _) = run(Codec::Postcard, &whole[..whole.len() - 1]);
        assert!(matches!(ran, Ran::Codec(CodecStep::DecodeArgument, ..)), "{ran:?}");
    }
}
