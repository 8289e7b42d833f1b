//! The worker: how a process becomes one, and its loop.
//!
//! A worker runs its calls one at a time, on its main thread, in the order sent. It claims a call before it
//! looks at the argument, and has sent a reply completely before it claims the next.

#![cfg_attr(
    all(windows, target_env = "gnu"),
    allow(
        clippy::missing_const_for_thread_local,
        reason = "it is const, which some clippy do not see on this target"
    )
)]

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pool_settings::Surroundings;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::WorkerId;
use crate::blob::{self, Split};
use crate::call::discard;
use crate::codec::{Codec, CodecNameError};
use crate::context::{self, Registry, StartMethod, Way};
use crate::desk::{Beside, Blobs, Came};
use crate::function::{Invocation, Native, Ran, Tasks};
use crate::held::Held;
use crate::share::Shelf;
use crate::spawner::{Arrival, Entry};
use crate::task;
use crate::transport::{Channel, Connector, Seq, Ticket, Transport};
use crate::wire::{
    self, CallFrame, CallFunction, Envelope, Failure, Hello, Initializer, Kind, SettingFailed, Status, Terms,
    WireFunction,
};

static INIT_CALLED: AtomicBool = AtomicBool::new(false);

/// Whether [`WorkerMain::run`] was called in this process, so that the same program started again would
/// become a worker.
pub fn init_called() -> bool {
    INIT_CALLED.load(Ordering::Acquire)
}

/// The entry of a program that has workers: what it can do, for both of its roles.
///
/// [`run`](Self::run) is the first thing in `main`. In the parent it returns at once, and has made the
/// names of start methods and transports known. In a worker it never returns.
#[derive(Debug, Default)]
#[must_use = "an entry does nothing until `run`"]
pub struct WorkerMain {
    registry: Registry,
}

impl WorkerMain {
    /// An entry that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a start method.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.registry.start_methods.push(method);
        self
    }

    /// Adds the worker's side of a start method that is not known by name, since each value of it is another one.
    pub fn entry(mut self, entry: Box<dyn Entry>) -> Self {
        self.registry.entries.push(entry);
        self
    }

    /// Adds a transport.
    pub fn transport(mut self, way: Way) -> Self {
        self.registry.ways.push(way);
        self
    }

    /// Has contexts that name no transport use the one that `choose` names, where the platform's usual one may not work.
    /// It is asked when it is needed, in the parent.
    pub fn default_transport(mut self, choose: fn() -> &'static str) -> Self {
        self.registry.default_transport = Some(choose);
        self
    }

    /// Adds a task that a parent calls by name
    /// ([`Executor::submit_named`](crate::Executor::submit_named)). It may capture what it likes.
    pub fn task<A, R>(mut self, name: &str, f: impl Fn(A) -> R + Send + Sync + 'static) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        self.registry.tasks.insert(name, f);
        self
    }

    /// Becomes a worker, if this process was started as one, and ends with it; else returns.
    ///
    /// What stands before this call in `main` runs in each worker too.
    pub fn run(self) {
        INIT_CALLED.store(true, Ordering::Release);
        let registry = context::register(self.registry);
        // All are asked: some take it as a sign that this program could become one of their workers.
        let named = registry.start_methods.iter().filter_map(|method| method.entry.as_ref());
        let entries: Vec<_> = named.chain(&registry.entries).collect();
        let asked: Vec<_> = entries.iter().filter(|entry| entry.is_worker()).collect();
        let arrival = asked.first().map(|entry| entry.arrive());
        match arrival {
            None | Some(Arrival::NotAWorker) => entries.iter().for_each(|entry| entry.stay()),
            Some(Arrival::Unusable(why)) => {
                eprintln!("process-pool worker: {why}");
                std::process::exit(1);
            }
            Some(Arrival::Worker { ticket, last_words }) => {
                let code = finish(connector(registry, &ticket.transport), &registry.tasks, ticket, last_words);
                std::process::exit(code);
            }
        }
    }
}

/// A worker's life, for start methods whose workers do not begin with `main`.
///
/// The spawner gets it when the pool is built, and has nothing to do with it but to run it on the far side.
pub struct WorkerEntry {
    life: Box<Life>,
    surroundings: Surroundings,
}

/// Takes what its parent sent and a way to leave last words, and returns the exit code.
type Life = dyn FnOnce(Ticket, Box<dyn FnOnce(&str) + Send>) -> i32 + Send;

impl WorkerEntry {
    /// A life of calls that come over this transport. The worker knows the named tasks that the program's entry
    /// has made known.
    pub(crate) fn new(transport: &dyn Transport, surroundings: Surroundings) -> Self {
        let connector = transport.connector();
        let entry = Self::of(move |ticket, last_words| {
            let none = Tasks::default();
            let tasks = context::registered().map_or(&none, |registry| &registry.tasks);
            finish(Ok(connector), tasks, ticket, last_words)
        });
        Self { surroundings, ..entry }
    }

    /// A life of another kind: for those who use a spawner without a pool, as its tests do.
    pub fn of(life: impl FnOnce(Ticket, Box<dyn FnOnce(&str) + Send>) -> i32 + Send + 'static) -> Self {
        Self { life: Box::new(life), surroundings: Surroundings::default() }
    }

    /// The environment and the folder that workers are to have from the start; for a spawner that
    /// [sees to these](crate::spawner::Settled::AtStart). For others there is nothing in it.
    pub fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// Runs a worker to its end in this process, and returns its exit code. Nothing of the parent's pools may
    /// be used before or after.
    pub fn run(self, ticket: Ticket, last_words: Box<dyn FnOnce(&str) + Send>) -> i32 {
        (self.life)(ticket, last_words)
    }
}

impl fmt::Debug for WorkerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerEntry").finish_non_exhaustive()
    }
}

/// Serves, and says why if it could not. Returns the exit code.
fn finish(
    connector: Result<Box<dyn Connector>, String>,
    tasks: &Tasks,
    mut ticket: Ticket,
    last_words: Box<dyn FnOnce(&str) + Send>,
) -> i32 {
    let mut worker = connector.and_then(|connector| Worker::connect(connector.as_ref(), tasks, &mut ticket));
    let ended = worker.as_mut().map_err(|why| why.clone()).and_then(Worker::serve);
    if let Err(why) = &ended {
        last_words(why);
    }
    // Not before: the parent kills a worker whose link is closed, and might miss the last words.
    drop((worker, ticket));
    i32::from(ended.is_err())
}

/// Looks up the transport of a ticket.
fn connector(registry: &Registry, name: &str) -> Result<Box<dyn Connector>, String> {
    let found = registry.ways.iter().find(|way| way.name == name);
    found.map(|way| (way.make)().connector()).ok_or_else(|| {
        let known: Vec<_> = registry.ways.iter().map(|way| way.name).collect();
        format!("this worker does not know the transport `{name}`, only: {}", known.join(", "))
    })
}

struct Worker<'a> {
    /// How it introduces itself.
    hello: Hello,
    /// What the parent has laid down.
    terms: Option<Terms>,
    channel: Box<dyn Channel>,
    tasks: &'a Tasks,
    codec: Codec,
    frame_max: usize,
    /// With more memory than this it has itself replaced; it says so once.
    memory_max: Option<u64>,
    /// How long calls have run since it looked at that last.
    unlooked: Duration,
    /// The parent is the same program, so that functions may be named by their place in it.
    same_image: bool,
    /// The process that joined the pool.
    pid: u32,
    shelf: Rc<Shelf>,
    held: Held,
}

/// A buffer that has grown beyond this is given back after the call, so that an idle worker holds no more.
const KEEP: usize = 4 << 20;

impl<'a> Worker<'a> {
    /// Makes the worker's end of the link.
    fn connect(connector: &dyn Connector, tasks: &'a Tasks, ticket: &mut Ticket) -> Result<Self, String> {
        let Envelope { token, transport, terms } =
            Envelope::decode(&ticket.bytes).ok_or("the ticket is not of this library's making")?;
        let handles = std::mem::take(&mut ticket.handles);
        let ticket = Ticket { transport: ticket.transport.clone(), bytes: transport, handles };
        let channel = connector.connect(ticket).map_err(|error| format!("cannot connect: {error}"))?;
        let image = pool_image::identity().map(|image| image.bytes.clone()).unwrap_or_default();
        let codecs = Codec::available().iter().map(|codec| codec.name().to_owned()).collect();
        let hello = Hello { token, image, codecs };
        let (frame_max, pid) = (usize::MAX, std::process::id());
        let shelf = Rc::new(Shelf::new(Codec::default()));
        Ok(Self {
            hello,
            terms,
            channel,
            tasks,
            codec: Codec::default(),
            frame_max,
            memory_max: None,
            unlooked: Duration::ZERO,
            same_image: false,
            pid,
            shelf,
            held: Held::default(),
        })
    }

    /// Introduces itself, and runs calls until told to stop.
    fn serve(&mut self) -> Result<(), String> {
        install_hook();
        // In any case, and first: it tells the parent what is wrong, if something is.
        self.send(&self.hello.encode())?;
        let terms = self.terms.take().ok_or("the ticket's terms are of another release")?;
        task::become_worker(WorkerId(terms.worker), self.channel.stop_requests());
        if let Err(refused) = terms.settings.apply() {
            let failure = SettingFailed { setting: refused.setting.to_owned(), why: refused.why.to_string() };
            self.send(&wire::frame(Kind::SettingFailed, &failure))?;
            return Err(format!("cannot take on a setting: {refused}"));
        }
        self.codec = terms.codec.parse().map_err(|error: CodecNameError| error.to_string())?;
        self.shelf = Rc::new(Shelf::new(self.codec));
        self.frame_max = usize::try_from(terms.frame_max).unwrap_or(usize::MAX);
        self.memory_max = terms.memory_max;
        self.same_image = !terms.image.is_empty() && terms.image == self.hello.image;
        let mut frame = Vec::new();
        if terms.initializes {
            if !self.receive(&mut frame)? {
                return Ok(());
            }
            let initializer = match Kind::split(&frame) {
                Some((Kind::Initialize, rest)) => wire::from_bytes::<Initializer>(rest),
                _ => None,
            };
            let initializer = initializer.ok_or("the parent's order to initialize is malformed")?;
            if let Some(failure) = self.initialize(&initializer) {
                let failure = wire::failure(failure, self.frame_max.saturating_sub(1));
                self.send(&[[Kind::InitFailed as u8].as_slice(), &failure].concat())?;
                return Err("the initializer failed".to_owned());
            }
        }
        self.send(&[Kind::Ready as u8])?;
        let mut reply = Vec::new();
        while self.receive(&mut frame)? {
            match Kind::split(&frame) {
                Some((Kind::Call, _)) => self.call(&mut frame, &mut reply)?,
                Some((Kind::Share, rest)) => {
                    let (id, has_blobs, start) = wire::share(rest).ok_or("the parent sent a malformed value")?;
                    let body = bytes::Bytes::from(std::mem::take(&mut frame)).slice(start..);
                    self.shelf.put(id, body, has_blobs);
                }
                Some((Kind::Forget, rest)) => {
                    let id = rest.try_into().map_err(|_| "the parent sent a malformed order to forget")?;
                    self.shelf.forget(u64::from_le_bytes(id));
                }
                Some((Kind::Stop, [])) => {
                    self.send(&[Kind::Bye as u8])?;
                    // After that: it has a time of its own, which begins now.
                    if let Some(hook) = &terms.exit {
                        self.exit(hook);
                    }
                    return Ok(());
                }
                _ => return Err("the parent sent a frame of a kind that it does not send".to_owned()),
            }
            if frame.capacity() > KEEP {
                frame = Vec::new();
            }
        }
        Ok(())
    }

    fn receive(&mut self, frame: &mut Vec<u8>) -> Result<bool, String> {
        self.channel.recv(frame).map_err(|error| format!("cannot receive: {error}"))
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), String> {
        self.channel.send(frame, &[]).map_err(|error| format!("cannot send: {error}"))
    }

    fn initialize(&mut self, initializer: &Initializer) -> Option<Failure> {
        let Initializer { function, argument } = initializer;
        self.invoke(&function.as_call(), argument, Came::default(), &mut Vec::new()).err()
    }

    /// Runs the exit hook. Nobody waits for an answer any more.
    fn exit(&mut self, hook: &WireFunction) {
        if let Err(failure) = self.invoke(&hook.as_call(), &[], Came::default(), &mut Vec::new()) {
            let (text, backtrace) = failure.in_words();
            let backtrace = backtrace.unwrap_or_default();
            let id = task::worker_id().unwrap_or(WorkerId(0)).0;
            // Where that cannot be written, there is nobody to tell.
            let _ = writeln!(io::stderr(), "process-pool worker {id}: its exit hook failed: {text}\n{backtrace}");
        }
    }

    /// Runs one call and replies. The reply is sent completely when this returns.
    fn call(&mut self, frame: &mut Vec<u8>, reply: &mut Vec<u8>) -> Result<(), String> {
        let call = CallFrame::decode(&frame[1..]).ok_or(MALFORMED)?;
        if !self.channel.claim(call.seq) {
            return Ok(());
        }
        let shelf = call.has_shares.then(|| Rc::clone(&self.shelf));
        if !call.has_blobs {
            return self.run(&call, call.argument, Came::new(Blobs::default(), shelf), reply);
        }
        // Its blobs are lent to the function, which may keep them.
        let lent = Arc::new(std::mem::take(frame));
        let call = CallFrame::decode(&lent[1..]).ok_or(MALFORMED)?;
        let body = bytes::Bytes::from_owner(Lent(Arc::clone(&lent))).slice_ref(call.argument);
        let (argument, blobs) = blob::take_apart(&body).map_err(|_| MALFORMED)?;
        drop(body);
        self.run(&call, &argument, Came::new(blobs, shelf), reply)?;
        drop(argument);
        if let Some(back) = Arc::into_inner(lent) {
            *frame = back;
        }
        Ok(())
    }

    /// Runs a claimed call and replies.
    fn run(
        &mut self,
        call: &CallFrame<'_>,
        argument: &[u8],
        came: Came,
        reply: &mut Vec<u8>,
    ) -> Result<(), String> {
        reply.clear();
        let start = Instant::now();
        // What the clock cannot count to never comes.
        task::begin(call.seq, call.time.and_then(|time| start.checked_add(time)));
        let ran = self.invoke(&call.function, argument, came, reply);
        task::end();
        let took = start.elapsed();
        if self.memory_max.is_some() {
            self.look_at_memory(took)?;
        }
        self.reply(call.seq, took, reply, ran)?;
        if reply.capacity() > KEEP {
            *reply = Vec::new();
        }
        Ok(())
    }

    /// Says that it takes too much memory, if it does: before its answer, so that it gets no other call.
    fn look_at_memory(&mut self, took: Duration) -> Result<(), String> {
        self.unlooked += took;
        if self.unlooked < LOOK_EVERY {
            return Ok(());
        }
        self.unlooked = Duration::ZERO;
        let resident = resident_memory().unwrap_or(0);
        if self.memory_max.is_some_and(|max| resident > max) {
            self.memory_max = None;
            self.send(&[Kind::Worn as u8])?;
        }
        Ok(())
    }

    fn reply(
        &mut self,
        seq: Seq,
        took: Duration,
        result: &[u8],
        ran: Result<Beside, Failure>,
    ) -> Result<(), String> {
        let fits = ran.and_then(|Beside { base, blobs, .. }| {
            let split = (!blobs.is_empty()).then(|| Split::new(result, base, blobs));
            let size = split.as_ref().map_or(result.len(), Split::len) + wire::REPLY_HEAD;
            match size > self.frame_max {
                true => Err(Failure::TooLarge { size: size as u64, max: self.frame_max as u64 }),
                false => Ok(split),
            }
        });
        let sent = match fits {
            Err(failure) => {
                let failure = wire::failure(failure, self.frame_max.saturating_sub(wire::REPLY_HEAD));
                self.channel.send(&wire::reply_head(seq, Status::Failed, took), &failure)
            }
            Ok(None) => self.channel.send(&wire::reply_head(seq, Status::Ok, took), result),
            Ok(Some(split)) => {
                let head = wire::reply_head(seq, Status::OkWithBlobs, took);
                self.channel.send(&[head.as_slice(), &split.first].concat(), split.blobs.as_slice())
            }
        };
        sent.map_err(|error| format!("cannot reply: {error}"))
    }

    /// Runs a function. The encoded result goes to `reply`, and what travels beside it is returned.
    fn invoke(
        &mut self,
        function: &CallFunction<'_>,
        argument: &[u8],
        came: Came,
        reply: &mut Vec<u8>,
    ) -> Result<Beside, Failure> {
        let mut invocation = Invocation { codec: self.codec, argument, reply, came, beside: Beside::default() };
        let ran = match function {
            CallFunction::Native { .. } if !self.same_image => {
                return Err(Failure::UnknownTask(
                    "this worker runs another program than its parent, so functions cannot be found in it: \
                     register the function as a named task and use `submit_named`"
                        .to_owned(),
                ));
            }
            CallFunction::Native { offset, type_hash } => {
                let Some(native) = Native::resolve(*offset, *type_hash) else {
                    let what = format!("there is no function at offset {offset:#x} of this worker's program");
                    return Err(Failure::UnknownTask(what));
                };
                let held = &mut self.held;
                catch(|| native.run(held, &mut invocation))
            }
            CallFunction::Named(name) => {
                let Some(task) = self.tasks.get(name) else {
                    let known = self.tasks.names().join(", ");
                    return Err(Failure::UnknownTask(format!(
                        "this worker does not know the task `{name}`, only: {known}"
                    )));
                };
                catch(|| task(&mut invocation))
            }
        };
        if std::process::id() != self.pid {
            // The user's function has forked and returned twice. Two would read from one link and write to it: the
            // copy ends here, without flushing or running what the worker will run itself.
            std::process::abort();
        }
        failure(ran?).map_or(Ok(invocation.beside), Err)
    }
}

/// A look takes some µs (measured), and to fill memory takes time: short calls are not looked at one by one.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How much memory this process takes, in bytes, if the system tells.
pub(crate) fn resident_memory() -> Option<u64> {
    memory_stats::memory_stats().map(|stats| stats.physical_mem as u64)
}

const MALFORMED: &str = "the parent sent a malformed call";

/// A frame whose blobs are lent out.
struct Lent(Arc<Vec<u8>>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// What to report of an invocation that returned.
fn failure(ran: Ran) -> Option<Failure> {
    match ran {
        Ran::Done => None,
        Ran::Codec(step, type_name, message) => {
            Some(Failure::Codec { step, type_name: type_name.to_owned(), message })
        }
        Ran::Failed(text) => Some(Failure::Failed(text)),
    }
}

thread_local! {
    /// Set while this thread runs user code; the panic hook puts what it knows here instead of printing it.
    static CAUGHT: RefCell<Option<Caught>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Caught {
    location: Option<String>,
    backtrace: Option<String>,
}

/// Runs user code, and turns a panic into its report.
pub(crate) fn catch(f: impl FnOnce() -> Ran) -> Result<Ran, Failure> {
    let outer = CAUGHT.replace(Some(Caught::default()));
    let ran = catch_unwind(AssertUnwindSafe(f));
    let caught = CAUGHT.replace(outer).unwrap_or_default();
    ran.map_err(|payload| {
        let message = message(payload.as_ref());
        discard(payload);
        Failure::Panicked { message, location: caught.location, backtrace: caught.backtrace }
    })
}

/// What a panic has to say.
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic whose payload is not text").to_owned()
}

/// A panic of a call is the parent's to report; other threads' panics are printed as ever.
fn install_hook() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let ours = CAUGHT.with(|caught| match caught.try_borrow_mut() {
            Ok(mut caught) => caught.as_mut().map(|caught| note(caught, info)).is_some(),
            Err(_) => false,
        });
        // With `panic = "abort"` nothing but this tells what happened.
        if !ours || cfg!(panic = "abort") {
            previous(info);
        }
    }));
}

fn note(caught: &mut Caught, info: &PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    caught.location = info.location().map(ToString::to_string);
    caught.backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
}
