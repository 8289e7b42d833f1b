//! Bounded pools: who submits more than there is room for waits, or is told.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use process_pool::{Executor, Shutdown, SubmitError, TaskError, TaskHandle, TrySubmitError};
use xtests::calls::{exit, run, same, submit};
use xtests::gate::{Gate, PATIENCE, wait_at};
use xtests::processes::eventually;
use xtests::runner::Subject;

use crate::tools::{Act, Whim};

/// Long for a machine: what has not happened by then waits.
const LONG: Duration = Duration::from_millis(50);

fn bounded(subject: &Subject, max_workers: usize, max_pending: usize) -> Executor {
    subject.builder().max_workers(max_workers).max_pending(max_pending).build().expect("a pool")
}

/// A pool with room for two calls, and two that wait at the gate.
fn full(subject: &Subject, gate: &Gate) -> (Executor, Vec<TaskHandle<()>>) {
    let pool = bounded(subject, 1, 2);
    let handles = (0..2).map(|_| submit(&pool, wait_at, gate.port())).collect();
    (pool, handles)
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// D45.
pub(crate) fn submit_waits_until_there_is_room(subject: &Subject) {
    let gate = Gate::new();
    let (pool, handles) = full(subject, &gate);
    assert_eq!((pool.pending(), pool.max_pending()), (2, Some(2)));
    let (sender, submitted) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| sender.send(submit(&pool, same, 7)));
        let visitor = gate.arrival();
        assert!(submitted.recv_timeout(LONG).is_err(), "it waits");
        visitor.pass();
        let handle = submitted.recv_timeout(PATIENCE).expect("there is room");
        gate.arrival().pass();
        assert_eq!(handle.result().expect("it runs"), 7);
    });
    handles.into_iter().for_each(|handle| handle.result().expect("it is let through"));
}

pub(crate) fn never_more_calls_are_pending_than_the_bound_allows(subject: &Subject) {
    let pool = bounded(subject, 2, 5);
    let (most, left) = (AtomicUsize::new(0), AtomicUsize::new(8));
    thread::scope(|scope| {
        for thread in 0..8 {
            let (pool, most, left) = (&pool, &most, &left);
            scope.spawn(move || {
                for n in 0..100 {
                    let handle = submit(pool, same, thread * 1000 + n);
                    most.fetch_max(pool.pending(), Ordering::Relaxed);
                    if n % 3 == 0 {
                        assert_eq!(handle.result().expect("it runs"), thread * 1000 + n);
                    }
                }
                left.fetch_sub(1, Ordering::Relaxed);
            });
        }
        eventually("all are submitted", || {
            most.fetch_max(pool.pending(), Ordering::Relaxed);
            left.load(Ordering::Relaxed) == 0
        });
    });
    let most = most.into_inner();
    assert!((1..=5).contains(&most), "{most} were pending");
}

pub(crate) fn who_waits_first_gets_room_first(subject: &Subject) {
    let gate = Gate::new();
    let (pool, handles) = full(subject, &gate);
    let woken: Vec<_> = (0..4).map(|_| Arc::new(Count::default())).collect();
    let mut waiting: Vec<_> = (0..4).map(|n| Box::pin(pool.submit_async(same, n))).collect();
    let wakers: Vec<_> = woken.iter().map(|count| Waker::from(Arc::clone(count))).collect();
    for (submission, waker) in waiting.iter_mut().zip(&wakers) {
        assert!(submission.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    assert!(matches!(pool.try_submit(same, 9), Err(TrySubmitError::Full(9))));
    let times = |n: usize| woken[n].0.load(Ordering::SeqCst);
    // The second does not want to wait any longer. Nobody notices.
    drop(waiting.remove(1));
    gate.arrival().pass();
    eventually("the first is woken", || times(0) == 1);
    let last = gate.arrival();
    assert_eq!((times(2), times(3)), (0, 0), "there is room for one");
    assert!(matches!(pool.try_submit(same, 9), Err(TrySubmitError::Full(9))), "which is the first's");
    // Let in, and gone: the place goes to the next.
    drop(waiting.remove(0));
    eventually("the third is woken", || times(2) == 1);
    assert_eq!((times(1), times(3)), (0, 0));
    let third = match waiting[0].as_mut().poll(&mut Context::from_waker(&wakers[2])) {
        Poll::Ready(submitted) => submitted.expect("accepted"),
        Poll::Pending => panic!("there is room"),
    };
    last.pass();
    eventually("the fourth is woken", || times(3) == 1);
    assert_eq!(third.result().expect("it runs"), 2);
    drop(waiting);
    assert_eq!(run(&pool, same, 5), 5);
    handles.into_iter().for_each(|handle| handle.result().expect("it is let through"));
    assert_eq!(pool.pending(), 0, "what was dropped was never submitted");
}

pub(crate) fn a_full_pool_gives_the_argument_back(subject: &Subject) {
    let gate = Gate::new();
    let (pool, handles) = full(subject, &gate);
    let argument = "not copied".to_owned();
    let address = argument.as_ptr();
    let with_context = pool.try_submit_with(|(): &mut (), n: u64| n, 5);
    assert!(matches!(with_context, Err(TrySubmitError::Full(5))));
    let error = pool.try_submit(|text: String| text.len(), argument).expect_err("it is full");
    assert_eq!(error.to_string(), "the pool is full");
    let TrySubmitError::Full(argument) = error else { panic!("{error:?}") };
    assert_eq!(argument.as_ptr(), address);
    let named = pool.try_submit_named::<_, u64>("double", 4_u64).expect_err("it is full");
    assert_eq!(named.into_argument(), 4);
    (0..2).for_each(|_| gate.arrival().pass());
    handles.into_iter().for_each(|handle| handle.result().expect("it is let through"));
    let handle = pool.try_submit(|text: String| text.len(), argument).expect("there is room");
    assert_eq!(handle.result().expect("it runs"), 10);
    let handle: TaskHandle<u64> = pool.try_submit_named("double", 4_u64).expect("there is room");
    assert_eq!(handle.result().expect("it runs"), 8);
    let refused = pool.try_submit(|whim: Whim| whim, Whim::when_encoded(Act::Refuse));
    match refused.expect_err("it would not be encoded") {
        TrySubmitError::Refused(whim, SubmitError::Codec(_)) => assert_eq!(whim, Whim::when_encoded(Act::Refuse)),
        other => panic!("{other:?}"),
    }
    pool.shutdown(Shutdown::default());
    assert!(matches!(pool.try_submit(same, 1), Err(TrySubmitError::Refused(1, SubmitError::ShutDown))));
}

pub(crate) fn who_waits_for_room_is_told_of_a_shutdown(subject: &Subject) {
    let gate = Gate::new();
    let (pool, handles) = full(subject, &gate);
    let visitor = gate.arrival();
    let mut submission = pin!(pool.submit_async(same, 1));
    let woken = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(submission.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    thread::scope(|scope| {
        let waits = scope.spawn(|| pool.submit(same, 7));
        assert!(!handles[1].wait_timeout(LONG));
        pool.shutdown(Shutdown { wait: false, ..Shutdown::default() });
        assert!(matches!(waits.join().expect("no panic"), Err(SubmitError::ShutDown)));
    });
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    let told = submission.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(matches!(told, Poll::Ready(Err(SubmitError::ShutDown))));
    visitor.pass();
    gate.arrival().pass();
    handles.into_iter().for_each(|handle| handle.result().expect("it was accepted"));
}

pub(crate) fn who_waits_for_room_is_told_that_the_pool_broke(subject: &Subject) {
    let builder = subject.builder().max_workers(1).max_pending(1);
    let pool = builder.on_worker_loss(process_pool::OnWorkerLoss::Break).build().expect("a pool");
    let gate = Gate::new();
    let leaves = |(port, code)| {
        wait_at(port);
        exit(code);
    };
    let fatal = submit(&pool, leaves, (gate.port(), 3));
    let visitor = gate.arrival();
    thread::scope(|scope| {
        let waits = scope.spawn(|| pool.submit(same, 7));
        assert!(!fatal.wait_timeout(LONG));
        visitor.pass();
        assert!(matches!(waits.join().expect("no panic"), Err(SubmitError::Broken(_))));
    });
    assert!(fatal.result().is_err());
}

/// Room does not depend on callbacks, so they may wait for it.
pub(crate) fn a_callback_may_wait_for_room(subject: &Subject) {
    let pool = Arc::new(bounded(subject, 1, 1));
    let (sender, results) = mpsc::channel();
    let first = submit(&pool, same, 0);
    let shared = Arc::clone(&pool);
    first.add_done_callback(move |_| {
        for n in 1..20 {
            let _ = sender.send(submit(&shared, same, n));
        }
    });
    for n in 1..20 {
        let handle = results.recv_timeout(PATIENCE).expect("submitted");
        assert_eq!(handle.result().expect("it runs"), n);
    }
}

/// A waker runs where room may have to come from: it is refused, and nothing hangs.
pub(crate) fn a_waker_does_not_wait_for_room(subject: &Subject) {
    struct Greedy(Arc<Executor>, Mutex<mpsc::Sender<Result<TaskHandle<u64>, SubmitError>>>);
    impl Wake for Greedy {
        fn wake(self: Arc<Self>) {
            let results: Vec<_> = (0..3).map(|n| self.0.submit(same, n)).collect();
            let sender = self.1.lock().expect("no panic");
            results.into_iter().for_each(|result| sender.send(result).expect("it is waited for"));
        }
    }
    let (pool, gate) = (Arc::new(bounded(subject, 1, 1)), Gate::new());
    let (sender, results) = mpsc::channel();
    let mut handle = pin!(submit(&pool, wait_at, gate.port()));
    let waker = Waker::from(Arc::new(Greedy(Arc::clone(&pool), Mutex::new(sender))));
    assert!(handle.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    gate.arrival().pass();
    let results: Vec<_> = (0..3).map(|_| results.recv_timeout(PATIENCE).expect("no waker hangs")).collect();
    for (n, result) in (0..).zip(results) {
        match result {
            Ok(handle) => assert_eq!(handle.result().expect("it runs"), n),
            Err(SubmitError::Full(1)) => assert_ne!(n, 0, "the call that is settled has made room"),
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(run(&pool, same, 7), 7);
}

pub(crate) fn a_map_stays_within_the_bound_of_its_pool(subject: &Subject) {
    let pool = bounded(subject, 2, 3);
    let most = AtomicUsize::new(0);
    let inputs = (0..300).inspect(|_| {
        most.fetch_max(pool.pending(), Ordering::Relaxed);
    });
    let results: Vec<_> = pool.map(same, inputs).chunksize(1).map(|result| result.expect("it runs")).collect();
    assert_eq!(results, (0..300).collect::<Vec<_>>());
    assert!(most.load(Ordering::Relaxed) <= 3, "{most:?} were pending");
    let mut results: Vec<_> = pool.map(same, 0..300).unordered().map(|result| result.expect("it runs")).collect();
    results.sort_unstable();
    assert_eq!(results, (0..300).collect::<Vec<_>>());
}

pub(crate) fn a_map_waits_for_room_until_its_timeout(subject: &Subject) {
    let gate = Gate::new();
    let (pool, handles) = full(subject, &gate);
    let results: Vec<_> = pool.map(same, 0..10).timeout(LONG).collect();
    assert!(matches!(results[..], [Err(TaskError::MapTimedOut(LONG))]), "{results:?}");
    gate.arrival().pass();
    gate.arrival().pass();
    handles.into_iter().for_each(|handle| handle.result().expect("it is let through"));
    assert_eq!(pool.map(same, 0..10).filter_map(Result::ok).count(), 10);
}

pub(crate) fn tasks_wait_for_room_and_their_threads_do_not(subject: &Subject) {
    let pool = bounded(subject, 2, 3);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let results = runtime.block_on(async {
        let calls = (0..200_u64).map(|n| {
            let submission = pool.submit_async(same, n);
            tokio::spawn(async move { submission.await.expect("accepted").await })
        });
        let mut results = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            results.push(call.await.expect("no panic").expect("it runs"));
        }
        results
    });
    assert_eq!(results, (0..200).collect::<Vec<_>>());
}

/// Whoever waits in whatever way, gives up or is refused: everybody else gets through, and nothing is left.
pub(crate) fn random_waits_lose_no_place(subject: &Subject) {
    let pool = bounded(subject, 2, 2);
    let accepted = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..6_u64 {
            let (pool, accepted) = (&pool, &accepted);
            scope.spawn(move || {
                let mut random = xtests::random::Random::new(thread + 1);
                for n in 0..150 {
                    match random.below(4) {
                        0 => drop(pool.try_submit(same, n)),
                        1 => {
                            let mut submission = pin!(pool.submit_async(same, n));
                            let polled = submission.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                            accepted.fetch_add(usize::from(polled.is_ready()), Ordering::Relaxed);
                        }
                        _ => drop(submit(pool, same, n)),
                    }
                }
            });
        }
    });
    eventually("all are done", || pool.pending() == 0);
    let handles: Vec<_> = (0..2).map(|n| pool.try_submit(same, n).expect("every place is free")).collect();
    assert!(handles.into_iter().all(|handle| handle.result().is_ok()));
}
