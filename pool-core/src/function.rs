//! How a function is named so that another process of the same program finds it.
//!
//! A fn item or a closure that captures nothing has no size: its type alone says what to run. For each such
//! type the compiler lays down one static [`Descriptor`] of a trampoline that decodes the argument, calls
//! the function and encodes its result. The parent sends how far the descriptor lies from the start of the
//! program's image; the worker, whose image is the same (the handshake has made sure), finds it there.
//!
//! The second fence, for each call: the place must lie in the image's readable part, be aligned, begin with
//! a magic number, and its type must have the hash that the parent sent along.
//!
//! The state of a function that has no size is nothing, so it is made out of nothing in the worker. This
//! holds for captures of size zero too: a closure that captures a token whose mere existence is a promise
//! finds such a token in the worker, where the promise may not hold.
#![expect(unsafe_code, reason = "a descriptor is found by its place in the image, and a function by its type")]

use std::any::{TypeId, type_name};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::chunk::run_chunk;
use crate::codec::Codec;
use crate::desk::{Beside, Came};
use crate::error::CodecStep;
use crate::held::Held;

/// A function that a pool can run: a fn item, or a closure that captures nothing.
///
/// It has a size of zero, which [`submit`](crate::Executor::submit) checks when the program is compiled.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be run in another process with an argument `{A}`",
    label = "not a fn item or a capture-free closure that takes one argument of type `{A}`",
    note = "a closure must not capture: pass what it captures as part of the argument",
    note = "several arguments are one tuple: `|(a, b)| f(a, b)`; none is `|()| f()`"
)]
pub trait Function<A, R>: Fn(A) -> R + Copy + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<F, A, R> Function<A, R> for F where F: Fn(A) -> R + Copy + Send + Sync + 'static {}

/// A function that a pool can run with what its worker's initializer has made, the worker context: a fn item, or a
/// closure that captures nothing.
///
/// As with [`Function`], its size is checked where it is [submitted](crate::Executor::submit_with).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be run in another process with a worker context `{C}` and an argument `{A}`",
    label = "not a fn item or a capture-free closure that takes a `&mut {C}` and one argument of type `{A}`",
    note = "a closure must not capture: pass what it captures as part of the argument",
    note = "several arguments are one tuple: `|context: &mut C, (a, b)| …`; none is `|context: &mut C, ()| …`"
)]
pub trait FunctionWith<C, A, R>: Fn(&mut C, A) -> R + Copy + Send + Sync + 'static {}

#[diagnostic::do_not_recommend]
impl<F, C, A, R> FunctionWith<C, A, R> for F where F: Fn(&mut C, A) -> R + Copy + Send + Sync + 'static {}

/// What an initializer may return: nothing, or a `Result`. Its value is the worker's
/// [context](crate::Builder::initializer), and its error ends the pool with its text.
///
/// A context that is not in a `Result` would be a mistake that nobody notices, where somebody returns a result code,
/// say. One that cannot fail is `Ok::<_, Infallible>(context)`.
#[diagnostic::on_unimplemented(
    message = "an initializer cannot return `{Self}`",
    label = "return nothing, or a `Result<T, E>` with `E: Display`, whose `T` is what calls get by `submit_with`"
)]
pub trait Initialized {
    /// What it leaves for calls.
    type Context: 'static;

    /// The context, or the error's text.
    ///
    /// # Errors
    /// If the initializer failed.
    fn into_result(self) -> Result<Self::Context, String>;
}

impl Initialized for () {
    type Context = ();

    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<T: 'static, E: std::fmt::Display> Initialized for Result<T, E> {
    type Context = T;

    fn into_result(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// One run of a function, in the worker.
#[derive(Debug)]
pub(crate) struct Invocation<'a> {
    pub(crate) codec: Codec,
    pub(crate) argument: &'a [u8],
    /// Where the encoded result goes.
    pub(crate) reply: &'a mut Vec<u8>,
    /// What has come beside the argument.
    pub(crate) came: Came,
    /// What is to travel beside the result.
    pub(crate) beside: Beside,
}

/// How an invocation ended, if it did not panic.
#[derive(Debug)]
pub(crate) enum Ran {
    /// The result is in `reply`.
    Done,
    /// A value could not be encoded or decoded; its type, and what the codec said.
    Codec(CodecStep, &'static str, String),
    /// An initializer's own error.
    Failed(String),
}

type Run = fn(&mut Held, &mut Invocation<'_>) -> Ran;

/// What lies in the image for each function.
#[repr(C)]
struct Descriptor {
    magic: u64,
    type_hash: fn() -> u64,
    name: fn() -> &'static str,
    run: Run,
}

/// Marks a descriptor. Any number that does not occur by accident.
const MAGIC: u64 = 0x70_6f_6f_6c_7f_e3_a9_15;

/// How the parent names a function on the wire.
#[derive(Clone, Debug)]
pub(crate) enum TaskRef {
    /// By its place in the program's image.
    Native(Native),
    /// By the name under which the worker registered it.
    Named(Arc<str>),
}

impl TaskRef {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Native(native) => native.name(),
            Self::Named(name) => name,
        }
    }
}

/// A function of this very image.
#[derive(Clone, Copy)]
pub(crate) struct Native(&'static Descriptor);

impl std::fmt::Debug for Native {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Native {
    pub(crate) fn name(self) -> &'static str {
        (self.0.name)()
    }

    /// Its place in the image and the hash of its type; `None` if it is not part of the main program.
    pub(crate) fn address(self) -> Option<(u64, u64)> {
        let offset = pool_image::offset_of(std::ptr::from_ref(self.0).cast())?;
        Some((offset, (self.0.type_hash)()))
    }

    /// Finds the function that another process of the same image named.
    pub(crate) fn resolve(offset: u64, type_hash: u64) -> Option<Self> {
        let place = pool_image::resolve(offset, size_of::<Descriptor>(), align_of::<Descriptor>())?;
        let place = place.cast::<Descriptor>();
        // SAFETY: `resolve` promises that as many bytes as a descriptor has, aligned for it, are readable
        // there for as long as the program runs; its first field is the magic number, and any bits are a
        // `u64`.
        let magic = unsafe { place.cast::<u64>().read() };
        if magic != MAGIC {
            return None;
        }
        // SAFETY: the image is the parent's (checked by the handshake), and in the parent a descriptor lies
        // at this offset; the magic number agrees.
        let descriptor: &'static Descriptor = unsafe { &*place };
        ((descriptor.type_hash)() == type_hash).then_some(Self(descriptor))
    }

    /// In a worker that has this.
    pub(crate) fn run(self, held: &mut Held, invocation: &mut Invocation<'_>) -> Ran {
        (self.0.run)(held, invocation)
    }
}

/// The whole check that `F` can be sent.
pub(crate) struct Stateless<F>(PhantomData<F>);

impl<F> Stateless<F> {
    /// Evaluated when a program that sends `F` is built. Whoever takes `F` from the user asks for it first, so
    /// that the error names the user's line.
    pub(crate) const CHECK: () = assert!(
        size_of::<F>() == 0,
        "only a fn item or a closure that captures nothing can be sent to another process: pass what it \
         captures as part of the argument, and instead of a fn pointer name the function itself"
    );
}

/// Names the function of a call.
pub(crate) fn call<F, A, R>(_: F) -> Native
where
    F: Function<A, R>,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    Native(Trampoline::<F, A, R, Once>::DESCRIPTOR)
}

/// Names the function that runs `F` on each item of a chunk.
pub(crate) fn chunk<F, A, R>(_: F) -> Native
where
    F: Function<A, R>,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    Native(Trampoline::<F, A, R, Chunk>::DESCRIPTOR)
}

/// Names the function of a call that takes the worker context.
pub(crate) fn call_with<C, F, A, R>(_: F) -> Native
where
    C: 'static,
    F: FunctionWith<C, A, R>,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    Native(Trampoline::<F, A, R, With<C, Once>>::DESCRIPTOR)
}

/// Names the function that runs `F`, which takes the worker context, on each item of a chunk.
pub(crate) fn chunk_with<C, F, A, R>(_: F) -> Native
where
    C: 'static,
    F: FunctionWith<C, A, R>,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    Native(Trampoline::<F, A, R, With<C, Chunk>>::DESCRIPTOR)
}

/// Names an exit hook, which takes the worker context for good.
pub(crate) fn exit<C: 'static, F: Function<C, ()>>(_: F) -> Native {
    Native(Trampoline::<F, C, (), Exit>::DESCRIPTOR)
}

/// Names an initializer.
pub(crate) fn initializer<F, A, R>(_: F) -> Native
where
    F: Function<A, R>,
    A: DeserializeOwned + 'static,
    R: Initialized + 'static,
{
    Native(Trampoline::<F, A, R, Init>::DESCRIPTOR)
}

/// The ways in which a function is run: once, for each item of a chunk, one of these with the worker context, as an
/// initializer, as an exit hook.
#[derive(Debug)]
struct Once;
#[derive(Debug)]
struct Chunk;
#[derive(Debug)]
struct With<C, Way>(PhantomData<(C, Way)>);
#[derive(Debug)]
struct Init;
#[derive(Debug)]
struct Exit;

struct Trampoline<F, A, R, Way>(PhantomData<(F, A, R, Way)>);

impl<F: Copy + 'static, A: 'static, R: 'static, Way: 'static> Trampoline<F, A, R, Way> {
    const fn descriptor(run: Run) -> Descriptor {
        let () = Stateless::<F>::CHECK;
        Descriptor { magic: MAGIC, type_hash: type_hash::<Self>, name: type_name::<F>, run }
    }

    fn function() -> F {
        let () = Stateless::<F>::CHECK;
        // SAFETY: `F` has no size (checked above), so a dangling, aligned pointer may be read; a value of
        // `F` exists in the parent, where it was submitted, and `F: Copy` allows another.
        unsafe { NonNull::<F>::dangling().read() }
    }
}

impl<F: Function<A, R>, A: DeserializeOwned + 'static, R: Serialize + 'static> Trampoline<F, A, R, Once> {
    const DESCRIPTOR: &'static Descriptor = &Self::descriptor(Self::run);

    fn run(_: &mut Held, invocation: &mut Invocation<'_>) -> Ran {
        run_once(Self::function(), invocation)
    }
}

impl<F: Function<A, R>, A: DeserializeOwned + 'static, R: Serialize + 'static> Trampoline<F, A, R, Chunk> {
    const DESCRIPTOR: &'static Descriptor = &Self::descriptor(Self::run);

    fn run(_: &mut Held, invocation: &mut Invocation<'_>) -> Ran {
        run_chunk(Self::function(), invocation)
    }
}

impl<F, C, A, R> Trampoline<F, A, R, With<C, Once>>
where
    F: FunctionWith<C, A, R>,
    C: 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    const DESCRIPTOR: &'static Descriptor = &Self::descriptor(Self::run);

    fn run(held: &mut Held, invocation: &mut Invocation<'_>) -> Ran {
        let Some(context) = held.get::<C>() else { return no_context::<C>() };
        run_once(|argument| Self::function()(context, argument), invocation)
    }
}

impl<F, C, A, R> Trampoline<F, A, R, With<C, Chunk>>
where
    F: FunctionWith<C, A, R>,
    C: 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    const DESCRIPTOR: &'static Descriptor = &Self::descriptor(Self::run);

    fn run(held: &mut Held, invocation: &mut Invocation<'_>) -> Ran {
        let Some(context) = held.get::<C>() else { return no_context::<C>() };
        run_chunk(|argument| Self::function()(context, argument), invocation)
    }
}

impl<F: Function<C, ()>, C: 'static> Trampoline<F, C, (), Exit> {
    const DESCRIPTOR: &'static Descriptor = &Self::descriptor(Self::run);

    fn run(held: &mut Held, _: &mut Invocation<'_>) -> Ran {
        let Some(context) = held.take::<C>() else { return no_context::<C>() };
        Self::function()(context);
        Ran::Done
    }
}

/// The parent has asked for it all the same, though it knows the types.
#[cold]
fn no_context<C>() -> Ran {
    Ran::Failed(format!("this worker has no context of type `{}`", type_name::<C>()))
}

impl<F: Function<A, R>, A: DeserializeOwned + 'static, R: Initialized + 'static> Trampoline<F, A, R, Init> {
    const DESCRIPTOR: &'static Descriptor = &Self::descriptor(Self::run);

    fn run(held: &mut Held, invocation: &mut Invocation<'_>) -> Ran {
        match invocation.codec.decode::<A>(invocation.argument) {
            Ok(argument) => match Self::function()(argument).into_result() {
                Ok(context) => {
                    held.put(context);
                    Ran::Done
                }
                Err(text) => Ran::Failed(text),
            },
            Err(message) => Ran::Codec(CodecStep::DecodeArgument, type_name::<A>(), message),
        }
    }
}

pub(crate) fn run_once<A: DeserializeOwned, R: Serialize>(
    f: impl FnOnce(A) -> R,
    invocation: &mut Invocation<'_>,
) -> Ran {
    let codec = invocation.codec;
    let argument = match codec.decode_beside::<A>(invocation.argument, std::mem::take(&mut invocation.came)) {
        Ok(argument) => argument,
        Err(message) => return Ran::Codec(CodecStep::DecodeArgument, type_name::<A>(), message),
    };
    let result = f(argument);
    match codec.encode_beside(&result, invocation.reply) {
        Ok(beside) => {
            invocation.beside = beside;
            Ran::Done
        }
        Err(message) => Ran::Codec(CodecStep::EncodeResult, type_name::<R>(), message),
    }
}

/// The tasks that a worker knows by name.
#[derive(Default)]
pub(crate) struct Tasks(HashMap<String, NamedTask>);

type NamedTask = Box<dyn Fn(&mut Invocation<'_>) -> Ran + Send + Sync>;

impl Tasks {
    /// Registers `f`, replacing a task of the same name.
    pub(crate) fn insert<A, R>(&mut self, name: &str, f: impl Fn(A) -> R + Send + Sync + 'static)
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        self.0.insert(name.to_owned(), Box::new(move |invocation| run_once(&f, invocation)));
    }

    pub(crate) fn get(&self, name: &str) -> Option<&NamedTask> {
        self.0.get(name)
    }

    /// The known names, sorted.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.0.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tasks").field(&self.names()).finish()
    }
}

/// A number that is the same for the same type in every process of one image.
fn type_hash<T: 'static>() -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    TypeId::of::<T>().hash(&mut hasher);
    hasher.0
}

/// FNV-1a: std's default hasher is not promised to be the same in two processes.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}
