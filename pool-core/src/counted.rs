//! A door for who counts the instructions of a call, and for who plays a worker: benches and fuzzers. It promises nothing
//! to others.

use std::mem::ManuallyDrop;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::Argument;
use crate::codec::Codec;
use crate::desk::{Beside, Came};
use crate::function::{self, Function, Invocation, Native, Ran, TaskRef};
use crate::held::Held;
use crate::transport::Seq;
use crate::wire::{self, CALL_HEAD_MAX, CallFrame, CallFunction, Kind, Status};

/// The version of the protocol.
pub const VERSION: u16 = wire::VERSION;

/// Takes a call the whole way that it goes outside of machine and link: encodes the argument and lays out the
/// frame, reads it as the worker does, calls, lays out the reply, reads that as the parent does. `None` if it goes
/// wrong.
pub fn there_and_back<F, A, R>(codec: Codec, seq: Seq, f: F, argument: &A, room: &mut [Vec<u8>; 3]) -> Option<R>
where
    F: Function<A, R>,
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
{
    let [encoded, frame, reply] = room;
    encoded.clear();
    frame.clear();
    reply.clear();

    let (body, room) = Argument::encode(codec, argument, std::mem::take(encoded)).ok()?;
    *encoded = room.unwrap_or_default();
    let task = TaskRef::Native(function::call(f));
    frame.extend_from_slice(wire::call_head(seq, &task, &body, &mut [0; CALL_HEAD_MAX]));
    frame.extend_from_slice(body.value());

    let Some((Kind::Call, rest)) = Kind::split(frame) else { return None };
    let call = CallFrame::decode(rest)?;
    let CallFunction::Native { offset, type_hash } = call.function else { return None };
    let native = Native::resolve(offset, type_hash)?;
    let (came, beside) = (Came::default(), Beside::default());
    let mut invocation = Invocation { codec, argument: call.argument, reply, came, beside };
    // A worker has one for life, and so does not drop it here.
    let mut held = ManuallyDrop::new(Held::default());
    let Ran::Done = native.run(&mut held, &mut invocation) else { return None };
    let head = wire::reply_head(call.seq, Status::Ok, std::time::Duration::ZERO);
    encoded.clear();
    encoded.extend_from_slice(&head);
    encoded.extend_from_slice(reply);

    let Some((Kind::Reply, rest)) = Kind::split(encoded) else { return None };
    let (answered, Status::Ok, _, result) = wire::reply(rest)? else { return None };
    (answered == seq).then(|| codec.decode(result).ok())?
}
