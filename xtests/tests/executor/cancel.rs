//! Cancelling: exact to the last moment, or refused.

use process_pool::{Shutdown, SubmitError, TaskError, TaskHandle, TaskState, as_completed};
use xtests::calls::{run, same, submit};
use xtests::gate::{Gate, wait_at};
use xtests::random::Random;
use xtests::runner::Subject;

use crate::tools::{Act, Whim, all_there, file, leave_trace, traces};

/// S19 made better, D34: `true` means that the body never ran; this is what claim words are for.
pub(crate) fn two_thousand_random_cancels_are_exact(subject: &Subject) {
    let (pool, path, mut random) = (subject.pool(2), file(&subject.dir), Random::new(1));
    all_there(&pool);
    let mut handles: Vec<TaskHandle<u64>> = Vec::new();
    let mut cancelled = Vec::new();
    while cancelled.len() < 2_000 {
        let n = handles.len() as u64;
        // So that among the newest there are calls which wait, which run, and which are done.
        if let Some(older) = handles.len().checked_sub(20) {
            handles[older].wait();
        }
        handles.push(submit(&pool, leave_trace, (path.clone(), n)));
        if random.below(3) == 0 {
            // Mostly one of the newest, which may be anywhere between the queue and the worker.
            let back = (random.below(40) as usize).min(handles.len() - 1);
            let index = handles.len() - 1 - back;
            if !handles[index].cancelled() {
                cancelled.push((index, handles[index].cancel()));
            }
        }
    }
    let successes = cancelled.iter().filter(|(_, success)| *success).count();
    let mut expected = Vec::new();
    for (n, handle) in (0..).zip(handles) {
        match handle.result() {
            Ok(result) => expected.push(result),
            Err(error) => {
                assert!(matches!(error, TaskError::Cancelled), "{error:?}");
                assert!(cancelled.contains(&(n, true)), "call {n} is cancelled, and nobody was told");
            }
        }
    }
    let mut ran = traces(&path);
    ran.sort_unstable();
    assert_eq!(ran, expected, "what ran, and once, is what has a result");
    println!("{successes} of {} cancels succeeded; {} calls ran", cancelled.len(), ran.len());
    assert!(0 < successes && successes < cancelled.len(), "the case decides something");
}

/// CPython: `test_cancel`, of a future that runs.
pub(crate) fn a_running_call_cannot_be_cancelled(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let handle = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    assert!(handle.running());
    assert!(!handle.cancel());
    assert_eq!(handle.state(), TaskState::Running);
    visitor.pass();
    handle.result().expect("it is not touched");
}

/// CPython: `test_cancel`, of pending futures; all of them, where CPython's call queue holds some back.
pub(crate) fn calls_behind_a_long_one_can_be_cancelled(subject: &Subject) {
    let (pool, gate, path) = (subject.pool(1), Gate::new(), file(&subject.dir));
    let long = submit(&pool, wait_at, gate.port());
    let queued: Vec<_> = (0..20).map(|n| submit(&pool, leave_trace, (path.clone(), n))).collect();
    let visitor = gate.arrival();
    assert!(queued.iter().all(|handle| handle.state() == TaskState::Pending));
    for handle in &queued {
        assert!(handle.cancel());
        assert!(handle.cancelled() && handle.done() && !handle.running());
        assert!(handle.cancel(), "again is as well");
    }
    assert_eq!(pool.pending(), 1);
    visitor.pass();
    long.result().expect("it is not touched");
    drop(pool);
    assert!(traces(&path).is_empty());
}

/// CPython: `test_cancel`, `test_cancelled`, `test_result_with_cancel`, of futures that are done.
pub(crate) fn a_settled_call_cannot_be_cancelled(subject: &Subject) {
    let pool = subject.pool(1);
    let finished = submit(&pool, same, 3);
    finished.wait();
    assert!(!finished.cancel() && !finished.cancelled());
    assert_eq!(finished.result().expect("it is not touched"), 3);
    let failed = submit(&pool, |_: u64| -> u64 { panic!("no") }, 3);
    failed.wait();
    assert!(!failed.cancel() && !failed.cancelled());
    assert!(matches!(failed.result(), Err(TaskError::Panicked(_))));
}

pub(crate) fn a_cancelled_call_says_so_everywhere(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let long = submit(&pool, wait_at, gate.port());
    let handle = submit(&pool, same, 1);
    let visitor = gate.arrival();
    assert!(handle.cancel());
    handle.wait();
    assert_eq!(handle.state(), TaskState::Cancelled);
    assert!(matches!(handle.error(), Some(TaskError::Cancelled)));
    assert!(format!("{handle:?}").contains("Cancelled"), "{handle:?}");
    assert!(matches!(handle.result(), Err(TaskError::Cancelled)));
    visitor.pass();
    long.result().expect("a result");
}

/// CPython: `test_hang_gh94440`.
pub(crate) fn submit_cancel_and_shutdown_do_not_hang(subject: &Subject) {
    for _ in 0..20 {
        let pool = subject.pool(1);
        assert_eq!(run(&pool, same, 1), 1);
        let handle = submit(&pool, same, 2);
        let cancelled = handle.cancel();
        pool.shutdown(Shutdown::default());
        assert_eq!(handle.cancelled(), cancelled);
        assert!(handle.done());
    }
}

/// A call that is cancelled before the pool has any worker.
pub(crate) fn a_call_can_be_cancelled_before_a_worker_is_ready(subject: &Subject) {
    let (pool, path) = (subject.pool(2), file(&subject.dir));
    let handles: Vec<_> = (0..10).map(|n| submit(&pool, leave_trace, (path.clone(), n))).collect();
    let cancelled: Vec<_> = handles.iter().map(TaskHandle::cancel).collect();
    drop(pool);
    let ran = cancelled.iter().filter(|cancelled| !**cancelled).count();
    assert_eq!(traces(&path).len(), ran);
}

/// CPython: `test_cancel_futures`, and gh-136655: those who wait for the cancelled are told.
pub(crate) fn shutdown_cancels_what_has_not_started(subject: &Subject) {
    let (pool, gate, path) = (subject.pool(2), Gate::new(), file(&subject.dir));
    let running: Vec<_> = (0..2).map(|_| submit(&pool, wait_at, gate.port())).collect();
    let visitors = gate.arrivals(2);
    let queued: Vec<_> = (0..50).map(|n| submit(&pool, leave_trace, (path.clone(), n))).collect();
    pool.shutdown(Shutdown { wait: false, cancel_futures: true, ..Shutdown::default() });
    for handle in as_completed(queued, None) {
        assert!(handle.expect("no timeout was set").cancelled());
    }
    assert!(matches!(pool.submit(same, 1), Err(SubmitError::ShutDown)));
    drop(visitors);
    for handle in running {
        handle.result().expect("what runs is finished");
    }
    drop(pool);
    assert!(traces(&path).is_empty());
}

/// CPython's hang gh-116685: refused arguments and `cancel_futures`, again and again.
pub(crate) fn refused_arguments_do_not_disturb_a_cancelling_shutdown(subject: &Subject) {
    for _ in 0..10 {
        let pool = subject.pool(2);
        let handles: Vec<_> = (0..10)
            .filter_map(|n| {
                let whim = if n % 2 == 0 { Whim::NONE } else { Whim::when_encoded(Act::Refuse) };
                pool.submit(|whim: Whim| whim, whim).ok()
            })
            .collect();
        assert_eq!(handles.len(), 5);
        pool.shutdown(Shutdown { cancel_futures: true, ..Shutdown::default() });
        assert!(handles.iter().all(TaskHandle::done));
    }
}
