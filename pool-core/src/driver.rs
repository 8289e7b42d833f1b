//! The driver: tells the machine what happened and carries out what it orders.
//!
//! Whoever learns a fact runs the driver: a thread that submits, a link's thread or a waiting caller that
//! drives one, the supervisor. There is no manager thread between them. The lock is held across the
//! machine's methods only, never across a transport, a spawner, a codec or user code; orders are carried
//! out after it is released, the sends first, user code last.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use pool_settings::WorkerSettings;

use crate::WorkerId;
use crate::admission::{Admission, Waiter};
use crate::call::{Call, Outcome, contained, is_waking, lock, wake, waking};
use crate::codec::Codec;
use crate::error::{
    BreakReason, BrokenPool, CodecError, InitializerFailed, Killed, Panicked, StartError, Stopped, StoppedBy,
    SubmitError, TaskError, TimeLimit, TimedOut, WorkerLost,
};
use crate::executor::{CallOptions, ShutdownReport, WorkerEnd};
use crate::function::TaskRef;
use crate::future::Asked;
use crate::held::ContextType;
use crate::machine::{
    BreakCause, Cancel, Config, Doom, EXTRA_QUEUED_CALLS, How, Input, Left, Machine, Output, Phase, Place,
    StopCause, Treatment, WorkId,
};
use crate::slot::{Answer, Letter, Reply, Slot};
use crate::spare;
use crate::spawner::Signal;
use crate::transport::{Claim, Seq};
use crate::wire::{Failure, Hello, Initializer, Terms, WireFunction};

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
    /// How much memory a worker may take after a call.
    pub(crate) memory_max: Option<u64>,
    /// What it leaves in each worker.
    pub(crate) context: ContextType,
    pub(crate) exit: Option<WireFunction>,
    pub(crate) call_options: CallOptions,
    /// What the user has said of it; else it follows from the number of workers.
    pub(crate) call_queue_bound: Option<usize>,
    /// The most unsettled calls, if they are bounded.
    pub(crate) max_pending: Option<usize>,
    /// What workers take on themselves.
    pub(crate) worker: WorkerSettings,
}

pub(crate) struct Pool {
    pub(crate) settings: Settings,
    core: Mutex<Core>,
    /// Notified when `core.ended` becomes true.
    ended: Condvar,
    orders: Sender<Order>,
    callbacks: Mutex<Option<Sender<Job>>>,
    began: Instant,
    /// The most workers at a time just now. Written under the lock.
    max_workers: AtomicUsize,
    _spare: spare::User,
}

struct Core {
    machine: Machine,
    /// By [`WorkId::index`].
    calls: Vec<Option<Arc<Call>>>,
    slots: BTreeMap<WorkerId, Arc<Slot>>,
    /// Of a bounded pool.
    admission: Option<Admission>,
    broken: Option<BrokenPool>,
    last_failure: Option<StartError>,
    /// There was a call whose policy depends on what a worker answers.
    looks_at_answers: bool,
    ending: Ending,
    /// The supervisor has freed everything.
    ended: bool,
}

/// What there is to report of the pool's end.
#[derive(Default)]
struct Ending {
    /// How many calls were not settled when it began.
    unsettled: Option<usize>,
    cancelled: usize,
    lost: usize,
    workers: Vec<(Left, WorkerEnd)>,
}

impl Ending {
    fn count(&mut self, how: How) {
        if self.unsettled.is_some() {
            match how {
                How::Cancelled => self.cancelled += 1,
                How::Lost(_) | How::LostAgain(..) | How::Stopped(..) | How::Doomed(..) | How::Broken => {
                    self.lost += 1;
                }
            }
        }
    }
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
    let_in: Vec<Waker>,
    look: bool,
}

impl Pool {
    pub(crate) fn new(settings: Settings, orders: Sender<Order>) -> Self {
        let core = Core {
            machine: Machine::new(settings.machine),
            calls: Vec::new(),
            slots: BTreeMap::new(),
            admission: settings.max_pending.map(Admission::new),
            broken: None,
            last_failure: None,
            looks_at_answers: false,
            ending: Ending::default(),
            ended: false,
        };
        Self {
            max_workers: settings.machine.max_workers.into(),
            settings,
            core: Mutex::new(core),
            ended: Condvar::new(),
            orders,
            callbacks: Mutex::default(),
            began: Instant::now(),
            _spare: spare::User::new(),
        }
    }

    /// Accepts a call, and sends it on its way if a worker is free. A full pool has to have room first.
    pub(crate) fn submit(&self, call: &Arc<Call>, treatment: &Treatment) -> Result<(), SubmitError> {
        self.submit_until(call, treatment, None)
    }

    /// The same. If the deadline passes first it is [`SubmitError::Full`].
    pub(crate) fn submit_until(
        &self,
        call: &Arc<Call>,
        treatment: &Treatment,
        deadline: Option<Instant>,
    ) -> Result<(), SubmitError> {
        if self.settings.max_pending.is_none() {
            return self.act(|core, now| core.accept(call, treatment, now));
        }
        if is_waking() {
            // Others wait for what this thread does next, and room may come of just that.
            return self.submit_now(call, treatment);
        }
        match self.ask(call, treatment, true)? {
            None => Ok(()),
            Some(waiter) => {
                waiter.wait(deadline);
                self.come_in(&waiter, call, treatment)
            }
        }
    }

    /// Accepts a call, if there is room for it: else it is [`SubmitError::Full`].
    pub(crate) fn submit_now(&self, call: &Arc<Call>, treatment: &Treatment) -> Result<(), SubmitError> {
        self.ask(call, treatment, false).map(|waiter| debug_assert!(waiter.is_none(), "invariant: nobody waits"))
    }

    /// The same for a task. `waiter` is its own, as long as it waits.
    pub(crate) fn poll_submit(
        &self,
        call: &Arc<Call>,
        treatment: &Treatment,
        waiter: &mut Option<Arc<Waiter>>,
        waker: &Waker,
    ) -> Poll<Result<(), SubmitError>> {
        if waiter.is_none() {
            match self.ask(call, treatment, true) {
                Ok(Some(new)) => *waiter = Some(new),
                done => return Poll::Ready(done.map(drop)),
            }
        }
        match waiter.take_if(|waiter| !waiter.keep_waker(waker)) {
            None => Poll::Pending,
            Some(waiter) => Poll::Ready(self.come_in(&waiter, call, treatment)),
        }
    }

    /// Accepts a call, or lets whoever submits it wait for room, if that is wanted.
    fn ask(
        &self,
        call: &Arc<Call>,
        treatment: &Treatment,
        waits: bool,
    ) -> Result<Option<Arc<Waiter>>, SubmitError> {
        self.act(|core, now| {
            if !core.is_full() {
                return core.accept(call, treatment, now).map(|()| None);
            }
            let admission = core.admission.as_mut().expect("invariant: only a bounded pool is full");
            if waits { Ok(Some(admission.join())) } else { Err(admission.full()) }
        })
    }

    /// Accepts the call of one who has waited, unless that was in vain.
    fn come_in(&self, waiter: &Arc<Waiter>, call: &Arc<Call>, treatment: &Treatment) -> Result<(), SubmitError> {
        self.act(|core, now| {
            let admission = core.admission.as_mut().expect("invariant: only in a bounded pool one waits");
            if admission.leave(waiter) { core.accept(call, treatment, now) } else { Err(admission.full()) }
        })
    }

    /// One does not want to wait any longer.
    pub(crate) fn leave(&self, waiter: &Arc<Waiter>) {
        self.act(|core, _| core.admission.as_mut().is_some_and(|admission| admission.leave(waiter)));
    }

    /// Whether who submits now has to wait for room.
    pub(crate) fn is_full(&self) -> bool {
        self.settings.max_pending.is_some() && self.core().is_full()
    }

    /// Tells the machine a fact.
    pub(crate) fn tell(&self, input: Input) {
        self.act(|core, now| core.machine.handle(input, now));
    }

    /// Tells the machine that somebody wants the pool to end.
    pub(crate) fn end_by(&self, input: Input) {
        self.act(|core, now| {
            core.ending.unsettled.get_or_insert(core.machine.unsettled());
            core.machine.handle(input, now);
        });
    }

    /// What became of calls and workers since the first who wanted the pool to end.
    pub(crate) fn report(&self) -> ShutdownReport {
        let core = self.core();
        let Ending { unsettled, cancelled, lost, workers } = &core.ending;
        let those = |left: Left| workers.iter().filter(|it| it.0 == left).map(|it| it.1.clone()).collect();
        ShutdownReport {
            complete: core.ended,
            finished: unsettled.unwrap_or(0).saturating_sub(cancelled + lost + core.machine.unsettled()),
            cancelled: *cancelled,
            lost: *lost,
            ended: those(Left::ByItself),
            terminated: those(Left::Told),
            killed: those(Left::Killed),
        }
    }

    /// Hands replies to their calls, and the worker its next ones first.
    pub(crate) fn settle_replies(&self, slot: &Slot, answers: Vec<Answer>) {
        let refused = self.refused(slot.id, &answers);
        let settled: Vec<_> = self.act(|core, now| {
            let found = answers.into_iter().filter_map(|Answer { seq, took, reply }| {
                if refused.contains(&seq) && core.machine.repeat(slot.id, seq, took, now) {
                    return None;
                }
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

    /// Those of a worker's answers that will not do, as the policies of their calls say, which are the user's code.
    fn refused(&self, worker: WorkerId, answers: &[Answer]) -> Vec<Seq> {
        let asked: Vec<_> = {
            let core = self.core();
            if !core.looks_at_answers {
                return Vec::new();
            }
            let asked = |answer: &Answer| {
                let call = core.calls[core.machine.asked(worker, answer.seq)?.index()].clone()?;
                call.retry()?.looks_at_answers().then_some(call)
            };
            answers.iter().map(asked).collect()
        };
        let refuses = |(answer, call): (&Answer, Option<Arc<Call>>)| {
            let call = call?;
            let retry = call.retry()?;
            let refuses = match &answer.reply {
                Reply::Ok(bytes) => retry.refuses_result(bytes, call.codec()),
                Reply::Failed(failure) => retry.refuses_error(&task_error(failure.clone(), &call, worker)),
            };
            refuses.then_some(answer.seq)
        };
        let mut refused = Vec::new();
        // Others wait for what this thread does next, so nothing that is asked here may wait for them.
        waking(|| refused = answers.iter().zip(asked).filter_map(refuses).collect());
        refused
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

    /// Asks a call to stop; one that has started is killed after `grace`, if it does not.
    pub(crate) fn call_off(&self, id: WorkId, grace: Option<Duration>) -> Asked {
        let (step, place) = self.act(|core, now| {
            let place = core.sent_to(id);
            (core.machine.call_off(id, grace, now), place)
        });
        let Some((slot, seq)) = place else {
            return if step == Cancel::Cancelled { Asked::Cancelled } else { Asked::Settled };
        };
        if let Cancel::Revoke(..) = step {
            let claim = slot.revoke(seq);
            self.tell(Input::Answered(slot.id, seq, claim));
            if claim == Claim::Revoked {
                return Asked::Cancelled;
            }
        }
        if slot.ask_to_stop(seq) { Asked::Told } else { Asked::OutOfReach }
    }

    /// Whether a worker has started the call, as far as its link can tell.
    pub(crate) fn started(&self, id: WorkId) -> bool {
        let place = self.core().sent_to(id);
        let claim = place.map(|(slot, seq)| slot.claim_state(seq));
        matches!(claim, Some(Claim::Started | Claim::Unknown))
    }

    /// The worker that has the call.
    pub(crate) fn slot_of(&self, id: WorkId) -> Option<Arc<Slot>> {
        self.core().sent_to(id).map(|(slot, _)| slot)
    }

    /// Changes how many workers there may be.
    pub(crate) fn resize(&self, max_workers: usize) {
        let call_queue_bound = call_queue_bound(self.settings.call_queue_bound, max_workers);
        self.act(|core, now| {
            self.max_workers.store(max_workers, Ordering::Relaxed);
            core.machine.handle(Input::Resized { max_workers, call_queue_bound }, now);
        });
    }

    /// The most workers at a time.
    pub(crate) fn max_workers(&self) -> usize {
        self.max_workers.load(Ordering::Relaxed)
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
        // What the clock cannot count to never comes.
        self.core().machine.await_deadline().and_then(|at| self.began.checked_add(at))
    }

    /// The supervisor's last word.
    pub(crate) fn end(&self) {
        self.core().ended = true;
        self.ended.notify_all();
    }

    /// Waits until the pool is closed and everything it held is freed.
    pub(crate) fn wait_ended(&self) {
        if is_waking() {
            // The pool's end needs this thread.
            return;
        }
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
            None => waking(|| contained(job)),
        }
    }

    /// What is laid down for a worker.
    pub(crate) fn terms(&self, worker: WorkerId) -> Terms {
        Terms {
            image: pool_image::identity().map(|image| image.bytes.clone()).unwrap_or_default(),
            codec: self.settings.codec.name().to_owned(),
            frame_max: self.settings.frame_max as u64,
            worker: worker.0,
            initializes: self.settings.initializer.is_some(),
            memory_max: self.settings.memory_max,
            settings: self.settings.worker.clone(),
            exit: self.settings.exit.clone(),
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
        let (message, backtrace) = failure.in_words();
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
                core.order(output, self, now, &mut todo);
            }
            core.let_in(&mut todo);
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
        for waker in todo.let_in {
            wake(waker);
        }
    }
}

impl Core {
    /// The worker that has the call, and the number it has there.
    fn sent_to(&self, id: WorkId) -> Option<(Arc<Slot>, Seq)> {
        match self.machine.place(id)? {
            Place::Sent(worker, seq) => self.slots.get(&worker).cloned().map(|slot| (slot, seq)),
            Place::Pending | Place::Kept(_) | Place::Resting => None,
        }
    }

    fn accept(&mut self, call: &Arc<Call>, treatment: &Treatment, now: Duration) -> Result<(), SubmitError> {
        let Some(id) = self.machine.submit(treatment, now) else {
            return Err(self.broken.clone().map_or(SubmitError::ShutDown, SubmitError::Broken));
        };
        call.set_id(id);
        if let Some(retry) = call.retry() {
            self.machine.may_repeat(id, retry.attempts());
            self.looks_at_answers |= retry.looks_at_answers();
        }
        let index = id.index();
        if self.calls.len() <= index {
            self.calls.resize_with(index + 1, || None);
        }
        self.calls[index] = Some(Arc::clone(call));
        Ok(())
    }

    /// Whether there is no room for one call more. A pool that takes none at all is not full.
    fn is_full(&self) -> bool {
        let Some(admission) = &self.admission else { return false };
        self.machine.phase() == Phase::Running && !admission.has_room(self.machine.unsettled())
    }

    /// Lets in those who wait, as far as there is room by now.
    fn let_in(&mut self, todo: &mut Todo) {
        if let Some(admission) = &mut self.admission {
            // Everybody, if the pool takes no more calls: they are told when they submit.
            let everybody = self.machine.phase() != Phase::Running;
            todo.let_in.extend(admission.let_in(self.machine.unsettled(), everybody));
        }
    }

    fn take_call(&mut self, id: WorkId) -> Arc<Call> {
        self.calls[id.index()].take().expect("invariant: an unsettled call is in the table")
    }

    /// Prepares one order, under the lock.
    fn order(&mut self, output: Output, pool: &Pool, now: Duration, todo: &mut Todo) {
        let slot = |id: WorkerId| Arc::clone(&self.slots[&id]);
        match output {
            Output::Send(worker, seq, id) => {
                let call = self.calls[id.index()].as_ref().expect("invariant: an unsettled call is in the table");
                let (slot, call) = (&self.slots[&worker], Arc::clone(call));
                slot.post(match self.machine.time_of(id, now) {
                    None => Letter::Call(seq, call),
                    Some(time) => Letter::Limited(Box::new((seq, call, time))),
                });
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
            Output::Left(worker, left) => {
                let slot = &self.slots[&worker];
                self.ending.workers.push((left, WorkerEnd { worker, pid: slot.pid(), exit: slot.exit() }));
            }
            Output::Forget(worker) => {
                let slot = self.slots.remove(&worker).expect("invariant: a worker is forgotten once");
                self.last_failure = Some(slot.take_failure());
                todo.forget.push(slot);
            }
            Output::Break(cause) => self.broken = Some(self.break_reason(cause, pool)),
            Output::Settle(id, how) => {
                let call = self.take_call(id);
                self.ending.count(how);
                let error = match how {
                    How::Cancelled => TaskError::Cancelled,
                    How::Lost(worker) => TaskError::WorkerLost(Box::new(lost(&self.slots[&worker], &call, 1))),
                    How::LostAgain(worker, workers) => {
                        TaskError::WorkerLost(Box::new(lost(&self.slots[&worker], &call, workers)))
                    }
                    How::Stopped(cause, worker) => stopped(cause, &call, &self.slots[&worker]),
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

/// The bound of the call queue, with what the user has said of it.
pub(crate) fn call_queue_bound(said: Option<usize>, max_workers: usize) -> usize {
    said.unwrap_or(max_workers.saturating_add(EXTRA_QUEUED_CALLS))
}

fn lost(slot: &Slot, call: &Call, workers: u32) -> WorkerLost {
    WorkerLost {
        task: call.task_name().to_owned(),
        worker: slot.id,
        pid: slot.pid(),
        exit: slot.exit(),
        why: slot.fault().map(str::to_owned).or_else(|| slot.last_words()),
        workers,
    }
}

fn stopped(cause: StopCause, call: &Call, slot: &Slot) -> TaskError {
    let by = match cause {
        StopCause::Forced(signal) => {
            let asked = match signal {
                Signal::Terminate => "`terminate_workers` was called",
                Signal::Kill => "`kill_workers` was called",
            };
            let lost = WorkerLost { why: Some(asked.to_owned()), ..lost(slot, call, 1) };
            return TaskError::WorkerLost(Box::new(lost));
        }
        StopCause::OverTime(timeout) => StoppedBy::Shutdown(timeout),
        StopCause::Interrupted => StoppedBy::Interrupt,
    };
    let (task, pid) = (call.task_name().to_owned(), slot.pid());
    TaskError::Stopped(Box::new(Stopped { task, by, worker: slot.id, pid, exit: slot.exit() }))
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
