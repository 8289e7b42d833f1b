//! Tests of loky, pebble and mpire that CPython does not have.

use std::time::Duration;

use process_pool::{Bytes, Executor, OnWorkerLoss, TaskError, TaskHandle};
use xtests::calls::{exit, lost, run, same, submit};
use xtests::gate::{Gate, wait_at};
use xtests::runner::Subject;

use crate::programs;

/// loky: `test_processes_crash_handling_after_executor_gc`.
pub(crate) fn processes_crash_handling_after_executor_drop(subject: &Subject) {
    let (pool, gate) = (subject.pool(2), Gate::new());
    let running: Vec<_> = (0..2).map(|_| submit(&pool, wait_at, gate.port())).collect();
    let visitors = gate.arrivals(2);
    let fatal: Vec<_> = [0, 1, 9].map(|code| submit(&pool, exit, code)).into();
    let last: Vec<_> = (0..10).map(|n| submit(&pool, same, n)).collect();
    let dropping = std::thread::spawn(move || drop(pool));
    drop(visitors);
    for handle in fatal {
        lost(handle.result());
    }
    assert!(running.into_iter().all(|handle| handle.result().is_ok()));
    assert!((0..).zip(last).all(|(n, handle)| handle.result().is_ok_and(|result| result == n)));
    dropping.join().expect("it ends");
}

/// pebble: `stop_large_data`, in both directions.
pub(crate) fn stop_large_data(subject: &Subject) {
    for terminate in [false, true] {
        let pool = subject.pool(2);
        let handles: Vec<_> =
            (0..8_u8).map(|n| submit(&pool, |bytes: Bytes| bytes, Bytes::from(vec![n; 8 << 20]))).collect();
        handles[0].wait();
        if terminate {
            pool.terminate_workers();
        } else {
            pool.kill_workers();
        }
        for (n, handle) in handles.into_iter().enumerate() {
            match handle.result() {
                Ok(bytes) => assert!(bytes.len() == 8 << 20 && bytes[0] == n as u8),
                Err(error) => {
                    assert!(matches!(error, TaskError::Cancelled | TaskError::WorkerLost(_)), "{error:?}")
                }
            }
        }
    }
}

fn wait_if((port, n): (u16, u64)) -> u64 {
    if port != 0 {
        wait_at(port);
    }
    n
}

/// pebble: `map_timeout_chunks`. The chunk that is late is missing as a whole, and so is all that follows.
pub(crate) fn map_timeout_chunks(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let inputs = [(0, 0), (0, 1), (0, 2), (gate.port(), 3), (0, 4), (0, 5)];
    let timeout = Duration::from_millis(500);
    // The worker is up: a start takes its time.
    assert_eq!(run(&pool, same, 1), 1);
    let mut map = pool.map(wait_if, inputs).chunksize(2).timeout(timeout).start().expect("accepted");
    let visitor = gate.arrival();
    assert!(matches!(map.next(), Some(Ok(0))));
    assert!(matches!(map.next(), Some(Ok(1))));
    assert!(matches!(map.next(), Some(Err(TaskError::MapTimedOut(limit))) if limit == timeout));
    assert!(map.next().is_none());
    visitor.pass();
    assert_eq!(run(&pool, same, 1), 1);
}

/// pebble: `map_broken_pool`. Every input that was taken has its error.
pub(crate) fn map_broken_pool(subject: &Subject) {
    let builder = subject.builder().max_workers(1).on_worker_loss(OnWorkerLoss::Break);
    let pool = builder.build().expect("a pool");
    let fatal = |n: u64| if n == 3 { std::process::exit(5) } else { n };
    let results: Vec<_> = pool.map(fatal, 0..8).buffersize(8).collect();
    assert_eq!(results.len(), 8);
    assert!(matches!(results[..3], [Ok(0), Ok(1), Ok(2)]), "{results:?}");
    for result in &results[3..] {
        assert!(matches!(result, Err(TaskError::Broken(broken)) if broken.to_string().contains("exit code 5")));
    }
    // One that comes too late has one error, and no more.
    assert_eq!(pool.map(same, 0..8).filter(Result::is_err).count(), 1);
}

/// S34; pebble: `child_process`. A call starts a program, and waits for it.
pub(crate) fn child_process(subject: &Subject) {
    let starts = |()| programs::printed(programs::command("says hello").output().expect("it runs"));
    let pool = subject.pool(2);
    let handles: Vec<_> = (0..4).map(|_| submit(&pool, starts, ())).collect();
    for handle in handles {
        assert_eq!(handle.result().expect("a result").trim_end(), "hello");
    }
}

/// A sum, by a pool in a call in a pool, so many deep.
fn sum_of_depths((context, depth): (String, u64)) -> u64 {
    if depth == 0 {
        return 0;
    }
    let context_here = xtests::context::named(&context);
    let pool = Executor::builder().context(context_here).max_workers(1).build().expect("a pool");
    depth + run(&pool, sum_of_depths, (context, depth - 1))
}

/// loky: `test_max_depth`; there is no limit but what the system has.
pub(crate) fn pools_in_pools_in_pools(subject: &Subject) {
    assert_eq!(sum_of_depths((subject.context.clone(), 4)), 10);
}

/// mpire#32: results beyond what a pipe holds, each the last one of its worker.
pub(crate) fn exceeding_pipe_capacity_with_worker_lifespan(subject: &Subject) {
    let pool = subject.builder().max_workers(2).max_tasks_per_child(1).build().expect("a pool");
    let handles: Vec<_> = (0..12_u8).map(|n| submit(&pool, |n: u8| Bytes::from(vec![n; 2 << 20]), n)).collect();
    for (n, handle) in (0..).zip(handles) {
        let bytes = handle.result().expect("a result");
        assert!(bytes.len() == 2 << 20 && bytes.iter().all(|byte| *byte == n));
    }
    let larger: Vec<_> =
        (0..4_u8).map(|n| submit(&pool, |bytes: Bytes| bytes, Bytes::from(vec![n; 2 << 20]))).collect();
    assert!(larger.into_iter().map(TaskHandle::result).all(|result| result.is_ok()));
}
