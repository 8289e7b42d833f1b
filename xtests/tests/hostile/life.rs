//! Calls at the wrong time, and initializers that fail.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use process_pool::error::{BreakReason, Exit, InitializerFailed, StartError};
use process_pool::{Builder, Executor, Shutdown, SubmitError, TaskError, TaskHandle};
use serde::{Deserialize, Serialize};
use xtests::calls::lost;
use xtests::cases;
use xtests::gate::{Gate, wait_at};
use xtests::runner::{Case, Subject};

use crate::kit::{self, PATIENCE, PROMPTLY, settled};

pub(crate) const CASES: &[Case] = cases![
    a_call_after_shutdown_is_refused,
    a_call_after_the_pool_was_killed_is_refused,
    a_worker_may_have_a_pool_of_its_own,
    a_callback_may_submit_calls,
    a_callback_may_shut_its_pool_down,
    a_callback_may_drop_its_pool,
    a_callback_of_a_broken_pool_is_refused_a_call,
    an_initializer_that_panics_breaks_the_pool_with_its_message,
    an_initializer_that_returns_an_error_breaks_the_pool_with_its_text,
    an_initializer_with_more_to_say_than_a_frame_takes_is_cut_not_lost,
    an_initializer_whose_argument_cannot_be_decoded_breaks_the_pool,
    an_initializer_that_never_returns_is_given_up_at_the_start_deadline,
    an_initializer_that_exits_is_a_failed_start,
    an_initializer_that_aborts_is_a_failed_start,
    an_initializer_that_fails_in_one_worker_of_several_breaks_the_pool,
];

fn a_call_after_shutdown_is_refused(subject: &Subject) {
    let pool = subject.pool(1);
    kit::is_usable(&pool);
    pool.shutdown(Shutdown::default());
    assert!(matches!(pool.submit(|n: u8| n, 1), Err(SubmitError::ShutDown)));
    match pool.map(|n: u8| n, [1, 2]).next() {
        Some(Err(TaskError::Refused(SubmitError::ShutDown))) => {}
        other => panic!("{other:?}"),
    }
    pool.shutdown(Shutdown::default());
}

fn a_call_after_the_pool_was_killed_is_refused(subject: &Subject) {
    let pool = subject.pool(1);
    let gate = Gate::new();
    let running = pool.submit(wait_at, gate.port()).expect("taken");
    let _visitor = gate.arrival();
    let waiting = pool.submit(wait_at, gate.port()).expect("taken");
    pool.kill_workers();
    assert!(matches!(pool.submit(|n: u8| n, 1), Err(SubmitError::ShutDown)));
    assert_eq!(lost(settled(&running)).exit, kit::KILLED);
    assert!(matches!(settled(&waiting), Err(TaskError::Cancelled)));
}

fn a_worker_may_have_a_pool_of_its_own(subject: &Subject) {
    let sum = |numbers: Vec<u64>| -> Result<u64, String> {
        let inner = Executor::builder().max_workers(2).build().map_err(|error| error.to_string())?;
        let squares: Result<Vec<u64>, _> = inner.map(|n: u64| n * n, numbers).collect();
        squares.map(|squares| squares.iter().sum()).map_err(|error| error.to_string())
    };
    let pool = subject.pool(2);
    let calls: Vec<_> = (0..4).map(|_| pool.submit(sum, vec![1, 2, 3]).expect("taken")).collect();
    for call in &calls {
        assert_eq!(settled(call).expect("a result"), Ok(14));
    }
}

fn a_callback_may_submit_calls(subject: &Subject) {
    let pool = Arc::new(subject.pool(1));
    let (tell, told) = mpsc::channel();
    let theirs = Arc::clone(&pool);
    let call = pool.submit(|n: u32| n, 1).expect("taken");
    call.add_done_callback(move |_| {
        let second = theirs.submit(|n: u32| n + 1, 41).expect("taken");
        tell.send(second).expect("the case waits");
    });
    let second = told.recv_timeout(PATIENCE).expect("the callback is called");
    assert_eq!(settled(&second).expect("a result"), 42);
}

fn a_callback_may_shut_its_pool_down(subject: &Subject) {
    let pool = Arc::new(subject.pool(1));
    let (tell, told) = mpsc::channel();
    let theirs = Arc::clone(&pool);
    let gate = Gate::new();
    let call = pool.submit(wait_at, gate.port()).expect("taken");
    call.add_done_callback(move |_| {
        theirs.shutdown(Shutdown::default());
        tell.send(theirs.submit(|n: u8| n, 1).map(drop)).expect("the case waits");
    });
    gate.arrival().pass();
    let refused = told.recv_timeout(PATIENCE).expect("it does not wait for itself");
    assert!(matches!(refused, Err(SubmitError::ShutDown)), "{refused:?}");
}

fn a_callback_may_drop_its_pool(subject: &Subject) {
    let pool = subject.pool(1);
    let (tell, told) = mpsc::channel();
    let gate = Gate::new();
    let call = pool.submit(wait_at, gate.port()).expect("taken");
    call.add_done_callback(move |_| {
        drop(pool);
        tell.send(()).expect("the case waits");
    });
    gate.arrival().pass();
    told.recv_timeout(PATIENCE).expect("it does not wait for itself");
}

fn a_callback_of_a_broken_pool_is_refused_a_call(subject: &Subject) {
    let pool = kit::impatient(subject.builder()).initializer(exits, 3);
    let pool = Arc::new(pool.build().expect("a pool"));
    let (tell, told) = mpsc::channel();
    let theirs = Arc::clone(&pool);
    let call = pool.submit(|n: u8| n, 1).expect("taken");
    call.add_done_callback(move |_| tell.send(theirs.submit(|n: u8| n, 1).map(drop)).expect("the case waits"));
    let refused = told.recv_timeout(PATIENCE).expect("the callback is called");
    assert!(matches!(refused, Err(SubmitError::Broken(_))), "{refused:?}");
}

/// Calls for a pool that is built like this.
fn calls(builder: Builder) -> (Executor, Vec<TaskHandle<u8>>) {
    let pool = kit::impatient(builder).build().expect("a pool");
    // It may be broken before it has got them all.
    let calls = (0..4).map_while(|n| match pool.submit(|n: u8| n, n) {
        Err(SubmitError::Broken(_)) => None,
        call => Some(call.expect("taken")),
    });
    let calls = calls.collect();
    (pool, calls)
}

#[track_caller]
fn fails_with(builder: Builder, is_right: impl Fn(&InitializerFailed) -> bool) {
    let (pool, calls) = calls(builder);
    kit::breaks(pool, calls, |reason| match reason {
        BreakReason::Initializer(failed) => is_right(failed) && failed.pid.is_some(),
        _ => false,
    });
}

fn exits(code: i32) {
    std::process::exit(code);
}

fn aborts((): ()) {
    std::process::abort();
}

fn panics((what, times): (String, usize)) {
    panic!("no {}", what.repeat(times));
}

fn an_initializer_that_panics_breaks_the_pool_with_its_message(subject: &Subject) {
    fails_with(subject.builder().initializer(panics, ("licence".to_owned(), 1)), |failed| {
        failed.message.contains("no licence") && failed.message.contains("life.rs:")
    });
}

fn an_initializer_that_returns_an_error_breaks_the_pool_with_its_text(subject: &Subject) {
    let fails = |what: String| -> Result<(), String> { Err(format!("no {what}")) };
    fails_with(subject.builder().initializer(fails, "licence".to_owned()), |failed| {
        failed.message == "no licence" && failed.task.contains("returns_an_error")
    });
}

fn an_initializer_with_more_to_say_than_a_frame_takes_is_cut_not_lost(subject: &Subject) {
    const LIMIT: usize = 64 * 1024;
    let narrow = || subject.builder_of_frames(LIMIT);
    let is_cut = |failed: &InitializerFailed| failed.message.contains("long long") && failed.message.len() < LIMIT;
    let fails = |()| -> Result<(), String> { Err("long ".repeat(LIMIT)) };
    fails_with(narrow().initializer(fails, ()), is_cut);
    fails_with(narrow().initializer(panics, ("long ".to_owned(), LIMIT)), is_cut);
}

fn an_initializer_whose_argument_cannot_be_decoded_breaks_the_pool(subject: &Subject) {
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u64),
    }
    let take = |Untagged::Number(_)| ();
    fails_with(subject.builder().initializer(take, Untagged::Number(1)), |failed| {
        failed.message.contains("Untagged") && failed.message.contains("self-describing")
    });
}

fn an_initializer_that_never_returns_is_given_up_at_the_start_deadline(subject: &Subject) {
    let forever = |()| -> Result<(), String> {
        loop {
            std::thread::park();
        }
    };
    let deadline = Duration::from_millis(300);
    let (pool, calls) = calls(subject.builder().initializer(forever, ()).start_deadline(deadline));
    kit::breaks(pool, calls, |reason| {
        matches!(reason, BreakReason::NoWorkerInTime { last: StartError::TimedOut(_), .. })
    });
}

fn an_initializer_that_exits_is_a_failed_start(subject: &Subject) {
    let (pool, calls) = calls(subject.builder().initializer(exits, 3));
    kit::breaks(pool, calls, |reason| match reason {
        BreakReason::TooManyFailures { failures: 2, last: StartError::Ended { exit, .. } } => {
            *exit == Exit::Code(3)
        }
        _ => false,
    });
}

fn an_initializer_that_aborts_is_a_failed_start(subject: &Subject) {
    let (pool, calls) = calls(subject.builder().initializer(aborts, ()));
    kit::breaks(pool, calls, |reason| match reason {
        BreakReason::TooManyFailures { failures: 2, last: StartError::Ended { exit, .. } } => {
            !cfg!(unix) || *exit == Exit::Signal(6)
        }
        _ => false,
    });
}

/// Each call has an error value of its own, also those that are running just then.
fn an_initializer_that_fails_in_one_worker_of_several_breaks_the_pool(subject: &Subject) {
    let start = Instant::now();
    // The first to come makes the file, all others fail.
    let first_only = |path: std::path::PathBuf| std::fs::File::create_new(path).map(drop);
    let builder = subject.builder().max_workers(2).initializer(first_only, subject.dir.join("first"));
    let pool = builder.build().expect("a pool");
    let gate = Gate::new();
    let running = pool.submit(wait_at, gate.port()).expect("taken");
    let _visitor = gate.arrival();
    let waiting = pool.submit(wait_at, gate.port()).expect("taken");
    kit::breaks(pool, vec![running, waiting], |reason| match reason {
        BreakReason::Initializer(failed) => failed.message.contains("exists"),
        _ => false,
    });
    assert!(start.elapsed() < PROMPTLY, "{:?}", start.elapsed());
}
