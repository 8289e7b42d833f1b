//! What a call costs its parent in allocations: its own, and no other.

mod sys;

use process_pool::{Executor, TaskHandle};
use sys::allocations;
use xtests::calls::submit;
use xtests::cases;
use xtests::gate::{Gate, wait_at};
use xtests::runner::{self, Case, Subject, skip};

const CASES: &[Case] = cases![a_pending_call_takes_one_allocation, a_call_and_its_result_take_one_allocation];

fn main() {
    process_pool::init();
    runner::main(CASES);
}

const CALLS: u64 = 20_000;

fn noop(n: u64) -> u64 {
    n
}

/// Has the tables grown and the buffers made.
fn warm(pool: &Executor) {
    let calls: Vec<_> = (0..CALLS).map(|n| submit(pool, noop, n)).collect();
    assert!(calls.into_iter().map(TaskHandle::result).all(|result| result.is_ok()));
}

fn a_pending_call_takes_one_allocation(subject: &Subject) {
    let pool = subject.builder().max_workers(1).build().expect("a pool");
    warm(&pool);
    let gate = Gate::new();
    let held = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    let mut calls = Vec::with_capacity(CALLS as usize);

    let before = allocations();
    for n in 0..CALLS {
        calls.push(submit(&pool, noop, n));
    }
    let taken = allocations() - before;

    drop(visitor);
    assert!(held.result().is_ok());
    let results: Result<Vec<_>, _> = calls.into_iter().map(TaskHandle::result).collect();
    assert_eq!(results.expect("results"), (0..CALLS).collect::<Vec<_>>());
    // The first few are sent ahead. That a table grows is seldom.
    assert!(taken < CALLS as usize + 200, "{taken} allocations for {CALLS} pending calls");
}

fn a_call_and_its_result_take_one_allocation(subject: &Subject) {
    if subject.transport() == "ipc" {
        skip("ipc-channel allocates for every message");
    }
    if !cfg!(target_os = "linux") {
        skip(
            "calls that cannot be taken back come one by one, and what a batch of results takes, each one takes then",
        );
    }
    let pool = subject.builder().max_workers(2).build().expect("a pool");
    warm(&pool);
    let mut calls = Vec::with_capacity(CALLS as usize);

    let before = allocations();
    for n in 0..CALLS {
        calls.push(submit(&pool, noop, n));
    }
    for (n, call) in (0..).zip(calls) {
        assert_eq!(call.result().expect("a result"), n);
    }
    let taken = allocations() - before;

    // Some more for every run of results that come together: how many those are is a matter of time.
    assert!(taken < CALLS as usize + CALLS as usize / 2, "{taken} allocations for {CALLS} calls");
}
