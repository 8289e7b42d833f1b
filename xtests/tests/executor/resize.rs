//! Pools that get another size while they work.

use process_pool::{ResizeError, Shutdown, TaskHandle};
use xtests::calls::{run, same, submit};
use xtests::gate::{Gate, wait_at};
use xtests::processes::eventually;
use xtests::random::Random;
use xtests::runner::Subject;

use crate::tools::{all_there, file, leave_trace, traces};

fn all_end(handles: Vec<TaskHandle<()>>) {
    for handle in handles {
        handle.result().expect("it is let through");
    }
}

/// D50.
pub(crate) fn a_pool_that_grows_starts_workers_for_the_calls_that_wait(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let handles: Vec<_> = (0..3).map(|_| submit(&pool, wait_at, gate.port())).collect();
    let first = gate.arrival();
    pool.resize(8).expect("a size");
    let others = gate.arrivals(2);
    assert_eq!((pool.max_workers(), pool.workers()), (8, 3), "more are not wanted");
    drop((first, others));
    all_end(handles);
    assert_eq!(all_there(&pool).len(), 8);
}

pub(crate) fn a_pool_that_shrinks_ends_idle_workers_and_no_call(subject: &Subject) {
    let (pool, gate) = (subject.pool(4), Gate::new());
    let all = all_there(&pool);
    let handles: Vec<_> = (0..2).map(|_| submit(&pool, wait_at, gate.port())).collect();
    let visitors = gate.arrivals(2);
    pool.resize(1).expect("a size");
    assert_eq!(pool.max_workers(), 1);
    eventually("the idle ones have left", || pool.worker_pids().len() == 2);
    let left = pool.worker_pids();
    assert!(visitors.iter().all(|visitor| left.contains(&visitor.pid)), "{left:?}");
    drop(visitors);
    all_end(handles);
    eventually("the other one has left", || pool.worker_pids().len() == 1);
    assert_eq!(run(&pool, same, 7), 7);
    pool.resize(4).expect("a size");
    let now = all_there(&pool);
    assert_eq!(now.iter().filter(|pid| all.contains(pid)).count(), 1, "{all:?} and {now:?}");
}

/// Nothing waits for a worker that was called off.
pub(crate) fn a_pool_that_shrinks_while_it_starts_does_its_calls(subject: &Subject) {
    let (pool, gate) = (subject.pool(6), Gate::new());
    let handles: Vec<_> = (0..6).map(|_| submit(&pool, wait_at, gate.port())).collect();
    pool.resize(1).expect("a size");
    for _ in 0..6 {
        gate.arrival().pass();
    }
    all_end(handles);
    eventually("one worker is left", || pool.worker_pids().len() == 1);
}

pub(crate) fn a_pool_cannot_be_without_workers(subject: &Subject) {
    let pool = subject.pool(2);
    let error = pool.resize(0).expect_err("nobody would do its calls");
    assert_eq!((error, error.to_string().as_str()), (ResizeError::Zero, "max_workers must be at least 1"));
    assert_eq!(pool.max_workers(), 2);
    pool.shutdown(Shutdown::default());
    pool.resize(3).expect("it makes no difference");
    assert_eq!(pool.workers(), 0);
}

pub(crate) fn random_sizes_lose_no_call_and_run_none_twice(subject: &Subject) {
    let (pool, path, mut random) = (subject.pool(2), file(&subject.dir), Random::new(7));
    let mut handles = Vec::new();
    for n in 0..600 {
        handles.push(submit(&pool, leave_trace, (path.clone(), n)));
        if n % 20 == 0 {
            pool.resize(1 + random.below(5) as usize).expect("a size");
        }
    }
    for (n, handle) in (0..).zip(handles) {
        assert_eq!(handle.result().expect("no call is lost"), n);
    }
    pool.resize(2).expect("a size");
    eventually("those too many have left", || pool.worker_pids().len() <= 2);
    let mut ran = traces(&path);
    ran.sort_unstable();
    assert_eq!(ran, (0..600).collect::<Vec<_>>());
}
