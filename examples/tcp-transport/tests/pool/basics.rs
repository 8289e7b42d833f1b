//! What a pool does over any transport.

use process_pool::{Bytes, TaskError, available};
use xtests::cases;
use xtests::gate::{Gate, wait_at};
use xtests::runner::{Case, Subject, kill_if_there};

use crate::kit::{eventually, file, lost, settled, trace, traces};

pub(crate) const CASES: &[Case] = cases![
    the_transport_is_known_by_its_name,
    calls_and_results_go_both_ways,
    functions_and_named_tasks_run_and_a_panic_costs_its_call_only,
    sixty_four_mebibytes_travel_both_ways,
    what_waits_behind_a_long_call_can_be_cancelled,
    a_killed_worker_costs_its_call_only,
    no_call_runs_twice_while_workers_are_killed,
];

fn the_transport_is_known_by_its_name(subject: &Subject) {
    assert!(available().contains(&subject.context) && subject.transport() == "tcp");
    let pool = subject.pool(1);
    assert_eq!(pool.context(), subject.context);
    assert_eq!(settled(&pool.submit(|n: u64| n + 1, 1).expect("taken")).expect("a result"), 2);
}

fn calls_and_results_go_both_ways(subject: &Subject) {
    let pool = subject.pool(2);
    // Each takes some 17 ms under Wine.
    let count = if cfg!(windows) { 200 } else { 2000 };
    let squares: Result<Vec<_>, _> = pool.map(|n: u64| n * n, 0..count).collect();
    assert_eq!(squares.expect("results"), (0..count).map(|n| n * n).collect::<Vec<_>>());
}

fn functions_and_named_tasks_run_and_a_panic_costs_its_call_only(subject: &Subject) {
    let pool = subject.pool(1);
    let double = pool.submit_named::<u64, u64>("double", 21).expect("taken");
    assert_eq!(settled(&double).expect("a result"), 42);
    let pid = settled(&pool.submit(|()| std::process::id(), ()).expect("taken")).expect("a result");
    let panic = pool.submit(|()| -> u32 { panic!("on purpose") }, ()).expect("taken");
    assert!(matches!(settled(&panic), Err(TaskError::Panicked(panic)) if panic.message == "on purpose"));
    let again = settled(&pool.submit(|()| std::process::id(), ()).expect("taken"));
    assert_eq!(again.expect("a result"), pid);
}

fn sixty_four_mebibytes_travel_both_ways(subject: &Subject) {
    fn turned(bytes: Bytes) -> Bytes {
        bytes.iter().map(|byte| byte.wrapping_add(1)).collect()
    }
    let pool = subject.pool(2);
    let large: Vec<u8> = (0..64_u32 << 20).map(|n| (n ^ (n >> 9)) as u8).collect();
    let call = pool.submit(turned, large.clone().into()).expect("taken");
    let back = settled(&call).expect("a result");
    assert!(back.len() == large.len() && back.iter().zip(&large).all(|(b, a)| *b == a.wrapping_add(1)));
}

/// The link can tell that a call has not started, wherever its frame is.
fn what_waits_behind_a_long_call_can_be_cancelled(subject: &Subject) {
    let (pool, gate, path) = (subject.pool(1), Gate::new(), file(&subject.dir));
    pool.map(|n: u64| n, 0..100).for_each(drop);
    let long = pool.submit(wait_at, gate.port()).expect("taken");
    let others: Vec<_> = (0..50).map(|n| pool.submit(trace, (path.clone(), n, None)).expect("taken")).collect();
    let visitor = gate.arrival();
    assert!(long.running() && !long.cancel());
    assert!(others.iter().all(|other| other.cancel()));
    visitor.pass();
    settled(&long).expect("it was not touched");
    assert_eq!(traces(&path), [0_u64; 0]);
}

fn a_killed_worker_costs_its_call_only(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let call = pool.submit(wait_at, gate.port()).expect("taken");
    let visitor = gate.arrival();
    let next = pool.submit(|n: u64| n, 3).expect("taken");
    assert!(kill_if_there(visitor.pid));
    let lost = lost(settled(&call));
    assert_eq!(lost.pid, Some(visitor.pid));
    assert_eq!(settled(&next).expect("a result"), 3);
}

fn no_call_runs_twice_while_workers_are_killed(subject: &Subject) {
    let (pool, path) = (subject.pool(2), file(&subject.dir));
    let mut done = Vec::new();
    for round in 0..10 {
        let calls: Vec<_> =
            (0..40).map(|n| pool.submit(trace, (path.clone(), round * 40 + n, None)).expect("taken")).collect();
        eventually("a worker runs", || !pool.worker_pids().is_empty());
        // It may have gone by itself, since it is killed at any moment.
        pool.worker_pids().first().map(|pid| kill_if_there(*pid));
        for (n, call) in (round * 40..).zip(calls) {
            match settled(&call) {
                Ok(_) => done.push(n),
                Err(error) => drop(lost::<u32>(Err(error))),
            }
        }
    }
    let ran = traces(&path);
    assert!(ran.windows(2).all(|pair| pair[0] != pair[1]), "each at most once: {ran:?}");
    assert!(done.iter().all(|n| ran.contains(n)), "and those with a result once");
    assert!(done.len() >= 380, "a death costs one call at most: {}", done.len());
}
