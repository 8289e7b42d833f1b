//! Many things at once: races, fairness, pressure.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock, mpsc};

use process_pool::{Bytes, Executor, ReturnWhen, TaskError, TaskHandle, wait};
use xtests::calls::{same, submit};
use xtests::gate::{Gate, PATIENCE, wait_at};
use xtests::processes::eventually;
use xtests::runner::{Subject, skip};

/// Submits from eight threads until the pool is taken away at half time; what was accepted.
fn submit_until_it_goes(pool: Executor, take: impl FnOnce(Executor) + Send) -> Vec<(u64, TaskHandle<u64>)> {
    let shared = RwLock::new(Some(pool));
    let accepted = Mutex::new(Vec::new());
    let tried = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (shared, accepted, tried) = (&shared, &accepted, &tried);
            scope.spawn(move || {
                for n in (0..3_000).skip(thread).step_by(8) {
                    tried.fetch_add(1, Ordering::Relaxed);
                    let guard = shared.read().expect("no panic");
                    let Some(pool) = &*guard else { return };
                    if let Ok(handle) = pool.submit(same, n as u64) {
                        accepted.lock().expect("no panic").push((n as u64, handle));
                    }
                }
            });
        }
        eventually("half is submitted", || tried.load(Ordering::Relaxed) >= 1_500);
        let pool = shared.write().expect("no panic").take().expect("it is there");
        take(pool);
    });
    accepted.into_inner().expect("no panic")
}

/// S12, D41: whatever was accepted settles; a drop finishes it.
pub(crate) fn a_drop_amid_three_thousand_submits_settles_all(subject: &Subject) {
    let accepted = submit_until_it_goes(subject.pool(2), drop);
    assert!(accepted.len() >= 1_400);
    for (n, handle) in accepted {
        assert_eq!(handle.result().expect("a drop finishes what was submitted"), n);
    }
}

pub(crate) fn a_kill_amid_three_thousand_submits_settles_all(subject: &Subject) {
    let accepted = submit_until_it_goes(subject.pool(2), |pool| {
        pool.kill_workers();
        drop(pool);
    });
    for (n, handle) in accepted {
        match handle.result() {
            Ok(result) => assert_eq!(result, n),
            Err(error) => assert!(matches!(error, TaskError::Cancelled | TaskError::WorkerLost(_)), "{error:?}"),
        }
    }
}

/// Refused or settled: a pool that is shut down while eight threads submit to it, without a lock.
pub(crate) fn a_shutdown_amid_submits_accepts_or_refuses(subject: &Subject) {
    let pool = subject.pool(2);
    let started = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (pool, started) = (&pool, &started);
            scope.spawn(move || {
                let mut handles = Vec::new();
                for n in 0.. {
                    started.fetch_add(1, Ordering::Relaxed);
                    match pool.submit(same, n) {
                        Ok(handle) => handles.push((n, handle)),
                        Err(_) => break,
                    }
                }
                for (n, handle) in handles {
                    assert_eq!(handle.result().expect("accepted, so finished"), n);
                }
            });
        }
        eventually("they are at it", || started.load(Ordering::Relaxed) > 500);
        pool.shutdown(process_pool::Shutdown::default());
    });
}

/// A long call delays nobody: what is submitted after it overtakes it.
pub(crate) fn a_thousand_calls_finish_while_one_blocks(subject: &Subject) {
    let (pool, gate) = (subject.pool(2), Gate::new());
    let long = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    let tiny: Vec<_> = (0..1_000).map(|n| submit(&pool, same, n)).collect();
    for (n, handle) in (0..).zip(tiny) {
        assert_eq!(handle.result().expect("a result"), n);
    }
    assert!(!long.done());
    visitor.pass();
    long.result().expect("a result");
}

/// The same, with the long call amid tiny ones that were sent ahead: those behind it are taken back and go
/// to the other worker.
pub(crate) fn calls_sent_behind_a_long_one_move_to_another_worker(subject: &Subject) {
    takes_back(subject);
    let (pool, gate) = (subject.pool(2), Gate::new());
    for _ in 0..5 {
        let before: Vec<_> = (0..500).map(|n| submit(&pool, same, n)).collect();
        let long = submit(&pool, wait_at, gate.port());
        let after: Vec<_> = (0..500).map(|n| submit(&pool, same, n)).collect();
        for handle in before.into_iter().chain(after) {
            handle.result().expect("a result");
        }
        assert!(!long.done());
        gate.arrival().pass();
        long.result().expect("a result");
    }
}

/// Skips the case where what waits at a worker waits there for good.
fn takes_back(subject: &Subject) {
    if subject.caps().revocable.is_none() {
        skip("this transport cannot take back a call that was sent ahead");
    }
}

/// The same again, where all that follows is already sent and nothing new comes to shake things up.
pub(crate) fn a_single_call_behind_a_long_one_moves_to_another_worker(subject: &Subject) {
    takes_back(subject);
    let (pool, gate) = (subject.pool(2), Gate::new());
    for _ in 0..20 {
        let long = submit(&pool, wait_at, gate.port());
        let tiny = [submit(&pool, same, 1), submit(&pool, same, 2), submit(&pool, same, 3)];
        assert!(tiny.into_iter().all(|handle| handle.result().is_ok()));
        gate.arrival().pass();
        long.result().expect("a result");
    }
}

/// They take a while to arrive: a worker that has not begun with one is not held up.
pub(crate) fn large_calls_that_are_on_their_way_stay_there(subject: &Subject) {
    let pool = subject.pool(2);
    // So that calls are believed to be short.
    let short: Vec<_> = (0..500).map(|n| submit(&pool, same, n)).collect();
    assert!(short.into_iter().map(TaskHandle::result).all(|result| result.is_ok()));
    let blob = Bytes::from(vec![7; 32 << 20]);
    for _ in 0..3 {
        let calls = [(); 2].map(|()| submit(&pool, |blob: Bytes| blob.len(), blob.clone()));
        for call in calls {
            let len = call.result_timeout(PATIENCE).expect("it has an end").expect("a result");
            assert_eq!(len, blob.len());
        }
    }
}

/// All workers are blocked; the first that is let go runs all the rest, wherever it was waiting.
pub(crate) fn blocked_workers_hand_their_calls_on(subject: &Subject) {
    takes_back(subject);
    let (pool, gate) = (subject.pool(3), Gate::new());
    let tiny: Vec<_> = (0..300).map(|n| submit(&pool, same, n)).collect();
    let long: Vec<_> = (0..3).map(|_| submit(&pool, wait_at, gate.port())).collect();
    let mut visitors = gate.arrivals(3);
    let more: Vec<_> = (0..300).map(|n| submit(&pool, same, n)).collect();
    visitors.pop().expect("three").pass();
    assert!(tiny.into_iter().chain(more).all(|handle| handle.result().is_ok()));
    drop(visitors);
    assert!(long.into_iter().all(|handle| handle.result().is_ok()));
}

/// CPython: `test_gh105829_should_not_deadlock_if_wakeup_pipe_full`: submits never wait for anybody.
pub(crate) fn twenty_thousand_submits_do_not_wait_for_a_blocked_worker(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let long = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    let handles: Vec<_> = (0..20_000).map(|n| submit(&pool, same, n)).collect();
    assert_eq!(pool.pending(), 20_001);
    visitor.pass();
    for (n, handle) in (0..).zip(handles) {
        assert_eq!(handle.result().expect("a result"), n);
    }
    long.result().expect("a result");
}

/// Waiters that drive links, waiters that sleep, and those who wait for many: together.
pub(crate) fn many_threads_go_back_and_forth(subject: &Subject) {
    let pool = subject.pool(2);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let pool = &pool;
            scope.spawn(move || {
                for n in 0..200 {
                    let handle = submit(pool, same, n);
                    match thread % 3 {
                        0 => assert_eq!(handle.result().expect("a result"), n),
                        1 => {
                            let handles = [handle, submit(pool, same, n)];
                            let waited = wait(&handles, ReturnWhen::AllCompleted, Some(PATIENCE));
                            assert_eq!(waited.done.len(), 2);
                        }
                        _ => assert_eq!(futures_lite::future::block_on(handle).expect("a result"), n),
                    }
                }
            });
        }
    });
}

/// Callbacks of thousands of calls run, each once, while others come.
pub(crate) fn each_of_five_thousand_callbacks_runs_once(subject: &Subject) {
    let pool = subject.pool(2);
    let (sender, said) = mpsc::channel();
    for n in 0..5_000_u64 {
        let sender = sender.clone();
        submit(&pool, same, n).add_done_callback(move |_| sender.send(n).expect("the case listens"));
    }
    drop(sender);
    let mut heard: Vec<_> = said.iter().collect();
    heard.sort_unstable();
    assert_eq!(heard, (0..5_000).collect::<Vec<_>>());
}

/// The last owner goes in whichever thread comes last.
pub(crate) fn a_pool_is_shared_by_threads_and_dropped_by_the_last(subject: &Subject) {
    let pool = Arc::new(subject.pool(2));
    let threads: Vec<_> = (0..4_u64)
        .map(|thread| {
            let pool = Arc::clone(&pool);
            std::thread::spawn(move || (0..100).map(|n| submit(&pool, same, thread * n)).collect::<Vec<_>>())
        })
        .collect();
    drop(pool);
    for thread in threads {
        assert!(thread.join().expect("no panic").into_iter().all(|handle| handle.result().is_ok()));
    }
}

/// Calls may wait for older ones: in a pool with two workers, what is behind a call without end runs before
/// what is newer.
pub(crate) fn a_call_is_not_tied_up_behind_a_workers_first(subject: &Subject) {
    for _ in 0..10 {
        let (pool, gate) = (subject.pool(2), Gate::new());
        let long = submit(&pool, wait_at, gate.port());
        let older = submit(&pool, same, 7);
        let newer: Vec<_> = (0..10).map(|_| submit(&pool, wait_at, gate.port())).collect();
        assert!(matches!(older.result_timeout(PATIENCE), Some(Ok(7))), "it waits behind newer ones");
        drop(gate);
        assert!(newer.into_iter().chain([long]).all(|handle| handle.result().is_ok()));
    }
}

/// The same with workers that are warm and busy, so that calls are sent ahead to both.
pub(crate) fn an_older_call_starts_before_newer_ones(subject: &Subject) {
    for n in 0..20 {
        let (pool, gate, short_gate) = (subject.pool(2), Gate::new(), Gate::new());
        let tiny: Vec<_> = (0..500).map(|n| submit(&pool, same, n)).collect();
        assert!(tiny.into_iter().all(|handle| handle.result().is_ok()));
        let long = submit(&pool, wait_at, gate.port());
        let short = submit(&pool, wait_at, short_gate.port());
        let older = submit(&pool, same, 7);
        let newer: Vec<_> = (0..10).map(|_| submit(&pool, wait_at, gate.port())).collect();
        short_gate.arrival().pass();
        assert!(
            matches!(older.result_timeout(PATIENCE / 3), Some(Ok(7))),
            "round {n}: it waits behind newer ones"
        );
        drop(gate);
        assert!(newer.into_iter().chain([long, short]).all(|handle| handle.result().is_ok()));
    }
}
