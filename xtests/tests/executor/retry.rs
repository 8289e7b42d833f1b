//! Calls that are made again when they fail.

use std::time::{Duration, Instant};

use process_pool::{Bytes, CallOptions, Executor, Retry, Shutdown, TaskError, With};
use xtests::calls::{lost, run, same};
use xtests::gate::{Gate, wait_at};
use xtests::processes::eventually;
use xtests::runner::Subject;

use crate::tools::{file, kill, leave_trace, traces};

/// Hardly any rest, since cases wait for it.
fn quickly(times: u32) -> Retry {
    Retry::new(times).rests(Duration::from_millis(1), Duration::from_millis(1))
}

fn with(pool: &Executor, retry: Retry) -> With<'_> {
    pool.with(CallOptions::new().retry(retry))
}

/// For calls: which attempt this is, by the traces of those before.
fn attempt(path: &str) -> u32 {
    leave_trace((path.to_owned(), 1));
    traces(path).len() as u32
}

/// For calls: ends its worker until the attempt that is to be the last.
fn exit_until((path, last): (String, u32)) -> u32 {
    let attempt = attempt(&path);
    if attempt < last {
        std::process::exit(9);
    }
    attempt
}

/// For calls: the same by a panic.
fn panic_until((path, last): (String, u32)) -> u32 {
    let attempt = attempt(&path);
    assert!(attempt >= last, "not yet");
    attempt
}

/// For calls: the same by an error of its own.
fn fail_until((path, last): (String, u32)) -> Result<u32, String> {
    let attempt = attempt(&path);
    if attempt < last { Err("not yet".to_owned()) } else { Ok(attempt) }
}

/// For calls: does not end until the attempt that is to be the last.
fn hang_until((path, last): (String, u32)) -> u32 {
    let attempt = attempt(&path);
    loop {
        if attempt >= last {
            return attempt;
        }
        std::hint::spin_loop();
    }
}

/// For calls: what came, if it is the last attempt.
fn echo_at_last((path, last, blob): (String, u32, Bytes)) -> Bytes {
    exit_until((path, last));
    blob
}

/// D9: no other pool makes a call again whose worker has died.
pub(crate) fn a_lost_call_is_made_again(subject: &Subject) {
    let (pool, path) = (subject.pool(2), file(&subject.dir));
    let handle = with(&pool, quickly(5)).submit(exit_until, (path.clone(), 3)).expect("accepted");
    assert_eq!(handle.result().expect("the third attempt has a result"), 3);
    assert_eq!(traces(&path).len(), 3);
    assert_eq!(run(&pool, same, 7), 7);
}

pub(crate) fn a_call_without_a_policy_runs_once(subject: &Subject) {
    let (pool, path) = (subject.pool(2), file(&subject.dir));
    let error = lost(pool.submit(exit_until, (path.clone(), 2)).expect("accepted").result());
    assert_eq!((error.workers, traces(&path).len()), (1, 1));
}

pub(crate) fn a_call_that_ends_all_its_workers_is_given_up(subject: &Subject) {
    let (pool, path) = (subject.pool(2), file(&subject.dir));
    let policy = quickly(100).losses_max(2);
    let handle = with(&pool, policy).submit(exit_until, (path.clone(), u32::MAX)).expect("accepted");
    let neighbours: Vec<_> = (0..50).map(|n| pool.submit(same, n).expect("accepted")).collect();
    let error = lost(handle.result());
    assert_eq!((error.workers, traces(&path).len()), (2, 2));
    assert!(error.to_string().contains("the last of 2 that were lost with it"), "{error}");
    for (n, handle) in (0..).zip(neighbours) {
        assert_eq!(handle.result().expect("it is not touched"), n);
    }
    assert!(pool.broken().is_none());
}

pub(crate) fn a_call_is_made_again_for_the_errors_that_its_policy_names(subject: &Subject) {
    let (pool, path) = (subject.pool(1), file(&subject.dir));
    let panics = quickly(3).on_error(|error| matches!(error, TaskError::Panicked(_)));
    let handle = with(&pool, panics.clone()).submit(panic_until, (path.clone(), 2)).expect("accepted");
    assert_eq!(handle.result().expect("the second attempt has a result"), 2);
    // Four in all, and the last one's error is the call's.
    let handle = with(&pool, panics).submit(panic_until, (path.clone(), u32::MAX)).expect("accepted");
    assert!(matches!(handle.result(), Err(TaskError::Panicked(_))));
    assert_eq!(traces(&path).len(), 2 + 4);
    let other = quickly(3).on_error(|error| matches!(error, TaskError::Codec(_)));
    let handle = with(&pool, other).submit(panic_until, (path.clone(), u32::MAX)).expect("accepted");
    assert!(matches!(handle.result(), Err(TaskError::Panicked(_))));
    assert_eq!(traces(&path).len(), 2 + 4 + 1, "it is not one of those");
}

pub(crate) fn a_call_is_made_again_for_the_results_that_will_not_do(subject: &Subject) {
    let (pool, path) = (subject.pool(1), file(&subject.dir));
    let policy = quickly(5).on_result(|result: &Result<u32, String>| result.is_err());
    let handle = with(&pool, policy.clone()).submit(fail_until, (path.clone(), 3)).expect("accepted");
    assert_eq!(handle.result().expect("it has not died"), Ok(3));
    // Of another type.
    let handle = with(&pool, policy).submit(panic_until, (path.clone(), 0)).expect("accepted");
    assert_eq!(handle.result().expect("a result"), 4);
    let panics = quickly(5).on_result(|_: &u32| panic!("in a policy"));
    let handle = with(&pool, panics).submit(panic_until, (path.clone(), 0)).expect("accepted");
    assert_eq!(handle.result().expect("a result"), 5, "a policy that panics says no");
}

pub(crate) fn a_call_that_runs_for_too_long_is_made_again_if_asked_for(subject: &Subject) {
    let (pool, path) = (subject.pool(1), file(&subject.dir));
    let limit = CallOptions::new().time_limit(Duration::from_millis(300));
    let patient = pool.with(limit.clone().retry(quickly(5).on_time_limit()));
    let handle = patient.submit(hang_until, (path.clone(), 2)).expect("accepted");
    assert_eq!(handle.result().expect("the second attempt ends"), 2);
    let handle =
        pool.with(limit.retry(quickly(5))).submit(hang_until, (path.clone(), u32::MAX)).expect("accepted");
    assert!(matches!(handle.result(), Err(TaskError::TimedOut(_))));
    assert_eq!(traces(&path).len(), 3);
}

/// The argument is kept until the call is settled.
pub(crate) fn a_large_argument_is_there_for_the_next_attempt(subject: &Subject) {
    let (pool, path) = (subject.pool(1), file(&subject.dir));
    let blob = Bytes::from(vec![7; 3 << 20]);
    let handle = with(&pool, quickly(5)).submit(echo_at_last, (path, 2, blob.clone())).expect("accepted");
    assert!(handle.result().expect("the second attempt has a result") == blob);
}

pub(crate) fn a_call_that_rests_can_be_cancelled(subject: &Subject) {
    let (pool, path) = (subject.pool(1), file(&subject.dir));
    let hour = Duration::from_secs(3600);
    let policy = Retry::new(5).rests(hour, hour);
    let handle = with(&pool, policy.clone()).submit(exit_until, (path.clone(), u32::MAX)).expect("accepted");
    eventually("it has failed once", || traces(&path).len() == 1 && !handle.running());
    eventually("it rests", || pool.pending() == 1 && handle.cancel());
    assert!(matches!(handle.result(), Err(TaskError::Cancelled)));
    // One that rests keeps the pool; cancelling what has not started lets it go.
    let handle = with(&pool, policy).submit(exit_until, (path.clone(), u32::MAX)).expect("accepted");
    eventually("it has failed once", || traces(&path).len() == 2 && !handle.running());
    let start = Instant::now();
    pool.shutdown(Shutdown { cancel_futures: true, ..Shutdown::default() });
    assert!(start.elapsed() < hour);
    // In the moment it fails it may be lost instead.
    assert!(handle.result().is_err());
    assert_eq!(traces(&path).len(), 2);
}

pub(crate) fn a_pool_may_have_a_policy_for_all_its_calls(subject: &Subject) {
    let path = file(&subject.dir);
    let options = CallOptions::new().retry(quickly(5));
    let pool = subject.builder().max_workers(2).call_options(options).build().expect("a pool");
    let handle = pool.submit(exit_until, (path.clone(), 2)).expect("accepted");
    assert_eq!(handle.result().expect("the second attempt has a result"), 2);
    drop(pool);
    assert_eq!(traces(&path).len(), 2);
}

/// Only the calls that ran on it are made again, and each has one result.
pub(crate) fn killed_workers_cost_no_call_that_may_be_made_again(subject: &Subject) {
    let (pool, gate) = (subject.pool(2), Gate::new());
    let patient = with(&pool, quickly(1000).losses_max(1000));
    let mut handles = Vec::new();
    for round in 0..10 {
        handles.extend((0..20).map(|n| patient.submit(same, round * 20 + n).expect("accepted")));
        let held = patient.submit(wait_at, gate.port()).expect("accepted");
        let first = gate.arrival();
        kill(first.pid);
        drop(first);
        gate.arrival().pass();
        held.result().expect("it was made again");
    }
    for (n, handle) in (0..).zip(handles) {
        assert_eq!(handle.result().expect("it has a result"), n);
    }
}
