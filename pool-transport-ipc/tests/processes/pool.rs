//! A pool whose calls go this way.

use std::time::Instant;

use pool_core::{Bytes, Executor, TaskError};

use crate::harness::{Case, eventually};

pub(crate) fn all() -> Vec<Case> {
    vec![
        ("a_thousand_calls", a_thousand_calls),
        ("a_killed_worker_costs_one_call_and_is_replaced", a_killed_worker_costs_one_call_and_is_replaced),
        ("sixty_four_mebibytes_go_both_ways", sixty_four_mebibytes_go_both_ways),
        ("a_dropped_pool_leaves_nothing", a_dropped_pool_leaves_nothing),
    ]
}

pub(crate) fn pool(workers: usize) -> Executor {
    let context: pool_core::Context = "exec+ipc".parse().expect("known names");
    Executor::builder().max_workers(workers).context(context).build().expect("a pool")
}

fn square(n: u64) -> u64 {
    n * n
}

fn a_thousand_calls() {
    let pool = pool(2);
    assert_eq!(pool.context(), "exec+ipc");
    let start = Instant::now();
    let handles: Vec<_> = (0..1000).map(|n| pool.submit(square, n).expect("accepted")).collect();
    for (n, handle) in (0..).zip(handles) {
        assert_eq!(handle.result().expect("a result"), n * n);
    }
    println!("1,000 calls, two workers and their start included: {:.2?}", start.elapsed());
}

fn a_killed_worker_costs_one_call_and_is_replaced() {
    let pool = pool(2);
    for n in 0..100 {
        let lost = pool.submit(|()| std::process::abort(), ()).expect("accepted");
        let good = pool.submit(square, n).expect("accepted");
        let lost: Result<(), TaskError> = lost.result();
        assert!(matches!(lost, Err(TaskError::WorkerLost(_))), "{lost:?}");
        assert_eq!(good.result().expect("a result"), n * n);
        if n == 4 {
            break;
        }
    }
    assert!(pool.broken().is_none());
}

fn sixty_four_mebibytes_go_both_ways() {
    let pool = pool(2);
    let bytes: Vec<u8> = (0..64 << 20).map(|i: u32| (i ^ (i >> 9)) as u8).collect();
    let invert = |bytes: Bytes| bytes.iter().map(|byte| !byte).collect::<Bytes>();
    // Two at once: each worker sends while the parent sends to the other.
    let handles = [0, 1].map(|_| pool.submit(invert, bytes.clone().into()).expect("accepted"));
    for handle in handles {
        let inverted = handle.result().expect("a result");
        assert!(inverted.iter().zip(&bytes).all(|(a, b)| *a == !*b) && inverted.len() == bytes.len());
    }
}

fn a_dropped_pool_leaves_nothing() {
    for _ in 0..3 {
        let pool = pool(2);
        let handles: Vec<_> = (0..100).map(|n| pool.submit(square, n).expect("accepted")).collect();
        drop(pool);
        assert!(handles.into_iter().all(|handle| handle.result().is_ok()), "drop finishes what was submitted");
        #[cfg(target_os = "linux")]
        {
            eventually("no link has a thread", || crate::linux::threads_named("pool-ipc") == 0);
            eventually("no descriptor is left", || crate::linux::sockets() == 0);
        }
        eventually("the temporary directory is empty", || {
            cfg!(windows) || crate::harness::entries(&std::env::temp_dir()).is_empty()
        });
    }
}
