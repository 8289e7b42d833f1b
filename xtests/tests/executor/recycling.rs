//! Workers that are let go while the pool lives, and those that come after them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use process_pool::{BuildError, Builder, Executor, TaskHandle};
use xtests::calls::{pid, run, same, submit};
use xtests::gate::{Gate, wait_at};
use xtests::processes::{eventually, is_there};
use xtests::runner::{Subject, skip};

use crate::tools::all_there;

const MIB: u64 = 1 << 20;

/// For calls: memory that is never given back.
fn hoard(bytes: u64) -> u32 {
    let hoarded = vec![1u8; usize::try_from(bytes).expect("it fits")];
    std::hint::black_box(hoarded.leak());
    std::process::id()
}

fn limited(builder: Builder) -> Executor {
    match builder.max_memory_per_child(160 * MIB).build() {
        Ok(pool) => pool,
        Err(BuildError::Unsupported(what)) => skip(&format!("{what}: the system does not tell")),
        Err(error) => panic!("{error}"),
    }
}

/// Its last call has its result.
pub(crate) fn a_worker_that_has_grown_too_large_is_replaced(subject: &Subject) {
    let pool = limited(subject.builder().max_workers(1));
    let first = run(&pool, hoard, 8 * MIB);
    assert_eq!(run(&pool, hoard, 8 * MIB), first, "it is not that large yet");
    assert_eq!(run(&pool, hoard, 192 * MIB), first);
    let second = run(&pool, pid, ());
    assert_ne!(second, first);
    eventually("the first has left", || !is_there(first));
    assert_eq!(run(&pool, pid, ()), second);
}

/// Some that were sent ahead may be quicker than the order to give them back; nothing is lost.
pub(crate) fn calls_behind_one_that_hoards_are_done(subject: &Subject) {
    let pool = limited(subject.builder().max_workers(2));
    let handles: Vec<_> = (0..60).map(|n| submit(&pool, hoard, if n % 12 == 5 { 192 * MIB } else { 1 })).collect();
    let pids: Vec<_> = handles.into_iter().map(|handle| handle.result().expect("a result")).collect();
    let hoarders: BTreeSet<_> = pids.iter().skip(5).step_by(12).collect();
    eventually("those that hoard have left", || hoarders.iter().all(|pid| !is_there(**pid)));
}

pub(crate) fn idle_workers_are_let_go_down_to_a_floor(subject: &Subject) {
    for floor in [0, 1] {
        let builder = subject.builder().max_workers(3).idle_timeout(Duration::from_millis(40)).min_workers(floor);
        let pool = builder.build().expect("a pool");
        let pids = all_there(&pool);
        eventually("the others have left", || pool.workers() == floor);
        // Elsewhere nobody is asked for by a number.
        let there = || pids.iter().filter(|pid| is_there(**pid)).count();
        eventually("they have ended", || !cfg!(unix) || there() == floor);
        assert_eq!(pids.contains(&run(&pool, pid, ())), floor == 1);
        // They come back as they are needed.
        all_there(&pool);
    }
}

/// A worker that is at a call, however long, is not idle.
pub(crate) fn a_busy_worker_is_not_let_go(subject: &Subject) {
    let builder = subject.builder().max_workers(2).idle_timeout(Duration::from_millis(20));
    let (pool, gate) = (builder.build().expect("a pool"), Gate::new());
    all_there(&pool);
    let handle = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    eventually("the other has left", || pool.worker_pids() == [visitor.pid]);
    visitor.pass();
    handle.result().expect("a result");
    eventually("it has left too", || pool.workers() == 0);
}

pub(crate) fn a_successor_is_there_before_the_last_call_is_done(subject: &Subject) {
    let builder = subject.builder().max_workers(1).max_tasks_per_child(1);
    let (pool, gate) = (builder.build().expect("a pool"), Gate::new());
    let handles = [(); 2].map(|()| submit(&pool, wait_at, gate.port()));
    let first = gate.arrival();
    eventually("its successor is there", || pool.worker_pids().len() == 2);
    let there = pool.worker_pids();
    assert_eq!(pool.workers(), 1, "it is at no call");
    assert!(gate.arrival_within(Duration::from_millis(30)).is_none(), "nor gets one, while there is no place");
    first.pass();
    let second = gate.arrival();
    assert!(there.contains(&second.pid));
    second.pass();
    assert!(handles.into_iter().all(|handle| handle.result().is_ok()));
}

pub(crate) fn no_worker_runs_more_calls_than_it_may(subject: &Subject) {
    let pool = subject.builder().max_workers(2).max_tasks_per_child(3).build().expect("a pool");
    // Not the process's number, which another may have soon.
    let worker = |()| process_pool::task::worker_id().expect("a worker has one").0;
    let handles: Vec<_> = (0..300).map(|_| submit(&pool, worker, ())).collect();
    let mut most = 0;
    while !handles.iter().all(TaskHandle::done) {
        most = most.max(pool.workers());
    }
    assert!(most <= 2, "{most} workers at a time");
    let mut calls = BTreeMap::new();
    for handle in handles {
        *calls.entry(handle.result().expect("a result")).or_insert(0) += 1;
    }
    assert!(calls.values().all(|count| *count <= 3), "{calls:?}");
    assert_eq!(run(&pool, same, 1), 1);
}

/// They have run nothing, and so have nothing to lose.
pub(crate) fn a_shutdown_takes_successors_along(subject: &Subject) {
    let builder = subject.builder().max_workers(2).max_tasks_per_child(1);
    let (pool, gate) = (builder.build().expect("a pool"), Gate::new());
    let handles = [(); 2].map(|()| submit(&pool, wait_at, gate.port()));
    let visitors = gate.arrivals(2);
    eventually("their successors are there", || pool.worker_pids().len() == 4);
    let pids = pool.worker_pids();
    drop(visitors);
    let report = pool.shutdown(process_pool::Shutdown::default());
    assert!(report.complete && report.finished <= 2 && report.lost == 0, "{report:?}");
    assert!(pids.iter().all(|pid| !is_there(*pid)));
    assert!(handles.into_iter().all(|handle| handle.result().is_ok()));
}
