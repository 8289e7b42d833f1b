//! The handle: its states, its result, its callbacks; awaited and polled.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use process_pool::{Executor, Shutdown, TaskError, TaskHandle, TaskState};
use xtests::calls::{exit, run, same, submit};
use xtests::gate::{Gate, PATIENCE, wait_at};
use xtests::runner::Subject;

use crate::tools::{file, leave_trace, traces};

const _: fn() = || {
    fn is_ordinary<T: Send + Sync + Unpin>() {}
    is_ordinary::<TaskHandle<std::cell::Cell<u8>>>();
};

fn refuse((): ()) {
    panic!("refused");
}

/// A call that waits at the gate for its state to be looked at, on a worker that is up.
fn waiting(pool: &Executor, gate: &Gate) -> (TaskHandle<()>, xtests::gate::Visitor) {
    let handle = submit(pool, wait_at, gate.port());
    (handle, gate.arrival())
}

/// CPython: `test_done`, `test_running`, `test_cancelled`, and `test_repr`.
pub(crate) fn a_handle_tells_where_its_call_is(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let (first, visitor) = waiting(&pool, &gate);
    let second = submit(&pool, same, 9);
    assert_eq!((first.state(), first.done(), first.running()), (TaskState::Running, false, true));
    assert_eq!((second.state(), second.done(), second.running()), (TaskState::Pending, false, false));
    assert!(format!("{first:?}").contains("Running") && format!("{second:?}").contains("Pending"));
    assert!(first.task().contains("wait_at"), "{}", first.task());
    assert_eq!(pool.pending(), 2);
    visitor.pass();
    first.wait();
    second.wait();
    assert_eq!((first.state(), first.done(), first.running()), (TaskState::Finished, true, false));
    assert!(first.error().is_none() && !first.cancelled());
    assert_eq!(pool.pending(), 0);
    let failed = submit(&pool, refuse, ());
    failed.wait();
    assert_eq!(failed.state(), TaskState::Finished);
    assert!(matches!(failed.error(), Some(TaskError::Panicked(_))));
    assert!(format!("{failed:?}").contains("refused"), "{failed:?}");
}

/// CPython: `test_result_with_timeout`, `test_exception_with_timeout`, `test_result_with_success`.
pub(crate) fn a_timeout_gives_none_and_the_result_comes_later(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let (handle, visitor) = waiting(&pool, &gate);
    assert!(handle.result_timeout(Duration::ZERO).is_none());
    assert!(handle.result_timeout(Duration::from_millis(5)).is_none());
    assert!(!handle.wait_timeout(Duration::from_millis(5)));
    assert!(handle.error().is_none(), "it does not wait");
    visitor.pass();
    assert!(matches!(handle.result_timeout(PATIENCE), Some(Ok(()))));
    assert!(matches!(handle.result_timeout(PATIENCE), Some(Err(TaskError::Taken))));
    assert!(handle.wait_timeout(Duration::ZERO));
    let endless = submit(&pool, same, 4);
    assert!(matches!(endless.result_timeout(Duration::MAX), Some(Ok(4))));
}

/// CPython: `test_exception_with_success`.
pub(crate) fn an_error_can_be_looked_at_and_then_taken(subject: &Subject) {
    let pool = subject.pool(1);
    let handle = submit(&pool, refuse, ());
    handle.wait();
    let seen = handle.error().expect("it panicked").to_string();
    assert!(matches!(handle.result_timeout(Duration::ZERO), Some(Err(TaskError::Panicked(_)))));
    assert_eq!(handle.result().expect_err("an error can be taken again").to_string(), seen);
}

/// CPython: `test_done_callback_with_result`, `..._with_exception`, `..._with_cancel`.
pub(crate) fn callbacks_run_in_order_and_are_told_how_it_ended(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let (sender, said) = mpsc::channel();
    let say = |word: &'static str| {
        let sender = sender.clone();
        move |settled: &process_pool::Settled<'_>| {
            let error = settled.error().map(ToString::to_string).unwrap_or_default();
            sender.send((word, settled.state(), error)).expect("the case listens");
        }
    };
    let (long, visitor) = waiting(&pool, &gate);
    let (cancelled, failed) = (submit(&pool, same, 1), submit(&pool, refuse, ()));
    cancelled.add_done_callback(say("cancelled"));
    assert!(cancelled.cancel());
    let told = || said.recv_timeout(PATIENCE).expect("the callback runs");
    assert_eq!(told(), ("cancelled", TaskState::Cancelled, "the call was cancelled".to_owned()));
    long.add_done_callback(say("first"));
    long.add_done_callback(say("second"));
    failed.add_done_callback(say("failed"));
    assert!(said.try_recv().is_err(), "not before the end");
    visitor.pass();
    assert_eq!(told(), ("first", TaskState::Finished, String::new()));
    assert_eq!(told(), ("second", TaskState::Finished, String::new()));
    let (word, state, error) = told();
    assert_eq!((word, state), ("failed", TaskState::Finished));
    assert!(error.contains("refused"), "{error}");
}

/// CPython: `test_done_callback_already_successful`, `..._already_failed`, `..._already_cancelled`.
pub(crate) fn a_callback_of_a_settled_call_runs_at_once_and_here(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let (long, visitor) = waiting(&pool, &gate);
    let cancelled = submit(&pool, same, 1);
    assert!(cancelled.cancel());
    visitor.pass();
    let failed = submit(&pool, refuse, ());
    long.wait();
    failed.wait();
    let ran = Arc::new(Mutex::new(Vec::new()));
    let note = || {
        let ran = Arc::clone(&ran);
        move |settled: &process_pool::Settled<'_>| {
            let here = std::thread::current().id();
            ran.lock().expect("no panic").push((settled.state(), settled.error().is_some(), here));
        }
    };
    long.add_done_callback(note());
    failed.add_done_callback(note());
    cancelled.add_done_callback(note());
    let here = std::thread::current().id();
    let expected = [
        (TaskState::Finished, false, here),
        (TaskState::Finished, true, here),
        (TaskState::Cancelled, true, here),
    ];
    assert_eq!(*ran.lock().expect("no panic"), expected);
}

/// CPython: `test_done_callback_raises`, `..._raises_already_succeeded`.
pub(crate) fn a_panic_in_a_callback_is_contained(subject: &Subject) {
    let pool = subject.pool(1);
    let (sender, said) = mpsc::channel();
    let gate = Gate::new();
    let (handle, visitor) = waiting(&pool, &gate);
    handle.add_done_callback(|_| panic!("a callback's own fault (this text is expected)"));
    handle.add_done_callback(move |_| sender.send("second").expect("the case listens"));
    visitor.pass();
    assert_eq!(said.recv_timeout(PATIENCE), Ok("second"));
    handle.add_done_callback(|_| panic!("a late callback's own fault (this text is expected)"));
    let next = submit(&pool, same, 1);
    let (sender, said) = mpsc::channel();
    next.add_done_callback(move |_| sender.send("next").expect("the case listens"));
    assert_eq!(said.recv_timeout(PATIENCE), Ok("next"));
}

/// loky: `test_in_callback_submit_with_crash`.
pub(crate) fn a_callback_can_submit_and_wait(subject: &Subject) {
    let pool = Arc::new(subject.pool(1));
    let (sender, said) = mpsc::channel();
    for fatal in [false, true] {
        let (sender, inner) = (sender.clone(), Arc::clone(&pool));
        let handle = submit(
            &pool,
            |fatal: bool| {
                if fatal {
                    exit(3)
                }
            },
            fatal,
        );
        handle.add_done_callback(move |_| {
            sender.send(run(&inner, same, 5)).expect("the case listens");
        });
        assert_eq!(said.recv_timeout(PATIENCE), Ok(5));
    }
}

/// D20: CPython answers "cannot join current thread" (gh-131598).
pub(crate) fn a_callback_can_shut_the_pool_down_and_wait(subject: &Subject) {
    let pool = Arc::new(subject.pool(2));
    let (sender, said) = mpsc::channel();
    let gate = Gate::new();
    let (handle, visitor) = waiting(&pool, &gate);
    let others: Vec<_> = (0..20).map(|n| submit(&pool, same, n)).collect();
    let inner = Arc::clone(&pool);
    handle.add_done_callback(move |_| {
        inner.shutdown(Shutdown::default());
        drop(inner);
        sender.send(()).expect("the case listens");
    });
    visitor.pass();
    assert_eq!(said.recv_timeout(PATIENCE), Ok(()));
    assert!(others.into_iter().zip(0..).all(|(handle, n)| handle.result().is_ok_and(|result| result == n)));
}

/// The last owner of the pool is a callback: its drop waits there.
pub(crate) fn a_callback_can_drop_the_pool(subject: &Subject) {
    let pool = subject.pool(1);
    let (sender, said) = mpsc::channel();
    let gate = Gate::new();
    let (handle, visitor) = waiting(&pool, &gate);
    let last = submit(&pool, same, 8);
    handle.add_done_callback(move |_| {
        drop(pool);
        sender.send(()).expect("the case listens");
    });
    visitor.pass();
    assert_eq!(said.recv_timeout(PATIENCE), Ok(()));
    assert_eq!(last.result().expect("a drop finishes what was submitted"), 8);
}

/// D21: callbacks have a thread of their own.
pub(crate) fn a_slow_callback_delays_no_call(subject: &Subject) {
    let pool = subject.pool(1);
    let (release, held) = mpsc::channel::<()>();
    let handle = submit(&pool, same, 1);
    let gate = Gate::new();
    let (long, visitor) = waiting(&pool, &gate);
    long.add_done_callback(move |_| held.recv().expect("the case lets go"));
    visitor.pass();
    assert_eq!(handle.result().expect("a result"), 1);
    for n in 0..50 {
        assert_eq!(run(&pool, same, n), n);
    }
    release.send(()).expect("the callback waits");
}

/// Dropping a handle detaches: the call goes on.
pub(crate) fn a_call_goes_on_without_its_handle(subject: &Subject) {
    let (pool, gate, path) = (subject.pool(1), Gate::new(), file(&subject.dir));
    let (long, visitor) = waiting(&pool, &gate);
    drop(submit(&pool, leave_trace, (path.clone(), 7)));
    drop(long);
    visitor.pass();
    drop(pool);
    assert_eq!(traces(&path), [7]);
}

pub(crate) fn many_threads_wait_for_one_call(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let (handle, visitor) = waiting(&pool, &gate);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let handle = &handle;
            scope.spawn(
                move || if number % 2 == 0 { handle.wait() } else { assert!(handle.wait_timeout(PATIENCE)) },
            );
        }
        visitor.pass();
    });
    handle.result().expect("a result");
}

/// CPython 3.15: `test_get_snapshot`: nobody sees a call that is done and has no result yet.
pub(crate) fn a_call_that_is_done_has_its_result(subject: &Subject) {
    let pool = subject.pool(1);
    for n in 0..200 {
        let handle = submit(&pool, same, n);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !handle.done() {
                        std::hint::spin_loop();
                    }
                    assert_eq!(handle.state(), TaskState::Finished);
                    assert!(handle.error().is_none());
                });
            }
        });
        assert!(matches!(handle.result_timeout(Duration::ZERO), Some(Ok(result)) if result == n));
    }
}

/// A handle outlives its pool, with its result.
pub(crate) fn a_handle_outlives_its_pool(subject: &Subject) {
    let pool = subject.pool(2);
    let handles: Vec<_> = (0..10).map(|n| submit(&pool, same, n)).collect();
    drop(pool);
    for (n, handle) in (0..).zip(handles) {
        assert!(handle.done() && !handle.cancel());
        let (sender, said) = mpsc::channel();
        handle.add_done_callback(move |_| sender.send(()).expect("the case listens"));
        assert_eq!(said.try_recv(), Ok(()));
        assert_eq!(handle.result().expect("a result"), n);
    }
}

pub(crate) fn handles_are_awaited_on_tokio(subject: &Subject) {
    let pool = subject.pool(2);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    runtime.expect("a runtime").block_on(async {
        let mut tasks = Vec::new();
        for n in 0..100 {
            let handle = submit(&pool, same, n);
            tasks.push(tokio::spawn(async move { handle.await.expect("a result") }));
        }
        for (n, task) in (0..).zip(tasks) {
            assert_eq!(task.await.expect("no panic"), n);
        }
        let failed = submit(&pool, refuse, ()).await;
        assert!(matches!(failed, Err(TaskError::Panicked(_))));
        let gate = Gate::new();
        let mut handle = submit(&pool, wait_at, gate.port());
        let early = tokio::time::timeout(Duration::from_millis(5), &mut handle).await;
        assert!(early.is_err(), "a future that is dropped early takes nothing with it");
        gate.arrival().pass();
        handle.await.expect("a result");
    });
}

pub(crate) fn handles_are_awaited_without_a_runtime(subject: &Subject) {
    let pool = subject.pool(2);
    futures_lite::future::block_on(async {
        let (a, b) = futures_lite::future::zip(submit(&pool, same, 1), submit(&pool, same, 2)).await;
        assert_eq!((a.expect("a result"), b.expect("a result")), (1, 2));
        for n in 0..100 {
            assert_eq!(submit(&pool, same, n).await.expect("a result"), n);
        }
        let failed = submit(&pool, exit, 1).await;
        assert!(matches!(failed, Err(TaskError::WorkerLost(_))));
    });
}

/// A waker that does nothing, and waiting in between: both ways of waiting get on with each other.
pub(crate) fn a_handle_is_polled_and_waited_for_in_turns(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let (mut handle, visitor) = waiting(&pool, &gate);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..5 {
        assert!(Pin::new(&mut handle).poll(&mut context).is_pending());
        assert!(!handle.wait_timeout(Duration::from_millis(1)));
    }
    visitor.pass();
    let result = loop {
        match Pin::new(&mut handle).poll(&mut context) {
            Poll::Ready(result) => break result,
            Poll::Pending => drop(handle.wait_timeout(PATIENCE)),
        }
    };
    result.expect("a result");
}

struct Bell(AtomicUsize, mpsc::Sender<()>);

impl Bell {
    fn new() -> (Arc<Self>, mpsc::Receiver<()>) {
        let (sender, rung) = mpsc::channel();
        (Arc::new(Self(AtomicUsize::new(0), sender)), rung)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        let _ = self.1.send(());
    }
}

pub(crate) fn the_last_waker_wins(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let (mut handle, visitor) = waiting(&pool, &gate);
    let ((early, _), (late, rung)) = (Bell::new(), Bell::new());
    for bell in [&early, &late] {
        let waker = Waker::from(Arc::clone(bell));
        assert!(Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    visitor.pass();
    rung.recv_timeout(PATIENCE).expect("the waker is woken");
    assert_eq!((early.0.load(Ordering::SeqCst), late.0.load(Ordering::SeqCst)), (0, 1));
    let waker = Waker::from(late);
    assert!(Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)).is_ready());
}

/// A waker that panics is user code: it is contained, and the pool goes on.
pub(crate) fn a_panic_in_a_waker_is_contained(subject: &Subject) {
    struct Grenade;
    impl Wake for Grenade {
        fn wake(self: Arc<Self>) {
            panic!("a waker's own fault (this text is expected)");
        }
    }
    let (pool, gate) = (subject.pool(1), Gate::new());
    let (mut handle, visitor) = waiting(&pool, &gate);
    let waker = Waker::from(Arc::new(Grenade));
    assert!(Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)).is_pending());
    visitor.pass();
    handle.result().expect("a result");
    assert_eq!(run(&pool, same, 1), 1);
}
