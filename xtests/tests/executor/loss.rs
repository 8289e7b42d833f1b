//! The loss of workers: one crash costs one call.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use process_pool::error::{BreakReason, Exit, StartError};
use process_pool::spawn::Exec;
use process_pool::spawner::{OnExit, SpawnError, Spawner, SpawnerCaps, Worker};
use process_pool::transport::Ticket;
use process_pool::worker::WorkerEntry;
use process_pool::{
    Bytes, Context, Executor, OnWorkerLoss, RestartLimit, SubmitError, TaskError, TaskHandle, carry::Pipe,
};
use xtests::calls::{exit, lost, pid, run, same, submit};
use xtests::gate::{Gate, PATIENCE, wait_at};
use xtests::processes::eventually;
use xtests::random::Random;
use xtests::runner::{KILLED_FROM_OUTSIDE, Subject, skip};

use crate::tools::{all_there, file, kill, kill_if_there, leave_trace, traces};

fn abort((): ()) {
    std::process::abort();
}

/// Leaves a trace, and ends the worker.
fn trace_and_exit((path, n): (String, u64)) -> u64 {
    leave_trace((path, n));
    std::process::exit(4)
}

/// CPython: `test_killed_child`, and the first rows of the crash matrix.
pub(crate) fn a_killed_busy_worker_costs_its_call_only(subject: &Subject) {
    let (pool, gate) = (subject.pool(2), Gate::new());
    let victim = submit(&pool, wait_at, gate.port());
    let doomed = gate.arrival();
    let neighbour = submit(&pool, wait_at, gate.port());
    let survivor = gate.arrival();
    let queued: Vec<_> = (0..20).map(|n| submit(&pool, same, n)).collect();
    kill(doomed.pid);
    let lost = lost(victim.result());
    assert_eq!((lost.exit, lost.pid), (KILLED_FROM_OUTSIDE, Some(doomed.pid)));
    assert!(lost.task.contains("wait_at"), "{}", lost.task);
    // The neighbour still waits, so these are done by the replacement.
    for (n, handle) in (0..).zip(queued) {
        assert_eq!(handle.result().expect("a queued call is not touched"), n);
    }
    assert!(!neighbour.done());
    assert_eq!(pool.workers(), 2);
    assert!(!pool.worker_pids().contains(&doomed.pid));
    survivor.pass();
    neighbour.result().expect("a neighbour is not touched");
    assert!(pool.broken().is_none());
}

/// D5: where CPython, loky and pebble break.
pub(crate) fn the_death_of_idle_workers_goes_unnoticed(subject: &Subject) {
    let pool = subject.pool(2);
    for n in 0..20 {
        let gate = Gate::new();
        let handles: Vec<_> = (0..2).map(|_| submit(&pool, wait_at, gate.port())).collect();
        let pids: Vec<_> = gate.arrivals(2).into_iter().map(|visitor| visitor.pid).collect();
        assert!(handles.into_iter().all(|handle| handle.result().is_ok()));
        let victims = if n % 2 == 0 { &pids[..1] } else { &pids[..] };
        victims.iter().for_each(|pid| kill(*pid));
        // At once: the pool may not know of it yet, and sends these to the dead.
        let handles: Vec<_> = (0..6).map(|n| submit(&pool, same, n)).collect();
        // Where nobody can tell, the first call at a dead worker may have started.
        let mut losses = if subject.caps().revocable.is_some() { 0 } else { victims.len() };
        for (n, handle) in (0..).zip(handles) {
            match handle.result() {
                Ok(result) => assert_eq!(result, n),
                Err(TaskError::WorkerLost(_)) if losses > 0 => losses -= 1,
                Err(error) => panic!("nobody is lost: {error:?}"),
            }
        }
        if subject.caps().revocable.is_none() {
            // Or the next would be sent to it.
            eventually("their end is known", || !pool.worker_pids().iter().any(|pid| victims.contains(pid)));
        }
    }
    assert!(pool.broken().is_none());
}

/// D4: exit 0 is a loss too. CPython: `exit_during_func_exec_on_worker`, `crash_during_func_exec`.
pub(crate) fn any_end_of_a_worker_is_the_loss_of_its_call(subject: &Subject) {
    let pool = subject.pool(1);
    for code in [0, 1, 99] {
        let handle = submit(&pool, exit, code);
        let next = submit(&pool, same, 3);
        let error = handle.result().expect_err("the worker ended");
        assert!(error.to_string().contains(&format!("exit code {code}")), "{error}");
        assert_eq!(lost::<()>(Err(error)).exit, Exit::Code(code));
        assert_eq!(next.result().expect("the next is not touched"), 3);
    }
    let aborted = lost(submit(&pool, abort, ()).result());
    if cfg!(unix) {
        assert_eq!(aborted.exit, Exit::Signal(6));
    }
    assert_eq!(run(&pool, same, 1), 1);
}

/// loky: `test_crash_races`. Many calls, of which many end their worker: exactly those are lost, and each
/// of them ran once.
pub(crate) fn of_many_calls_exactly_the_fatal_ones_are_lost(subject: &Subject) {
    let (pool, path, mut random) = (subject.pool(2), file(&subject.dir), Random::new(3));
    let calls: Vec<_> = (0..300)
        .map(|n| {
            let fatal = random.below(8) == 0;
            let argument = (path.clone(), n);
            let handle =
                if fatal { submit(&pool, trace_and_exit, argument) } else { submit(&pool, leave_trace, argument) };
            (n, fatal, handle)
        })
        .collect();
    for (n, fatal, handle) in calls {
        match handle.result() {
            Ok(result) => assert!(result == n && !fatal),
            Err(error) => assert!(fatal && error.to_string().contains("exit code 4"), "call {n}: {error:?}"),
        }
    }
    let mut ran = traces(&path);
    ran.sort_unstable();
    assert_eq!(ran, (0..300).collect::<Vec<_>>(), "each ran once");
}

/// At-most-once under fire: workers are killed at any moment while tiny calls run.
pub(crate) fn no_call_runs_twice_while_workers_are_killed(subject: &Subject) {
    let (pool, path, mut random) = (subject.pool(2), file(&subject.dir), Random::new(5));
    all_there(&pool);
    let (mut handles, mut kills, mut lost) = (Vec::<TaskHandle<u64>>::new(), 0, 0);
    for n in 0..2_000 {
        // Not far ahead of the workers, so that kills meet calls wherever they may be.
        if let Some(older) = handles.len().checked_sub(20) {
            handles[older].wait();
        }
        if random.below(40) == 0 {
            let pids = pool.worker_pids();
            if let Some(pid) = pids.get(random.below(2) as usize) {
                kills += u32::from(kill_if_there(*pid));
            }
        }
        handles.push(submit(&pool, leave_trace, (path.clone(), n)));
    }
    let mut expected = Vec::new();
    for (n, handle) in (0..).zip(handles) {
        match handle.result() {
            Ok(result) => expected.push(result),
            Err(TaskError::WorkerLost(_)) => {
                lost += 1;
                // It had started, and may have come to its trace.
                if traces(&path).contains(&n) {
                    expected.push(n);
                }
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    let mut ran = traces(&path);
    ran.sort_unstable();
    assert_eq!(ran, expected, "once each");
    println!("{lost} calls were lost by {kills} kills");
    assert!(kills > 0, "the case decides something");
}

/// S21, D6: what was answered before the crash is honoured.
pub(crate) fn results_from_before_a_crash_are_honoured(subject: &Subject) {
    let pool = subject.pool(1);
    for _ in 0..20 {
        let before: Vec<_> = (0..5).map(|n| submit(&pool, same, n)).collect();
        let fatal = submit(&pool, exit, 1);
        for (n, handle) in (0..).zip(before) {
            assert_eq!(handle.result().expect("answered before the crash"), n);
        }
        assert!(fatal.result().is_err());
    }
}

fn breaking(subject: &Subject, workers: usize) -> Executor {
    subject.builder().max_workers(workers).on_worker_loss(OnWorkerLoss::Break).build().expect("a pool")
}

/// CPython's own behaviour: S39, S41; `test_traceback_when_child_process_terminates_abruptly`,
/// `test_broken_process_pool_traceback`.
pub(crate) fn a_loss_breaks_the_pool_if_asked_for(subject: &Subject) {
    let (pool, gate) = (breaking(subject, 2), Gate::new());
    let running = submit(&pool, wait_at, gate.port());
    let _visitor = gate.arrival();
    let fatal = submit(&pool, exit, 99);
    let queued: Vec<_> = (0..10).map(|_| submit(&pool, wait_at, gate.port())).collect();
    for handle in queued.into_iter().chain([running, fatal]) {
        match handle.result() {
            Err(TaskError::Broken(broken)) => {
                assert!(broken.to_string().contains("exit code 99"), "{broken}");
                assert!(matches!(&*broken.reason, BreakReason::WorkerLost { exit: Exit::Code(99), .. }));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(pool.submit(same, 1), Err(SubmitError::Broken(_))));
    assert!(pool.broken().is_some());
}

/// S40, for a pool that is asked to break: the death of an idle worker does it too.
pub(crate) fn an_idle_workers_death_breaks_a_pool_that_is_to_break(subject: &Subject) {
    let pool = breaking(subject, 1);
    kill(run(&pool, pid, ()));
    eventually("the pool is broken", || pool.broken().is_some());
    let broken = pool.broken().expect("looked at before");
    assert!(matches!(&*broken.reason, BreakReason::WorkerLost { exit: KILLED_FROM_OUTSIDE, .. }), "{broken}");
    assert!(matches!(pool.submit(same, 1), Err(SubmitError::Broken(_))));
}

/// CPython: `test_crash_big_data`.
pub(crate) fn a_crash_amid_large_arguments_costs_one_call(subject: &Subject) {
    let pool = subject.pool(2);
    let big = |n: u8| Bytes::from(vec![n; 4 << 20]);
    for _ in 0..3 {
        let crash = |_: Bytes| -> usize { std::process::exit(6) };
        let before: Vec<_> = (0..4).map(|n| submit(&pool, |bytes: Bytes| bytes.len(), big(n))).collect();
        let fatal = submit(&pool, crash, big(9));
        let after: Vec<_> = (0..4).map(|n| submit(&pool, |bytes: Bytes| bytes.len(), big(n))).collect();
        assert_eq!(lost(fatal.result()).exit, Exit::Code(6));
        for handle in before.into_iter().chain(after) {
            assert_eq!(handle.result().expect("not touched"), 4 << 20);
        }
    }
}

/// A worker that is killed while a large argument is on its way to it.
pub(crate) fn a_kill_amid_a_large_argument_loses_nothing_that_had_not_started(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let long = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    // Far more than the pipe holds: most of it waits in the parent.
    let big: Vec<_> =
        (0..3).map(|n| submit(&pool, |bytes: Bytes| bytes.len(), Bytes::from(vec![n; 8 << 20]))).collect();
    kill(visitor.pid);
    assert_eq!(lost(long.result()).exit, KILLED_FROM_OUTSIDE);
    assert!(big.into_iter().all(|handle| handle.result().is_ok_and(|length| length == 8 << 20)));
}

/// The `WorkerLost` of a callback is that of the handle.
pub(crate) fn a_callback_is_told_of_a_loss(subject: &Subject) {
    let pool = subject.pool(1);
    let (sender, said) = mpsc::channel();
    let gate = Gate::new();
    let handle = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    handle.add_done_callback(move |settled| {
        sender.send(settled.error().map(ToString::to_string)).expect("the case listens");
    });
    kill(visitor.pid);
    let text = said.recv_timeout(PATIENCE).expect("the callback runs").expect("an error");
    assert_eq!(text, handle.result().expect_err("it is lost").to_string());
}

/// Starts workers, as often as it is allowed to.
#[derive(Debug)]
struct Allowed {
    inner: Exec,
    left: Arc<AtomicUsize>,
}

impl Spawner for Allowed {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn caps(&self) -> SpawnerCaps {
        self.inner.caps()
    }

    fn prepare(&self, entry: WorkerEntry) -> Result<(), SpawnError> {
        self.inner.prepare(entry)
    }

    fn spawn(&self, ticket: Ticket, on_exit: OnExit) -> Result<Box<dyn Worker>, SpawnError> {
        let take = |left: usize| left.checked_sub(1);
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take) {
            Ok(_) => self.inner.spawn(ticket, on_exit),
            Err(_) => Err(SpawnError::from_io("start a worker", std::io::ErrorKind::PermissionDenied.into())),
        }
    }
}

fn with_allowed(subject: &Subject, starts: usize) -> (Executor, Arc<AtomicUsize>) {
    if subject.context != "exec+pipe" {
        skip("about the pool, not the context: done with exec+pipe");
    }
    let left = Arc::new(AtomicUsize::new(starts));
    let spawner = Allowed { inner: Exec::new(), left: Arc::clone(&left) };
    let restart_limit =
        RestartLimit { failures: 3, backoff_min: Duration::from_millis(1), backoff_max: Duration::from_millis(5) };
    let builder = Executor::builder().context(Context::new(spawner, Pipe::new()));
    let pool = builder.max_workers(1).max_tasks_per_child(2).restart_limit(restart_limit).build();
    (pool.expect("a pool"), left)
}

/// CPython: `test_failed_worker_replacement_breaks_pool`; D26.
pub(crate) fn a_replacement_that_cannot_be_started_breaks_the_pool(subject: &Subject) {
    let (pool, _) = with_allowed(subject, 1);
    let handles: Vec<_> = (0..5).map(|n| submit(&pool, same, n)).collect();
    let results: Vec<_> = handles.into_iter().map(TaskHandle::result).collect();
    assert!(matches!(results[..2], [Ok(0), Ok(1)]), "{results:?}");
    for result in &results[2..] {
        let Err(TaskError::Broken(broken)) = result else { panic!("{result:?}") };
        let BreakReason::TooManyFailures { failures: 3, last } = &*broken.reason else { panic!("{broken}") };
        assert!(matches!(last, StartError::Spawn(_)) && last.to_string().contains("start a worker"), "{last}");
    }
}

/// CPython: `test_python_finalization_error`: no worker can be started at all.
pub(crate) fn a_pool_that_gets_no_worker_fails_its_calls(subject: &Subject) {
    let (pool, _) = with_allowed(subject, 0);
    let handles: Vec<_> = (0..5).map(|n| submit(&pool, same, n)).collect();
    assert!(handles.into_iter().all(|handle| matches!(handle.result(), Err(TaskError::Broken(_)))));
    assert!(matches!(pool.submit(same, 1), Err(SubmitError::Broken(_))));
}
