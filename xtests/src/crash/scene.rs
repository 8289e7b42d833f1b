//! The stage that most events are played on.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pool_core::error::{Cause, CodecStep, Exit, TaskError};
use pool_core::{Builder, Executor, TaskHandle};
use process_pool::Bytes;

use super::deeds::{Argument, Deed, Output, Trap, act};
use super::{Held, Seen, Setting};
use crate::gate::{Gate, PATIENCE, Visitor};
use crate::processes::is_there;

pub(super) type Call = TaskHandle<Output>;
pub(super) type Outcome = Result<Output, TaskError>;

/// How many calls are queued behind the victim and its neighbour.
const QUEUED: usize = 4;
/// And how many must have their results when all is over.
const LATER: usize = 8;

/// A pool with a call on one of its two workers, which waits.
pub(super) struct Scene {
    // First, so that it is dropped first: the pool waits for its calls when it is dropped.
    neighbour: RefCell<Option<Visitor>>,
    pub(super) pool: Executor,
    ledger: PathBuf,
    claims: bool,
    gate: Gate,
    next: Cell<u32>,
    /// Workers that were met.
    pids: RefCell<BTreeSet<u32>>,
    /// Calls beside and behind the victim.
    others: RefCell<Vec<(u32, Call)>>,
}

impl Scene {
    pub(super) fn begin(setting: &Setting<'_>) -> Held<Self> {
        Self::begin_with(setting, |builder| builder)
    }

    pub(super) fn begin_with(setting: &Setting<'_>, configure: impl FnOnce(Builder) -> Builder) -> Held<Self> {
        let scene = Self::empty(setting, configure)?;
        let call = scene.call(|argument| argument.gate = scene.gate.port())?;
        scene.others.borrow_mut().push(call);
        let visitor = scene.gate.arrival_within(PATIENCE).ok_or("the neighbour never began")?;
        scene.pids.borrow_mut().insert(visitor.pid);
        *scene.neighbour.borrow_mut() = Some(visitor);
        Ok(scene)
    }

    /// Without a neighbour.
    pub(super) fn empty(setting: &Setting<'_>, configure: impl FnOnce(Builder) -> Builder) -> Held<Self> {
        let ledger = setting.folder.join("ledger");
        fs::write(&ledger, "").map_err(|error| format!("no ledger: {error}"))?;
        let pool = configure(setting.builder().max_workers(2)).build().map_err(|error| error.to_string())?;
        Ok(Self {
            pool,
            ledger,
            claims: setting.claims(),
            gate: Gate::new(),
            next: Cell::new(0),
            pids: RefCell::default(),
            others: RefCell::default(),
            neighbour: RefCell::default(),
        })
    }

    /// Submits a call.
    pub(super) fn call(&self, change: impl FnOnce(&mut Argument)) -> Held<(u32, Call)> {
        let argument = self.argument(change);
        let number = argument.number;
        let call =
            self.pool.submit(act, argument).map_err(|error| format!("call {number} is refused: {error}"))?;
        Ok((number, call))
    }

    /// What a call gets that does nothing, but for these changes.
    pub(super) fn argument(&self, change: impl FnOnce(&mut Argument)) -> Argument {
        let number = self.next.replace(self.next.get() + 1);
        let ledger = self.ledger.to_string_lossy().into_owned();
        let (deed, trap, load) = (Deed::Nothing, Trap::None, Bytes::default());
        let mut argument = Argument { ledger, number, gate: 0, deed, trap, answer: 0, bytes: 0, load };
        change(&mut argument);
        argument
    }

    /// A call that does this.
    pub(super) fn does(&self, deed: Deed) -> Held<(u32, Call)> {
        self.call(|argument| argument.deed = deed)
    }

    /// A call that has begun and waits, and the visitor that lets it go on.
    pub(super) fn waits(&self) -> Held<((u32, Call), Visitor)> {
        let gate = Gate::new();
        let call = self.call(|argument| argument.gate = gate.port())?;
        let visitor = gate.arrival_within(PATIENCE).ok_or("the call never began")?;
        self.pids.borrow_mut().insert(visitor.pid);
        Ok((call, visitor))
    }

    /// Brings the worker up that is not the neighbour's, and tells its process id.
    pub(super) fn idle_worker(&self) -> Held<u32> {
        let ((number, call), visitor) = self.waits()?;
        let pid = visitor.pid;
        visitor.pass();
        right(number, &settled(number, &call)?)?;
        Ok(pid)
    }

    /// Queues calls behind the two that are there.
    pub(super) fn queue(&self) -> Held<()> {
        for _ in 0..QUEUED {
            let call = self.call(|_| {})?;
            self.others.borrow_mut().push(call);
        }
        Ok(())
    }

    /// Lets the neighbour go on.
    pub(super) fn release(&self) {
        drop(self.neighbour.take());
    }

    /// Lets the neighbour go on, and waits for its result.
    pub(super) fn neighbour_ends(&self) -> Held<()> {
        self.release();
        self.others.borrow().iter().try_for_each(|(number, call)| match call.wait_timeout(PATIENCE) {
            true => Ok(()),
            false => Err(format!("call {number} hangs")),
        })
    }

    /// Waits for the victim while its neighbour waits, and judges it; then all the rest.
    pub(super) fn end(self, victim: (u32, Call), judge: impl FnOnce(Outcome) -> Held<String>) -> Held<Seen> {
        self.queue()?;
        let (number, call) = victim;
        let outcome = settled(number, &call)?;
        let call = judge(outcome)?;
        self.conclude(call, 0)
    }

    /// Judges the neighbours and the pool. So many calls beside the victim may be lost, for it has been said why.
    pub(super) fn conclude(self, call: String, may_be_lost: usize) -> Held<Seen> {
        self.release();
        let (mut came, mut lost) = (0, 0);
        for (number, call) in self.others.take() {
            match settled(number, &call)? {
                Err(TaskError::WorkerLost(_)) => lost += 1,
                outcome => {
                    right(number, &outcome)?;
                    came += 1;
                }
            }
        }
        // Without claim words nobody knows whether a call that was sent ahead has begun.
        if lost > may_be_lost && self.claims {
            return Err(format!("{lost} neighbours were lost"));
        }
        let neighbours = match lost {
            0 => format!("{came} of {came} right"),
            _ => format!("{came} right, {lost} lost unstarted or with theirs"),
        };
        if let Some(broken) = self.pool.broken() {
            return Err(format!("the pool broke: {broken}"));
        }
        for (number, call) in (0..LATER).map(|_| self.call(|_| {})).collect::<Held<Vec<_>>>()? {
            right(number, &settled(number, &call)?)?;
        }
        self.close(call, neighbours, "usable")
    }

    /// Reads the ledger, drops the pool, and sees that no worker is left.
    pub(super) fn close(self, call: String, neighbours: String, pool: &str) -> Held<Seen> {
        self.release();
        self.pids.borrow_mut().extend(self.pool.worker_pids());
        let Self { pool: executor, ledger, pids, .. } = self;
        drop(executor);
        let entries = fs::read_to_string(ledger).map_err(|error| format!("no ledger: {error}"))?;
        let mut count = BTreeMap::new();
        entries.lines().for_each(|line| *count.entry(line).or_insert(0) += 1);
        if let Some((number, times)) = count.into_iter().find(|(_, times)| *times > 1) {
            return Err(format!("call {number} began {times} times"));
        }
        all_gone(&pids.take(), Duration::from_secs(5))?;
        Ok(Seen { call, neighbours, pool: pool.to_owned() })
    }

    /// Notes that this process was there.
    pub(super) fn met(&self, pid: u32) {
        self.pids.borrow_mut().insert(pid);
    }
}

/// The outcome of a call, unless that never comes.
pub(super) fn settled(number: u32, call: &Call) -> Held<Outcome> {
    call.result_timeout(PATIENCE).ok_or_else(|| {
        let who = crate::leaks::who_is_there().join("\n");
        format!("call {number} hangs: {call:?}\n{who}")
    })
}

/// It is the right result.
pub(super) fn right(number: u32, outcome: &Outcome) -> Held<()> {
    match outcome {
        Ok(output) if output.number == number => Ok(()),
        Ok(output) => Err(format!("call {number} has the result of call {}", output.number)),
        Err(error) => Err(format!("call {number} failed: {error}")),
    }
}

/// A judge: it has its result.
pub(super) fn works(outcome: Outcome) -> Held<String> {
    outcome.map(|_| "right".to_owned()).map_err(|error| format!("it failed: {error}"))
}

/// A judge: it has its result; or was lost on its way to a worker that had just died, where nobody can know whether
/// it had begun.
pub(super) fn works_if_known(setting: &Setting<'_>) -> impl FnOnce(Outcome) -> Held<String> {
    let claims = setting.claims();
    move |outcome| match outcome {
        Err(TaskError::WorkerLost(lost)) if !claims => Ok(format!("lost on its way: {}", lost.exit)),
        outcome => works(outcome),
    }
}

/// A judge: it was lost, and the worker ended in one of these ways.
pub(super) fn lost(exits: &'static [Exit]) -> impl FnOnce(Outcome) -> Held<String> {
    move |outcome| match outcome {
        Err(TaskError::WorkerLost(lost)) if exits.contains(&lost.exit) => Ok(format!("lost: {}", lost.exit)),
        Err(error) => Err(format!("it failed otherwise: {error}")),
        Ok(_) => Err("it has a result".to_owned()),
    }
}

/// A judge: lost, by one of these.
pub(super) fn lost_by(causes: &'static [Cause]) -> impl FnOnce(Outcome) -> Held<String> {
    move |outcome| match outcome {
        Err(TaskError::WorkerLost(lost)) if causes.contains(&lost.exit.cause()) => {
            Ok(format!("lost: {}", lost.exit))
        }
        Err(error) => Err(format!("it failed otherwise: {error}")),
        Ok(_) => Err("it has a result".to_owned()),
    }
}

/// A judge: the codec failed at this step.
pub(super) fn not_carried(step: CodecStep) -> impl FnOnce(Outcome) -> Held<String> {
    move |outcome| match outcome {
        Err(TaskError::Codec(error)) if error.step == step => Ok(format!("{step}")),
        Err(error) => Err(format!("it failed otherwise: {error}")),
        Ok(_) => Err("it has a result".to_owned()),
    }
}

/// Waits until none of these processes is left; not longer than `limit`.
pub(super) fn all_gone(pids: &BTreeSet<u32>, limit: Duration) -> Held<()> {
    let start = Instant::now();
    loop {
        let left: Vec<_> = pids.iter().filter(|pid| is_there(**pid)).collect();
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() > limit {
            return Err(format!("processes are left: {left:?}"));
        }
        std::thread::yield_now();
    }
}
