//! Calls that may not take as long as they like, and calls that are killed: each alone.

use std::time::{Duration, Instant};

use process_pool::error::TimeLimit;
use process_pool::{CallOptions, Executor, OnWorkerLoss, TaskError, TaskHandle};
use xtests::calls::{pid, run, same, submit};
use xtests::gate::{Gate, wait_at};
use xtests::random::Random;
use xtests::runner::Subject;

use crate::tools::{all_there, file, leave_trace, traces};

/// Short for people, long for a machine.
const SHORT: Duration = Duration::from_millis(50);

/// For calls: never ends by itself.
fn endless(n: u64) -> u64 {
    loop {
        std::hint::black_box(n);
    }
}

/// For calls: leaves a trace; each fourth goes on for a while, so that there is something to be killed.
fn leave_trace_and_work((path, n): (String, u64)) -> u64 {
    leave_trace((path, n));
    let end = Instant::now() + Duration::from_millis(if n % 4 == 0 { 3 } else { 0 });
    while Instant::now() < end {}
    n
}

fn limited(pool: &Executor) -> TaskHandle<u64> {
    pool.with(CallOptions::new().time_limit(SHORT)).submit(endless, 1).expect("accepted")
}

#[track_caller]
fn timed_out(error: &TaskError) -> &process_pool::error::TimedOut {
    match error {
        TaskError::TimedOut(error) => error,
        other => panic!("{other:?}"),
    }
}

/// D36.
pub(crate) fn a_call_that_runs_for_too_long_is_ended_and_the_limit_named(subject: &Subject) {
    let pool = subject.pool(1);
    let before = run(&pool, pid, ());
    let start = Instant::now();
    let handle = limited(&pool);
    handle.wait();
    assert!(start.elapsed() >= SHORT);
    let error = handle.error().expect("it has failed");
    let timed_out = timed_out(error);
    assert_eq!((timed_out.limit, timed_out.pid), (TimeLimit::Run(SHORT), Some(before)));
    let text = error.to_string();
    assert!(text.contains("endless") && text.contains("time limit of 50ms"), "{text}");
    assert_ne!(run(&pool, pid, ()), before, "another worker has taken its place");
    assert!(pool.broken().is_none());
}

/// D35: CPython's `kill_workers` ends them all.
pub(crate) fn neighbours_do_not_notice_that_a_call_is_ended(subject: &Subject) {
    let pool = subject.pool(2);
    let pids = all_there(&pool);
    let gate = Gate::new();
    let neighbour = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    let handles = [limited(&pool), limited(&pool)];
    let behind: Vec<_> = (0..50).map(|n| submit(&pool, same, n)).collect();
    for handle in handles {
        timed_out(&handle.result().expect_err("it never ends by itself"));
    }
    for (n, handle) in (0..).zip(behind) {
        assert_eq!(handle.result().expect("it ran elsewhere, or later"), n);
    }
    assert!(!neighbour.done());
    assert!(pids.contains(&visitor.pid) && pool.worker_pids().contains(&visitor.pid));
    visitor.pass();
    neighbour.result().expect("it is not touched");
}

pub(crate) fn the_time_that_a_call_waits_is_not_counted(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let limited = pool.with(CallOptions::new().time_limit(Duration::from_secs(20)));
    let handles: Vec<_> = (0..3).map(|_| limited.submit(wait_at, gate.port()).expect("accepted")).collect();
    for handle in handles {
        drop(gate.arrival());
        handle.result().expect("it is in time");
    }
}

pub(crate) fn a_call_that_waits_for_too_long_never_runs(subject: &Subject) {
    let (pool, gate, path) = (subject.pool(1), Gate::new(), file(&subject.dir));
    let long = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    // The second of them is beyond the reach of some transports' `cancel` by now, and is next.
    let limited = pool.with(CallOptions::new().total_limit(SHORT));
    let handles: Vec<_> =
        (0..5).map(|n| limited.submit(leave_trace, (path.clone(), n)).expect("accepted")).collect();
    let is_in_reach = subject.caps().revocable.is_some();
    for (n, handle) in handles.iter().enumerate() {
        if is_in_reach || n > 1 {
            let error = handle.result_timeout(xtests::gate::PATIENCE).expect("it ends").expect_err("it waits");
            let error = timed_out(&error);
            assert_eq!((error.limit, error.worker), (TimeLimit::Total(SHORT), None));
        }
    }
    assert!(!long.done());
    visitor.pass();
    long.result().expect("it is not touched");
    let late =
        handles.into_iter().filter(|handle| handle.result_timeout(xtests::gate::PATIENCE).is_none()).count();
    assert_eq!(late, 0);
    drop(pool);
    assert!(traces(&path).iter().all(|n| *n < 2 && !is_in_reach), "{:?}", traces(&path));
}

pub(crate) fn a_call_that_runs_past_its_total_limit_is_ended(subject: &Subject) {
    let pool = subject.pool(1);
    let handle: TaskHandle<u64> =
        pool.with(CallOptions::new().total_limit(SHORT)).submit(endless, 1).expect("accepted");
    let error = handle.result().expect_err("it never ends by itself");
    assert_eq!(timed_out(&error).limit, TimeLimit::Total(SHORT));
    assert_eq!(run(&pool, same, 7), 7);
}

pub(crate) fn a_pool_has_limits_for_calls_that_have_none(subject: &Subject) {
    // Enough for a call that ends, on a busy machine too.
    let limit = Duration::from_millis(600);
    let options = CallOptions::new().time_limit(limit);
    let pool = subject.builder().max_workers(1).call_options(options).build().expect("a pool");
    timed_out(&submit(&pool, endless, 1).result().expect_err("it never ends by itself"));
    let results: Vec<_> = pool.map(|n: u64| if n == 3 { endless(n) } else { n }, 0..6).chunksize(1).collect();
    for (n, result) in (0..).zip(results) {
        match result {
            Ok(result) => assert_eq!((result, n != 3), (n, true)),
            Err(error) => assert_eq!((timed_out(&error).limit, n), (TimeLimit::Run(limit), 3)),
        }
    }
    let gate = Gate::new();
    let patient = pool.with(CallOptions::new().time_limit(Duration::from_secs(60)));
    let handle = patient.submit(wait_at, gate.port()).expect("accepted");
    let visitor = gate.arrival();
    assert!(handle.result_timeout(limit * 2).is_none(), "its own limit counts");
    visitor.pass();
    handle.result().expect("it is in time");
}

/// D35.
pub(crate) fn a_call_is_killed_wherever_it_is(subject: &Subject) {
    let (pool, gate, path) = (subject.pool(1), Gate::new(), file(&subject.dir));
    let running = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    let behind: Vec<_> = (0..10).map(|n| submit(&pool, leave_trace, (path.clone(), n))).collect();
    assert!(behind[5].kill());
    assert!(running.kill());
    running.wait();
    match running.error() {
        Some(TaskError::Killed(killed)) => assert_eq!(killed.pid, Some(visitor.pid)),
        other => panic!("{other:?}"),
    }
    assert!(!running.kill(), "it is settled");
    let results: Vec<_> = behind.into_iter().map(TaskHandle::result).collect();
    for (n, result) in (0..).zip(results) {
        match result {
            Ok(result) => assert_eq!((result, n != 5), (n, true)),
            Err(error) => {
                assert!(n == 5 && matches!(error, TaskError::Cancelled | TaskError::Killed(_)), "{n}: {error:?}");
            }
        }
    }
    assert!(!traces(&path).contains(&5) || subject.caps().revocable.is_none());
    assert_ne!(run(&pool, pid, ()), visitor.pid);
}

/// One that was killed by its pool is not lost.
pub(crate) fn a_killed_call_breaks_no_pool(subject: &Subject) {
    let builder = subject.builder().max_workers(1).on_worker_loss(OnWorkerLoss::Break);
    let (pool, gate) = (builder.build().expect("a pool"), Gate::new());
    for _ in 0..8 {
        let handle = submit(&pool, wait_at, gate.port());
        let _visitor = gate.arrival();
        handle.kill();
        assert!(matches!(handle.result(), Err(TaskError::Killed(_))));
    }
    assert_eq!(run(&pool, same, 7), 7);
}

/// Whatever is killed, and whenever, ends or is done; what is not killed runs, once.
pub(crate) fn random_kills_cost_no_other_call(subject: &Subject) {
    let (pool, path, mut random) = (subject.pool(3), file(&subject.dir), Random::new(5));
    let is_exact = subject.caps().revocable.is_some();
    let mut handles: Vec<TaskHandle<u64>> = Vec::new();
    let mut killed = Vec::new();
    for n in 0..400 {
        handles.push(submit(&pool, leave_trace_and_work, (path.clone(), n)));
        if random.below(4) == 0 {
            // So that among the newest there are calls which wait, which run, and which are done.
            if let Some(older) = handles.len().checked_sub(6) {
                handles[older].wait();
            }
            let back = (random.below(8) as usize).min(handles.len() - 1);
            let nth = handles.len() - 1 - back;
            if handles[nth].kill() {
                killed.push(nth);
            }
        }
    }
    let (mut running, mut waiting, mut lost) = (0, 0, 0);
    for (n, handle) in handles.into_iter().enumerate() {
        match handle.result() {
            Ok(result) => assert_eq!(result, n as u64),
            Err(error @ (TaskError::Killed(_) | TaskError::Cancelled)) => {
                assert!(killed.contains(&n), "{n} is ended, and nobody wanted that");
                match error {
                    TaskError::Killed(_) => running += 1,
                    _ => waiting += 1,
                }
            }
            Err(TaskError::WorkerLost(_)) if !is_exact => lost += 1,
            Err(error) => panic!("{n}: {error:?}"),
        }
    }
    drop(pool);
    let mut ran = traces(&path);
    ran.sort_unstable();
    let times = ran.len();
    ran.dedup();
    assert_eq!(ran.len(), times, "no call ran twice");
    println!("of {} killed {running} ran, {waiting} waited; {lost} neighbours lost, {times} ran", killed.len());
    assert!(running > 0 && waiting > 0, "the case decides something");
}
