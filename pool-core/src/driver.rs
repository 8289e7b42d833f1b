//! The driver: tells the machine what happened and carries out what it orders.
//!
//! Whoever learns a fact runs the driver: a thread that submits, a link's thread or a waiting caller that
//! drives one, the supervisor. There is no manager thread between them. The lock is held across the
//! machine's methods only, never across a transport, a spawner, a codec or user code; orders are carried
//! out after it is released, the sends first, user code last.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::WorkerId;
use crate::call::{Call, Outcome, contained, lock};
use crate::codec::Codec;
use crate::error::{
    BreakReason, BrokenPool, CodecError, InitializerFailed, Killed, Panicked, StartError, SubmitError, TaskError,
    TimeLimit, TimedOut, WorkerLost,
};
use crate::executor::CallOptions;
use crate::function::TaskRef;
use crate::machine::{
    BreakCause, Cancel, Config, Doom, How, Input, Limits, Machine, Output, Phase, Place, WorkId,
};
use crate::slot::{Answer, Letter, Reply, Slot};
use crate::spare;
use crate::spawner::Signal;
use crate::transport::{Claim, Seq};
use crate::wire::{Failure, Hello, Initializer, Terms};

/// What the supervisor is asked to do.
#[derive(Debug)]
pub(crate) enum Order {
    Spawn(Arc<Slot>),
    /// Look at the clock, and whether the pool is closed.
    Look,
}

/// A job for the callback thread.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// What the pool was built with.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) machine: Config,
    pub(crate) codec: Codec,
    pub(crate) frame_max: usize,
    /// Workers must run this very image.
    pub(crate) same_image: bool,
    pub(crate) initializer: Option<(TaskRef, Initializer)>,
    pub(crate) call_options: CallOptions,
}

pub(crate) struct Pool {
    pub(crate) settings: Settings,
    core: Mutex<Core>,
    /// Notified when `core.ended` becomes true.
    ended: Condvar,
    orders: Sender<Order>,
    callbacks: Mutex<Option<Sender<Job>>>,
    began: Instant,
    _spare: spare::User,
}

struct Core {
    machine: Machine,
    /// By [`WorkId::index`].
    calls: Vec<Option<Arc<Call>>>,
    slots: BTreeMap<WorkerId, Arc<Slot>>,
    broken: Option<BrokenPool>,
    last_failure: Option<StartError>,
    /// The supervisor has freed everything.
    ended: bool,
}

/// Orders that are carried out after the lock is released.
#[derive(Default)]
struct Todo {
    flush: Vec<Arc<Slot>>,
    revoke: Vec<(Arc<Slot>, Seq)>,
    signal: Vec<(Arc<Slot>, Signal)>,
    close: Vec<Arc<Slot>>,
    spawn: Vec<Arc<Slot>>,
    forget: Vec<Arc<Slot>>,
    settle: Vec<Arc<Call>>,
    look: bool,
}

impl Pool {
    pub(crate) fn new(settings: Settings, orders: Sender<Order>) -> Self {
        let core = Core {
            machine: Machine::new(settings.machine),
            calls: Vec::new(),
            slots: BTreeMap::new(),
            broken: None,
            last_failure: None,
            ended: false,
        };
        Self {
            settings,
            core: Mutex::new(core),
            ended: Condvar::new(),
            orders,
            callbacks: Mutex::default(),
            began: Instant::now(),
            _spare: spare::User::new(),
        }
    }

    /// Accepts a call, and sends it on its way if a worker is free.
    pub(crate) fn submit(&self, call: &Arc<Call>, limits: Limits) -> Result<(), SubmitError> {
        self.act(|core, now| {
            let Some(id) = core.machine.submit(limits, now) else {
                return Err(core.broken.clone().map_or(SubmitError::ShutDown, SubmitError::Broken));
            };
            call.set_id(id);
            let index = id.index();
            if core.calls.len() <= index {
                core.calls.resize_with(index + 1, || None);
            }
            core.calls[index] = Some(Arc::clone(call));
            Ok(())
        })
    }

    /// Tells the machine a fact.
    pub(crate) fn tell(&self, input: Input) {
        self.act(|core, now| core.machine.handle(input, now));
    }

    /// Hands replies to their calls, and the worker its next ones first.
    pub(crate) fn settle_replies(&self, slot: &Slot, answers: Vec<Answer>) {
        let settled: Vec<_> = self.act(|core, now| {
            let found = answers.into_iter().filter_map(|Answer { seq, took, reply }| {
                // Late and doubled answers find nobody who waits for them.
                let id = core.machine.result(slot.id, seq, took)?;
                Some((core.take_call(id), reply))
            });
            let found = found.collect();
            core.machine.refill(slot.id, now);
            found
        });
        for (call, reply) in settled {
            let outcome = match reply {
                Reply::Ok(bytes) => Outcome::Reply(bytes),
                Reply::Failed(failure) => Outcome::Failed(task_error(failure, &call, slot.id)),
            };
            call.settle(slot.id, outcome);
        }
    }

    /// Cancels a call if it has not started.
    pub(crate) fn cancel(&self, id: WorkId) {
        let step = self.act(|core, now| match core.machine.cancel(id, now) {
            Cancel::Revoke(worker, seq) => core.slots.get(&worker).cloned().map(|slot| (slot, seq)),
            Cancel::Cancelled | Cancel::TooLate => None,
        });
        if let Some((slot, seq)) = step {
            let claim = slot.revoke(seq);
            self.tell(Input::Answered(slot.id, seq, claim));
        }
    }

    /// Ends a call wherever it is.
    pub(crate) fn kill(&self, id: WorkId) {
        self.act(|core, now| core.machine.kill(id, now));
    }

    /// Whether a worker has started the call, as far as its link can tell.
    pub(crate) fn started(&self, id: WorkId) -> bool {
        let place = {
            let core = self.core();
            match core.machine.place(id) {
                Some(Place::Sent(worker, seq)) => core.slots.get(&worker).cloned().map(|slot| (slot, seq)),
                Some(Place::Pending) | None => None,
            }
        };
        let claim = place.map(|(slot, seq)| slot.claim_state(seq));
        matches!(claim, Some(Claim::Started | Claim::Unknown))
    }

    /// The worker that has the call.
    pub(crate) fn slot_of(&self, id: WorkId) -> Option<Arc<Slot>> {
        let core = self.core();
        match core.machine.place(id)? {
            Place::Sent(worker, _) => core.slots.get(&worker).cloned(),
            Place::Pending => None,
        }
    }

    /// How many workers are starting or live.
    pub(crate) fn workers(&self) -> usize {
        self.core().machine.workers()
    }

    /// The process ids of the workers.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let slots: Vec<_> = self.core().slots.values().cloned().collect();
        slots.iter().filter_map(|slot| slot.pid_known()).collect()
    }

    /// Whether new calls are taken.
    pub(crate) fn accepts(&self) -> Result<(), SubmitError> {
        let core = self.core();
        match core.machine.phase() {
            Phase::Running => Ok(()),
            _ => Err(core.broken.clone().map_or(SubmitError::ShutDown, SubmitError::Broken)),
        }
    }

    /// How many calls are not settled.
    pub(crate) fn unsettled(&self) -> usize {
        self.core().machine.unsettled()
    }

    /// Why the pool is broken, if it is.
    pub(crate) fn broken(&self) -> Option<BrokenPool> {
        self.core().broken.clone()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.core().machine.phase() == Phase::Closed
    }

    /// Whether workers may be started several at a time.
    pub(crate) fn may_start_many(&self) -> bool {
        self.core().machine.may_start_many()
    }

    /// When the machine wants to be told that time has passed.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.core().machine.await_deadline().map(|at| self.began + at)
    }

    /// The supervisor's last word.
    pub(crate) fn end(&self) {
        self.core().ended = true;
        self.ended.notify_all();
    }

    /// Waits until the pool is closed and everything it held is freed.
    pub(crate) fn wait_ended(&self) {
        let core = self.core();
        drop(self.ended.wait_while(core, |core| !core.ended).unwrap_or_else(PoisonError::into_inner));
    }

    /// Runs done-callbacks on the pool's callback thread, which starts with the first of them.
    pub(crate) fn run_callbacks(&self, job: Job) {
        let mut callbacks = lock(&self.callbacks);
        if callbacks.is_none() {
            let (sender, receiver) = crossbeam_channel::unbounded::<Job>();
            // It ends with the pool, which holds the only sender.
            let run = move || receiver.iter().for_each(contained);
            if std::thread::Builder::new().name("pool-callbacks".to_owned()).spawn(run).is_ok() {
                *callbacks = Some(sender);
            }
        }
        let sender = callbacks.clone();
        drop(callbacks);
        match sender {
            Some(sender) => drop(sender.send(job)),
            // No thread is to be had: late is worse than here.
            None => contained(job),
        }
    }

    /// What is laid down for each worker.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            image: pool_image::identity().map(|image| image.bytes.clone()).unwrap_or_default(),
            codec: self.settings.codec.name().to_owned(),
            frame_max: self.settings.frame_max as u64,
            initializes: self.settings.initializer.is_some(),
        }
    }

    /// Whether a worker that says this can be one of this pool's.
    pub(crate) fn admit(&self, hello: &Hello) -> Result<(), StartError> {
        let is_same = || pool_image::identity().is_ok_and(|ours| ours.bytes == hello.image);
        if self.settings.same_image && !is_same() {
            return Err(StartError::OtherImage);
        }
        let codec = self.settings.codec.name();
        if !hello.codecs.iter().any(|known| known == codec) {
            return Err(StartError::Garbage(format!(
                "it does not know the codec {codec}, only {}",
                hello.codecs.join(", ")
            )));
        }
        Ok(())
    }

    pub(crate) fn initializer_failed(&self, slot: &Slot, failure: Failure) -> InitializerFailed {
        let task = self.settings.initializer.as_ref().map_or("", |(task, _)| task.name()).to_owned();
        let (message, backtrace) = match failure {
            Failure::Failed(text) | Failure::UnknownTask(text) => (text, None),
            Failure::Panicked { message, location, backtrace } => {
                let place = location.unwrap_or_else(|| "an unknown place".to_owned());
                (format!("panicked at {place}: {message}"), backtrace)
            }
            Failure::Codec { step, type_name, message } => {
                (format!("{step} of type `{type_name}`: {message}"), None)
            }
            Failure::TooLarge { size, max } => (format!("{size} bytes exceed the limit of {max}"), None),
        };
        InitializerFailed { task, worker: slot.id, pid: slot.pid(), message, backtrace }
    }

    /// Locks what all threads share. It is never held for long: many threads that submit at the same time
    /// are better off to give way a few times than to be put to sleep and woken one by one.
    fn core(&self) -> MutexGuard<'_, Core> {
        const SPINS: u32 = 4;
        const YIELDS: u32 = 16;
        for attempt in 0..SPINS + YIELDS {
            match self.core.try_lock() {
                Ok(core) => return core,
                Err(TryLockError::Poisoned(core)) => return core.into_inner(),
                Err(TryLockError::WouldBlock) if attempt < SPINS => (0..32).for_each(|_| std::hint::spin_loop()),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
        lock(&self.core)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Runs `f` on the machine, and carries out what it orders.
    fn act<T>(&self, f: impl FnOnce(&mut Core, Duration) -> T) -> T {
        let mut todo = Todo::default();
        let value = {
            let mut core = self.core();
            let now = self.now();
            let value = f(&mut core, now);
            while let Some(output) = core.machine.poll() {
                core.order(output, self, &mut todo);
            }
            value
        };
        self.perform(todo);
        value
    }

    fn perform(&self, todo: Todo) {
        for slot in &todo.flush {
            slot.flush();
        }
        if !todo.revoke.is_empty() {
            let answers: Vec<_> =
                todo.revoke.iter().map(|(slot, seq)| Input::Answered(slot.id, *seq, slot.revoke(*seq))).collect();
            self.act(|core, now| answers.into_iter().for_each(|answer| core.machine.handle(answer, now)));
        }
        for (slot, signal) in &todo.signal {
            slot.signal(*signal);
        }
        for slot in &todo.close {
            slot.close();
        }
        // The supervisor listens until the pool has ended.
        for slot in todo.spawn {
            let _ = self.orders.send(Order::Spawn(slot));
        }
        if todo.look {
            let _ = self.orders.send(Order::Look);
        }
        drop(todo.forget);
        for call in todo.settle {
            call.announce();
        }
    }
}

impl Core {
    fn take_call(&mut self, id: WorkId) -> Arc<Call> {
        self.calls[id.index()].take().expect("invariant: an unsettled call is in the table")
    }

    /// Prepares one order, under the lock.
    fn order(&mut self, output: Output, pool: &Pool, todo: &mut Todo) {
        let slot = |id: WorkerId| Arc::clone(&self.slots[&id]);
        match output {
            Output::Send(worker, seq, id) => {
                let call = self.calls[id.index()].as_ref().expect("invariant: an unsettled call is in the table");
                let slot = &self.slots[&worker];
                slot.post(Letter::Call(seq, Arc::clone(call)));
                if todo.flush.last().is_none_or(|last| last.id != worker) {
                    todo.flush.push(Arc::clone(slot));
                }
            }
            Output::Stop(worker) => {
                slot(worker).post(Letter::Frame(vec![crate::wire::Kind::Stop as u8]));
                todo.flush.push(slot(worker));
            }
            Output::Spawn(worker) => {
                let slot = Slot::new(worker);
                self.slots.insert(worker, Arc::clone(&slot));
                todo.spawn.push(slot);
            }
            Output::Revoke(worker, seq) => todo.revoke.push((slot(worker), seq)),
            Output::Signal(worker, signal) => todo.signal.push((slot(worker), signal)),
            Output::CloseLink(worker) => todo.close.push(slot(worker)),
            Output::StartTimedOut(worker) => {
                slot(worker).fail(StartError::TimedOut(pool.settings.machine.start_deadline));
            }
            Output::Forget(worker) => {
                let slot = self.slots.remove(&worker).expect("invariant: a worker is forgotten once");
                self.last_failure = Some(slot.take_failure());
                todo.forget.push(slot);
            }
            Output::Break(cause) => self.broken = Some(self.break_reason(cause, pool)),
            Output::Settle(id, how) => {
                let call = self.take_call(id);
                let error = match how {
                    How::Cancelled => TaskError::Cancelled,
                    How::Lost(worker) => TaskError::WorkerLost(Box::new(lost(&self.slots[&worker], &call))),
                    How::Doomed(doom, worker) => {
                        let worker = worker.map(|worker| &*self.slots[&worker]);
                        doomed(doom, &call, worker)
                    }
                    How::Broken => TaskError::Broken(self.broken.clone().expect("invariant: noted before")),
                };
                // Now: a `cancel` that finds the call gone has to know that it was cancelled.
                call.decide(error);
                todo.settle.push(call);
            }
            Output::Alarm | Output::Close => todo.look = true,
        }
    }

    fn break_reason(&mut self, cause: BreakCause, pool: &Pool) -> BrokenPool {
        let config = &pool.settings.machine;
        let nothing = || StartError::TimedOut(config.start_deadline);
        let reason = match cause {
            BreakCause::WorkerLost(worker) => {
                let slot = &self.slots[&worker];
                BreakReason::WorkerLost { worker, pid: slot.pid(), exit: slot.exit() }
            }
            BreakCause::TooManyFailures(_) => BreakReason::TooManyFailures {
                failures: config.restart_limit.failures,
                last: self.last_failure.take().unwrap_or_else(nothing),
            },
            BreakCause::NoWorkerInTime(_) => BreakReason::NoWorkerInTime {
                deadline: config.start_deadline,
                last: self.last_failure.take().unwrap_or_else(nothing),
            },
            BreakCause::Initializer(worker) => {
                let failed = self.slots[&worker].initializer_failed.get();
                BreakReason::Initializer(failed.expect("invariant: noted before the fact is told").clone())
            }
        };
        BrokenPool { reason: Arc::new(reason) }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let core = self.core();
        f.debug_struct("Pool").field("phase", &core.machine.phase()).finish_non_exhaustive()
    }
}

fn lost(slot: &Slot, call: &Call) -> WorkerLost {
    WorkerLost {
        task: call.task_name().to_owned(),
        worker: slot.id,
        pid: slot.pid(),
        exit: slot.exit(),
        why: slot.fault().map(str::to_owned).or_else(|| slot.last_words()),
    }
}

fn doomed(doom: Doom, call: &Call, worker: Option<&Slot>) -> TaskError {
    let (task, pid) = (call.task_name().to_owned(), worker.and_then(Slot::pid));
    let worker = worker.map(|slot| slot.id);
    match doom {
        Doom::Killed => TaskError::Killed(Box::new(Killed { task, worker, pid })),
        Doom::OverTime(limit) => {
            TaskError::TimedOut(Box::new(TimedOut { task, limit: TimeLimit::Run(limit), worker, pid }))
        }
        Doom::Expired(limit) => {
            TaskError::TimedOut(Box::new(TimedOut { task, limit: TimeLimit::Total(limit), worker, pid }))
        }
    }
}

/// Puts the names to a failure that a worker reported.
pub(crate) fn task_error(failure: Failure, call: &Call, worker: WorkerId) -> TaskError {
    let task = call.task_name().to_owned();
    match failure {
        Failure::Panicked { message, location, backtrace } => {
            TaskError::Panicked(Box::new(Panicked { task, worker, message, location, backtrace }))
        }
        Failure::Codec { step, type_name, message } => {
            TaskError::Codec(Box::new(CodecError { step, type_name, codec: call.codec().name(), message }))
        }
        Failure::TooLarge { size, max } => {
            let bytes = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            TaskError::TooLarge { task, size: bytes(size), max: bytes(max) }
        }
        Failure::UnknownTask(text) | Failure::Failed(text) => TaskError::UnknownTask(text),
    }
}
