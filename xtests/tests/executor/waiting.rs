//! Waiting for many: `wait` and `as_completed`.

use std::time::{Duration, Instant};

use process_pool::{ReturnWhen, TaskHandle, as_completed, wait};
use xtests::calls::{exit, submit};
use xtests::gate::{Gate, PATIENCE, Visitor, wait_at};
use xtests::runner::Subject;

const SHORT: Duration = Duration::from_millis(20);

fn refuse(_: u16) {
    panic!("refused");
}

/// Two workers with a call each at gates of their own.
struct Two {
    pool: process_pool::Executor,
    handles: [TaskHandle<()>; 2],
    visitors: [Visitor; 2],
}

fn two(subject: &Subject) -> Two {
    let pool = subject.pool(2);
    let pair = || {
        let gate = Gate::new();
        (submit(&pool, wait_at, gate.port()), gate.arrival())
    };
    let ((first, a), (second, b)) = (pair(), pair());
    Two { pool, handles: [first, second], visitors: [a, b] }
}

fn settled(pool: &process_pool::Executor) -> TaskHandle<()> {
    let handle = submit(pool, |_: u16| (), 0);
    handle.wait();
    handle
}

/// CPython: `test_20369` (there it hung).
pub(crate) fn wait_takes_a_handle_twice(subject: &Subject) {
    let pool = subject.pool(1);
    let handle = submit(&pool, |_: u16| (), 0);
    let waited = wait([&handle, &handle], ReturnWhen::AllCompleted, Some(PATIENCE));
    assert_eq!((waited.done.len(), waited.not_done.len()), (2, 0));
}

/// CPython: `test_first_completed`.
pub(crate) fn wait_returns_when_the_first_is_completed(subject: &Subject) {
    let Two { pool, handles, visitors: [a, b] } = two(subject);
    b.pass();
    let waited = wait(&handles, ReturnWhen::FirstCompleted, Some(PATIENCE));
    assert!(std::ptr::eq(waited.done[0], &raw const handles[1]) && waited.done.len() == 1);
    assert!(std::ptr::eq(waited.not_done[0], &raw const handles[0]));
    a.pass();
    drop(pool);
}

/// CPython: `test_first_completed_some_already_completed`.
pub(crate) fn wait_returns_at_once_for_one_already_completed(subject: &Subject) {
    let Two { pool, handles: [first, second], visitors: [a, b] } = two(subject);
    b.pass();
    second.wait();
    let waited = wait([&first, &second], ReturnWhen::FirstCompleted, None);
    assert_eq!((waited.done.len(), waited.not_done.len()), (1, 1));
    a.pass();
    drop(pool);
}

/// CPython: `test_first_exception`.
pub(crate) fn wait_returns_at_the_first_exception(subject: &Subject) {
    let Two { pool, handles: [first, second], visitors: [a, b] } = two(subject);
    let failing = submit(&pool, refuse, 0);
    b.pass();
    let handles = [&first, &second, &failing];
    let waited = wait(handles, ReturnWhen::FirstException, Some(PATIENCE));
    assert_eq!((waited.done.len(), waited.not_done.len()), (2, 1));
    a.pass();
    let waited = wait(handles, ReturnWhen::AllCompleted, Some(PATIENCE));
    assert_eq!(waited.done.len(), 3);
}

/// CPython: `test_first_exception_some_already_complete`: a cancelled call is no exception.
pub(crate) fn a_cancelled_call_is_no_exception_to_wait(subject: &Subject) {
    let Two { pool, handles: [first, second], visitors: [a, b] } = two(subject);
    let cancelled = submit(&pool, |_: u16| (), 0);
    assert!(cancelled.cancel());
    let handles = [&first, &second, &cancelled];
    let waited = wait(handles, ReturnWhen::FirstException, Some(SHORT));
    assert_eq!((waited.done.len(), waited.not_done.len()), (1, 2));
    a.pass();
    b.pass();
    let waited = wait(handles, ReturnWhen::FirstException, Some(PATIENCE));
    assert_eq!((waited.done.len(), waited.not_done.len()), (3, 0));
}

/// CPython: `test_first_exception_one_already_failed`.
pub(crate) fn wait_returns_at_once_for_one_already_failed(subject: &Subject) {
    let Two { pool, handles: [first, second], visitors: [a, b] } = two(subject);
    b.pass();
    let failed = submit(&pool, refuse, 0);
    failed.wait();
    let waited = wait([&first, &failed], ReturnWhen::FirstException, None);
    assert_eq!((waited.done.len(), waited.not_done.len()), (1, 1));
    a.pass();
    second.wait();
    drop(pool);
}

/// CPython: `test_all_completed`, with every kind of end.
pub(crate) fn wait_returns_when_all_are_completed(subject: &Subject) {
    let Two { pool, handles: [first, second], visitors: [a, b] } = two(subject);
    let (failing, cancelled) = (submit(&pool, refuse, 0), submit(&pool, |_: u16| (), 0));
    let fatal = submit(&pool, |code: u16| exit(code.into()), 1);
    assert!(cancelled.cancel());
    a.pass();
    b.pass();
    let all = [&first, &second, &failing, &cancelled, &fatal];
    let waited = wait(all, ReturnWhen::AllCompleted, None);
    assert_eq!((waited.done.len(), waited.not_done.len()), (5, 0));
}

/// CPython: `test_timeout`.
pub(crate) fn wait_gives_up_after_its_timeout(subject: &Subject) {
    let Two { pool, handles: [first, second], visitors: [a, b] } = two(subject);
    b.pass();
    second.wait();
    for timeout in [Duration::ZERO, SHORT] {
        let start = Instant::now();
        let waited = wait([&first, &second], ReturnWhen::AllCompleted, Some(timeout));
        assert_eq!((waited.done.len(), waited.not_done.len()), (1, 1));
        assert!(start.elapsed() >= timeout);
    }
    a.pass();
    drop(pool);
}

pub(crate) fn wait_for_nothing_returns_at_once(_: &Subject) {
    for return_when in [ReturnWhen::FirstCompleted, ReturnWhen::FirstException, ReturnWhen::AllCompleted] {
        assert!(wait::<()>([], return_when, None).done.is_empty());
    }
    assert!(as_completed::<()>([], None).next().is_none());
}

/// S71.
pub(crate) fn handles_of_several_pools_are_waited_for_together(subject: &Subject) {
    let (one, other) = (subject.pool(1), subject.pool(1));
    let gate = Gate::new();
    let handles = [submit(&one, wait_at, gate.port()), submit(&other, wait_at, gate.port())];
    let visitors = gate.arrivals(2);
    assert_ne!(visitors[0].pid, visitors[1].pid);
    drop(visitors);
    assert_eq!(wait(&handles, ReturnWhen::AllCompleted, Some(PATIENCE)).done.len(), 2);
    assert_eq!(as_completed(handles, Some(PATIENCE)).filter(Result::is_ok).count(), 2);
}

/// CPython: `test_no_timeout`: finished ones first, then in order of completion.
pub(crate) fn as_completed_yields_in_order_of_completion(subject: &Subject) {
    let Two { pool, handles: [first, second], visitors: [a, b] } = two(subject);
    b.pass();
    second.wait();
    let short = settled(&pool);
    let names = [short.task().to_owned(), first.task().to_owned()];
    let mut completed = as_completed([first, short], None);
    let mut next = || completed.next().expect("another").expect("no timeout was set").task().to_owned();
    assert_eq!(next(), names[0]);
    a.pass();
    assert_eq!(next(), names[1]);
    assert!(completed.next().is_none());
}

/// CPython: `test_future_times_out`, `test_correct_timeout_exception_msg`.
pub(crate) fn as_completed_times_out_with_the_numbers(subject: &Subject) {
    let Two { pool, handles: [first, second], visitors } = two(subject);
    let other = subject.pool(1);
    let (third, fourth) = (settled(&other), settled(&other));
    let mut completed = as_completed([first, third, second, fourth], Some(SHORT));
    assert!(completed.next().expect("one").is_ok());
    assert!(completed.next().expect("another").is_ok());
    let error = completed.next().expect("an error").expect_err("the others take longer");
    assert_eq!(error.to_string(), "2 (of 4) futures unfinished");
    assert!(completed.next().is_none(), "then nothing");
    let unfinished = completed.into_unfinished();
    assert_eq!(unfinished.len(), 2);
    drop(visitors);
    assert!(unfinished.into_iter().all(|handle| handle.result().is_ok()));
    drop(pool);
}

/// CPython: `test_future_times_out` with a timeout of 0.
pub(crate) fn as_completed_yields_what_is_there_even_without_time(subject: &Subject) {
    let pool = subject.pool(1);
    let handles = [settled(&pool), settled(&pool)];
    assert_eq!(as_completed(handles, Some(Duration::ZERO)).filter(Result::is_ok).count(), 2);
}
