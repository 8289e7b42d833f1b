//! `test_deadlock.py`: whatever a call does to its worker, nobody waits for ever.

use std::time::{Duration, Instant};

use process_pool::{Bytes, Executor, Shutdown, TaskError};
use xtests::gate::{Gate, wait_at};
use xtests::runner::{Subject, kill_if_there};

use crate::tools::{eventually, run, same, submit};

/// Far more than a pipe holds.
const LARGE: usize = 8 << 20;

fn gives((port, n): (u16, u8)) -> Bytes {
    wait_at(port);
    Bytes(vec![n; LARGE])
}

fn is_right(bytes: &Bytes, n: u8) -> bool {
    bytes.len() == LARGE && bytes.first() == Some(&n) && bytes[1..] == bytes[..LARGE - 1]
}

/// How long a worker takes from the gate to the last byte of its answer here.
fn usual(pool: &Executor) -> Duration {
    let gate = Gate::new();
    let large = submit(pool, gives, (gate.port(), 1));
    gate.arrival().pass();
    let start = Instant::now();
    large.wait();
    let taken = start.elapsed();
    assert!(is_right(&large.result().expect("a result"), 1));
    taken
}

/// Kills the worker so long after it was let through the gate. Whether its answer was whole.
fn round(pool: &Executor, n: u8, patience: Duration, before: impl FnOnce()) -> bool {
    let gate = Gate::new();
    let large = submit(pool, gives, (gate.port(), n));
    let next = submit(pool, same, n.into());
    let visitor = gate.arrival();
    let worker = visitor.pid;
    before();
    visitor.pass();
    // The moment is what is tried out here, so it is waited for by the clock.
    let start = Instant::now();
    while start.elapsed() < patience {
        std::hint::spin_loop();
    }
    kill_if_there(worker);
    let is_whole = match large.result() {
        Ok(bytes) => {
            assert!(is_right(&bytes, n), "half a result is none");
            true
        }
        Err(TaskError::WorkerLost(lost)) => {
            assert_eq!(lost.pid, Some(worker));
            false
        }
        Err(error) => panic!("{error:?}"),
    };
    match next.result() {
        Ok(result) => assert_eq!(result, n.into()),
        Err(TaskError::WorkerLost(_)) => assert!(is_whole, "one death costs one call"),
        Err(error) => panic!("{error:?}"),
    }
    // Or the next call may be sent to it, where nobody can take it back.
    eventually("its end is known", || !pool.worker_pids().contains(&worker));
    is_whole
}

/// D6, D13; CPython: `test_crash_big_data`, of a result. The kill meets every stage of the answer.
pub(crate) fn crash_during_a_large_result(subject: &Subject) {
    let pool = subject.pool(1);
    let usual = usual(&pool);
    let whole = (0..40).filter(|n| round(&pool, *n, usual * u32::from(*n) / 20, || {})).count();
    println!("{whole} of 40 were whole; usually it takes {usual:?}");
    assert_eq!(run(&pool, same, 5), 5);
    assert!(pool.broken().is_none());
}

/// The same while a shutdown waits for it: CPython's `test_shutdown_deadlock`.
pub(crate) fn crash_during_a_large_result_after_shutdown(subject: &Subject) {
    let usual = usual(&subject.pool(1));
    for n in 1..6 {
        let pool = subject.pool(1);
        let shut_down = || pool.shutdown(Shutdown { wait: false, cancel_futures: false });
        round(&pool, n, usual * u32::from(n) / 4, shut_down);
    }
}
