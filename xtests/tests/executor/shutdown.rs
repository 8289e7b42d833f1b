//! The end of a pool: by shutdown, by drop, by force.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::Duration;

use process_pool::error::Exit;
use process_pool::{Executor, Shutdown, SubmitError, TaskError, TaskHandle};
use xtests::calls::{exit, lost, pid, run, same, submit};
use xtests::gate::{Gate, PATIENCE, Visitor, wait_at};
use xtests::processes::eventually;
use xtests::runner::{KILLED_FROM_OUTSIDE, Subject};

use crate::tools::{Act, Whim, kill};

const NO_WAIT: Shutdown = Shutdown { wait: false, cancel_futures: false, timeout: None, grace: None };

/// CPython: `test_run_after_shutdown`.
pub(crate) fn a_pool_that_is_shut_down_takes_no_calls(subject: &Subject) {
    let pool = subject.pool(1);
    pool.shutdown(Shutdown::default());
    assert!(matches!(pool.submit(same, 1), Err(SubmitError::ShutDown)));
    assert!(matches!(pool.submit_named::<u64, u64>("double", 1), Err(SubmitError::ShutDown)));
    assert!(pool.broken().is_none());
}

/// S46.
pub(crate) fn shutdown_may_be_called_again_and_before_any_call(subject: &Subject) {
    let fresh = subject.pool(2);
    fresh.shutdown(NO_WAIT);
    fresh.shutdown(Shutdown::default());
    let used = subject.pool(2);
    run(&used, same, 1);
    for _ in 0..3 {
        used.shutdown(Shutdown::default());
        used.shutdown(Shutdown { cancel_futures: true, ..Shutdown::default() });
    }
    assert_eq!(used.workers(), 0);
}

/// CPython: `test_hang_issue12364`.
pub(crate) fn shutdown_finishes_fifty_calls(subject: &Subject) {
    let pool = subject.pool(2);
    let handles: Vec<_> = (0..50).map(|n| submit(&pool, same, n)).collect();
    pool.shutdown(Shutdown::default());
    for (n, handle) in (0..).zip(handles) {
        assert!(handle.done());
        assert_eq!(handle.result().expect("a result"), n);
    }
}

/// CPython: `test_shutdown_race_issue12456`.
pub(crate) fn shutdown_does_not_stumble_over_workers_that_left(subject: &Subject) {
    for _ in 0..10 {
        let pool = subject.pool(2);
        let map = pool.map(same, 0..3).start().expect("accepted");
        pool.shutdown(Shutdown::default());
        assert_eq!(map.filter(Result::is_ok).count(), 3);
    }
}

/// CPython: `test_processes_terminate`.
pub(crate) fn no_worker_is_left_after_shutdown(subject: &Subject) {
    let (pool, gate) = (subject.pool(3), Gate::new());
    let handles: Vec<_> = (0..3).map(|_| submit(&pool, wait_at, gate.port())).collect();
    let visitors = gate.arrivals(3);
    let pids: BTreeSet<_> = visitors.iter().map(|visitor| visitor.pid).collect();
    assert_eq!(pool.worker_pids().into_iter().collect::<BTreeSet<_>>(), pids);
    drop(visitors);
    pool.shutdown(Shutdown::default());
    assert_eq!((pool.workers(), pool.worker_pids().len()), (0, 0));
    #[cfg(target_os = "linux")]
    assert!(pids.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()));
    assert!(handles.into_iter().all(|handle| handle.result().is_ok()));
}

/// CPython: `test_context_manager_shutdown`, `test_del_shutdown`.
pub(crate) fn a_drop_finishes_what_was_submitted(subject: &Subject) {
    let pool = subject.pool(2);
    let handles: Vec<_> = (0..20).map(|n| submit(&pool, same, n)).collect();
    drop(pool);
    assert!(handles.iter().all(TaskHandle::done));
    assert!(handles.into_iter().all(|handle| handle.result().is_ok()));
}

/// CPython: `test_shutdown_no_wait`, and bpo-39104, where pending calls were lost.
pub(crate) fn shutdown_without_waiting_returns_and_calls_go_on(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let running = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    let queued: Vec<_> = (0..10).map(|n| submit(&pool, same, n)).collect();
    pool.shutdown(NO_WAIT);
    assert!(!running.done() && matches!(pool.submit(same, 1), Err(SubmitError::ShutDown)));
    visitor.pass();
    for (n, handle) in (0..).zip(queued) {
        assert_eq!(handle.result().expect("a result"), n);
    }
    running.result().expect("a result");
}

pub(crate) fn four_threads_shut_down_at_once(subject: &Subject) {
    let (pool, gate) = (subject.pool(2), Gate::new());
    let running = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    let queued: Vec<_> = (0..50).map(|n| submit(&pool, same, n)).collect();
    let barrier = std::sync::Barrier::new(5);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (pool, barrier) = (&pool, &barrier);
            scope.spawn(move || {
                barrier.wait();
                pool.shutdown(Shutdown { wait: number != 3, ..Shutdown::default() });
            });
        }
        barrier.wait();
        visitor.pass();
    });
    assert!(running.done() && queued.iter().all(TaskHandle::done));
    assert!(queued.into_iter().all(|handle| handle.result().is_ok()));
}

/// CPython: `test_shutdown_deadlock`: a crash after the shutdown.
pub(crate) fn a_crash_after_shutdown_costs_one_call(subject: &Subject) {
    let (pool, gate) = (subject.pool(2), Gate::new());
    let running: Vec<_> = (0..2).map(|_| submit(&pool, wait_at, gate.port())).collect();
    let visitors = gate.arrivals(2);
    let queued: Vec<_> = (0..10).map(|n| submit(&pool, same, n)).collect();
    let fatal = submit(&pool, exit, 3);
    let after: Vec<_> = (0..10).map(|n| submit(&pool, same, n)).collect();
    pool.shutdown(NO_WAIT);
    drop(visitors);
    assert_eq!(lost(fatal.result()).exit, Exit::Code(3));
    assert!(running.into_iter().all(|handle| handle.result().is_ok()));
    assert!(queued.into_iter().chain(after).all(|handle| handle.result().is_ok()));
}

/// The last worker dies after the shutdown: calls that it did not start get another.
pub(crate) fn what_is_queued_at_a_worker_that_dies_after_shutdown_is_done(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let running = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    let queued: Vec<_> = (0..10).map(|n| submit(&pool, same, n)).collect();
    pool.shutdown(NO_WAIT);
    kill(visitor.pid);
    assert_eq!(lost(running.result()).exit, KILLED_FROM_OUTSIDE);
    assert!(queued.into_iter().all(|handle| handle.result().is_ok()));
}

/// CPython: `test_shutdown_deadlock_pickle`.
pub(crate) fn a_refused_argument_does_not_hold_up_a_shutdown(subject: &Subject) {
    let pool = subject.pool(2);
    let before = submit(&pool, same, 1);
    assert!(pool.submit(|_: Whim| (), Whim::when_encoded(Act::Refuse)).is_err());
    pool.shutdown(NO_WAIT);
    assert_eq!(before.result().expect("a result"), 1);
}

/// A pool with two calls that do not end by themselves, and ten behind them.
struct Stuck {
    pool: Executor,
    running: Vec<TaskHandle<()>>,
    visitors: Vec<Visitor>,
    queued: Vec<TaskHandle<u64>>,
}

fn stuck(subject: &Subject) -> Stuck {
    let (pool, gate) = (subject.pool(2), Gate::new());
    let running = (0..2).map(|_| submit(&pool, wait_at, gate.port())).collect();
    let visitors = gate.arrivals(2);
    let queued = (0..10).map(|n| submit(&pool, same, n)).collect();
    Stuck { pool, running, visitors, queued }
}

/// CPython: `test_kill_workers`, `test_force_shutdown_workers`, `..._stops_pool`.
pub(crate) fn kill_workers_ends_what_runs_and_cancels_the_rest(subject: &Subject) {
    let Stuck { pool, running, visitors, queued } = stuck(subject);
    pool.kill_workers();
    for handle in running {
        let lost = lost(handle.result());
        assert!(visitors.iter().any(|visitor| Some(visitor.pid) == lost.pid));
        if cfg!(unix) {
            assert_eq!(lost.exit, Exit::KILLED);
        }
    }
    assert!(queued.into_iter().all(|handle| matches!(handle.result(), Err(TaskError::Cancelled))));
    assert!(matches!(pool.submit(same, 1), Err(SubmitError::ShutDown)));
    pool.kill_workers();
    pool.shutdown(Shutdown::default());
    assert_eq!(pool.workers(), 0);
}

/// CPython: `test_terminate_workers`.
pub(crate) fn terminate_workers_ends_what_runs_and_cancels_the_rest(subject: &Subject) {
    let Stuck { pool, running, visitors: _visitors, queued } = stuck(subject);
    pool.terminate_workers();
    for handle in running {
        let lost = lost(handle.result());
        if cfg!(unix) {
            assert_eq!(lost.exit, Exit::Signal(15));
        }
    }
    assert!(queued.into_iter().all(|handle| matches!(handle.result(), Err(TaskError::Cancelled))));
    assert!(matches!(pool.submit(same, 1), Err(SubmitError::ShutDown)));
}

/// CPython: `test_force_shutdown_workers_not_started_yet`, `..._dead_workers`.
pub(crate) fn force_on_a_pool_without_live_workers_is_no_error(subject: &Subject) {
    let fresh = subject.pool(2);
    fresh.kill_workers();
    assert!(matches!(fresh.submit(same, 1), Err(SubmitError::ShutDown)));
    let ended = subject.pool(1);
    run(&ended, same, 1);
    ended.shutdown(Shutdown::default());
    ended.kill_workers();
    ended.terminate_workers();
    let builder = subject.builder().max_workers(1).on_worker_loss(process_pool::OnWorkerLoss::Break);
    let broken = builder.build().expect("a pool");
    assert!(submit(&broken, exit, 1).result().is_err());
    broken.terminate_workers();
    broken.kill_workers();
    assert!(matches!(broken.submit(same, 1), Err(SubmitError::Broken(_))));
}

/// Force while workers are still being started.
pub(crate) fn force_during_the_start_leaves_nothing(subject: &Subject) {
    for n in 0..20 {
        let pool = subject.pool(3);
        let handles: Vec<_> = (0..6).map(|n| submit(&pool, same, n)).collect();
        if n % 2 == 0 {
            pool.kill_workers()
        } else {
            pool.terminate_workers()
        }
        pool.shutdown(Shutdown::default());
        for handle in handles {
            let result = handle.result();
            assert!(matches!(result, Ok(_) | Err(TaskError::Cancelled | TaskError::WorkerLost(_))), "{result:?}");
        }
    }
}

/// Force after a shutdown that waits for a call without end.
pub(crate) fn force_ends_a_shutdown_that_waits(subject: &Subject) {
    let Stuck { pool, running, visitors: _visitors, queued: _queued } = stuck(subject);
    let (sender, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pool.shutdown(Shutdown::default());
            sender.send(()).expect("the case listens");
        });
        eventually("the shutdown has begun", || pool.submit(same, 1).is_err());
        assert!(ended.recv_timeout(Duration::from_millis(20)).is_err());
        pool.kill_workers();
        assert_eq!(ended.recv_timeout(PATIENCE), Ok(()));
    });
    assert!(running.into_iter().all(|handle| handle.result().is_err()));
}

/// CPython: `test_max_tasks_early_shutdown`.
pub(crate) fn shutdown_finishes_while_workers_are_replaced(subject: &Subject) {
    let pool = subject.builder().max_workers(3).max_tasks_per_child(1).build().expect("a pool");
    let handles: Vec<_> = (0..6).map(|n| submit(&pool, same, n)).collect();
    pool.shutdown(Shutdown::default());
    assert!((0..).zip(handles).all(|(n, handle)| handle.result().is_ok_and(|result| result == n)));
}

/// CPython: `test_shutdown_no_wait_max_tasks_gh119592`, `test_gc_during_max_tasks_worker_exit_gh152967`.
pub(crate) fn shutdown_without_waiting_still_replaces_workers(subject: &Subject) {
    for drop_it in [false, true] {
        let (pool, gate) =
            (subject.builder().max_workers(1).max_tasks_per_child(2).build().expect("a pool"), Gate::new());
        let first = submit(&pool, wait_at, gate.port());
        let visitor = gate.arrival();
        let rest: Vec<_> = (0..5).map(|_| submit(&pool, pid, ())).collect();
        pool.shutdown(NO_WAIT);
        visitor.pass();
        if drop_it {
            drop(pool);
        }
        first.result().expect("a result");
        let pids: Vec<_> = rest.into_iter().map(|handle| handle.result().expect("a result")).collect();
        assert!(pids[0] != pids[1] && pids[1] == pids[2] && pids[2] != pids[3] && pids[3] == pids[4], "{pids:?}");
    }
}

/// CPython: `test_force_shutdown_during_max_tasks_worker_exit`.
pub(crate) fn force_while_workers_are_replaced_leaves_nothing(subject: &Subject) {
    for _ in 0..10 {
        let pool = subject.builder().max_workers(2).max_tasks_per_child(1).build().expect("a pool");
        let handles: Vec<_> = (0..20).map(|n| submit(&pool, same, n)).collect();
        handles[1].wait();
        pool.kill_workers();
        assert!(handles.into_iter().all(|handle| !matches!(handle.result(), Err(TaskError::Broken(_)))));
    }
}
