//! Calls with a key: those with the same one are for the same worker, one after the other.

use std::collections::{BTreeMap, BTreeSet};

use process_pool::{CallOptions, Executor, TaskError, TaskHandle, With};
use xtests::calls::{pid, run, same, submit};
use xtests::gate::{Gate, wait_at};
use xtests::processes::eventually;
use xtests::random::Random;
use xtests::runner::Subject;

use crate::tools::{all_there, file, kill, kill_if_there, leave_trace, traces};

/// An executor for calls with this key.
fn tied(pool: &Executor, key: u64) -> With<'_> {
    pool.with(CallOptions::new().sticky(key))
}

fn home(pool: &Executor, key: u64) -> u32 {
    tied(pool, key).submit(pid, ()).expect("accepted").result().expect("it runs")
}

/// For calls: leaves a trace, and tells where.
fn trace_here(argument: (String, u64)) -> u32 {
    leave_trace(argument);
    std::process::id()
}

/// For calls: arrives at the gate, then tells where.
fn wait_here(port: u16) -> u32 {
    wait_at(port);
    std::process::id()
}

pub(crate) fn calls_of_one_key_run_at_one_worker_in_order(subject: &Subject) {
    let (pool, path) = (subject.pool(3), file(&subject.dir));
    let mut handles = Vec::new();
    for n in 0..120 {
        let key = n % 5;
        handles.push((key, tied(&pool, key).submit(trace_here, (path.clone(), n)).expect("accepted")));
        drop(submit(&pool, same, n));
    }
    let mut homes: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    for (key, handle) in handles {
        homes.entry(key).or_default().insert(handle.result().expect("it runs"));
    }
    assert!(homes.values().all(|pids| pids.len() == 1), "{homes:?}");
    let traces = traces(&path);
    for key in 0..5 {
        let of_key: Vec<_> = traces.iter().copied().filter(|n| n % 5 == key).collect();
        assert!(of_key.len() == 24 && of_key.is_sorted(), "{of_key:?}");
    }
}

/// Any value that can be hashed is a key, and means the same each time.
pub(crate) fn a_new_key_gets_a_worker_without_keys(subject: &Subject) {
    let pool = subject.pool(3);
    let home = |key: &str| {
        let options = CallOptions::new().sticky(("user", key));
        pool.with(options).submit(pid, ()).expect("accepted").result().expect("it runs")
    };
    let first: Vec<_> = ["ann", "ben", "cem"].map(home).into();
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3, "one is started for each: {first:?}");
    assert_eq!(["ann", "ben", "cem"].map(home), first[..]);
    assert!(first.contains(&home("dag")));
    assert_eq!(home("dag"), home("dag"));
}

pub(crate) fn a_call_with_a_key_waits_for_its_worker(subject: &Subject) {
    let (pool, gate) = (subject.pool(2), Gate::new());
    all_there(&pool);
    let busy = tied(&pool, 1).submit(wait_here, gate.port()).expect("accepted");
    let visitor = gate.arrival();
    let waiting: Vec<_> = (0..5).map(|_| tied(&pool, 1).submit(pid, ()).expect("accepted")).collect();
    for n in 0..50 {
        assert_ne!(run(&pool, pid, ()), visitor.pid, "the other one is free, {n}");
    }
    assert!(waiting.iter().all(|handle| !handle.done()));
    assert!(waiting[2].cancel(), "it has not started");
    let there = visitor.pid;
    visitor.pass();
    assert_eq!(busy.result().expect("it is let through"), there);
    for (n, handle) in waiting.into_iter().enumerate() {
        match handle.result() {
            Ok(pid) => assert_eq!(pid, there),
            Err(error) => assert!(n == 2 && matches!(error, TaskError::Cancelled), "{error:?}"),
        }
    }
}

pub(crate) fn the_calls_of_a_worker_that_dies_move_in_order(subject: &Subject) {
    let (pool, gate, path) = (subject.pool(2), Gate::new(), file(&subject.dir));
    all_there(&pool);
    let lost = tied(&pool, 1).submit(wait_here, gate.port()).expect("accepted");
    let visitor = gate.arrival();
    let trace = |n| tied(&pool, 1).submit(trace_here, (path.clone(), n)).expect("accepted");
    let handles: Vec<_> = (0..30).map(trace).collect();
    kill(visitor.pid);
    assert!(matches!(lost.result(), Err(TaskError::WorkerLost(_))));
    let pids: BTreeSet<_> =
        handles.into_iter().map(|handle| handle.result().expect("it had not started")).collect();
    assert!(pids.len() == 1 && !pids.contains(&visitor.pid), "{pids:?}");
    assert_eq!(traces(&path), (0..30).collect::<Vec<_>>());
    assert!(pids.contains(&home(&pool, 1)), "it stays there");
}

pub(crate) fn the_calls_of_a_worker_that_is_replaced_move_in_order(subject: &Subject) {
    let pool = subject.builder().max_workers(2).max_tasks_per_child(3).build().expect("a pool");
    let path = file(&subject.dir);
    let trace = |n| tied(&pool, 1).submit(trace_here, (path.clone(), n)).expect("accepted");
    let handles: Vec<_> = (0..10).map(trace).collect();
    let pids: Vec<_> = handles.into_iter().map(|handle| handle.result().expect("it runs")).collect();
    assert_eq!(traces(&path), (0..10).collect::<Vec<_>>());
    assert!(pids.chunks(3).all(|pids| pids.iter().all(|pid| *pid == pids[0])), "{pids:?}");
    assert_eq!(pids.iter().collect::<BTreeSet<_>>().len(), 4);
}

pub(crate) fn keys_move_when_their_worker_is_one_too_many(subject: &Subject) {
    let (pool, gate, path) = (subject.pool(3), Gate::new(), file(&subject.dir));
    all_there(&pool);
    let busy: Vec<_> =
        (0..3).map(|key| tied(&pool, key).submit(wait_here, gate.port()).expect("accepted")).collect();
    let visitors = gate.arrivals(3);
    let trace = |n| tied(&pool, n % 3).submit(trace_here, (path.clone(), n)).expect("accepted");
    let handles: Vec<_> = (0..30).map(trace).collect();
    pool.resize(1).expect("a size");
    drop(visitors);
    assert!(busy.into_iter().map(TaskHandle::result).all(|result| result.is_ok()));
    assert!(handles.into_iter().map(TaskHandle::result).all(|result| result.is_ok()));
    let traces = traces(&path);
    for key in 0..3 {
        let of_key: Vec<_> = traces.iter().copied().filter(|n| n % 3 == key).collect();
        assert!(of_key.len() == 10 && of_key.is_sorted(), "{of_key:?}");
    }
    eventually("one is left", || pool.worker_pids().len() == 1);
    assert_eq!(home(&pool, 0), home(&pool, 1));
}

/// Whatever is killed, and whenever: what is done of a key was done in order, and nothing else is lost.
pub(crate) fn the_order_of_a_key_survives_random_deaths(subject: &Subject) {
    let (pool, path, mut random) = (subject.pool(3), file(&subject.dir), Random::new(11));
    let mut handles = Vec::new();
    let mut kills = 0;
    for n in 0..300 {
        let key = random.below(4);
        handles.push((key, n, tied(&pool, key).submit(leave_trace, (path.clone(), n)).expect("accepted")));
        if n % 25 == 24 {
            let pids = pool.worker_pids();
            kills += usize::from(pids.first().is_some_and(|pid| kill_if_there(*pid)));
        }
    }
    let mut lost = 0;
    let keys: BTreeMap<u64, u64> = handles.iter().map(|(key, n, _)| (*n, *key)).collect();
    for (_, n, handle) in handles {
        match handle.result() {
            Ok(result) => assert_eq!(result, n),
            Err(TaskError::WorkerLost(_)) => lost += 1,
            Err(error) => panic!("{n}: {error:?}"),
        }
    }
    assert!(lost <= kills, "{lost} calls were lost with {kills} workers");
    let traces = traces(&path);
    for key in 0..4 {
        let of_key: Vec<_> = traces.iter().copied().filter(|n| keys[n] == key).collect();
        assert!(of_key.is_sorted(), "{of_key:?}");
    }
}
