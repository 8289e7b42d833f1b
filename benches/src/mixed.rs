//! Calls of 1 µs, nine of ten, and calls of 50 ms, all submitted at once. The figure is how many times as long
//! it took as the ideal schedule, in which each call goes to the worker that is free first, and nothing else
//! takes time.
//!
//! The long calls wait (as for a disk), so that they take as long on a loaded machine.

use crate::calls::{Pool, warm, with_pool};
use crate::meter::Stretch;
use crate::table::{Case, Figures, Goal, Of, at_most};
use crate::{Result, Scale, WORKERS, Workload, cpython};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "mixed",
    title: "Mixed: 90 % calls of 1 µs, 10 % of 50 ms; 2 workers",
    cases: &[Case { name: "schedule", unit: "× the ideal one" }],
    goals: &[Goal { case: "schedule", who: "", must: &[at_most(1.1, Of::Unit)], aim: &[] }],
    others: &["cpython", "cpython/Pool", "procspawn", "threads/crossbeam", "threads/rayon"],
    yardsticks: &["cpython", "threads/crossbeam"],
    counts_system_calls: false,
    measure,
};

const LONG_US: u64 = 50_000;

fn measure(subject: &str, scale: Scale) -> Result<Figures> {
    let calls = scale.of(1000, 200);
    match with_pool!(subject, schedule(subject, calls)) {
        Some(figures) => figures,
        None => cpython::measure(subject, "mixed", scale),
    }
}

/// How long each call takes: the same in each run, and in `cpython.py`.
fn microseconds(calls: usize) -> Vec<u64> {
    let mut state: u64 = 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if (state >> 33).is_multiple_of(10) { LONG_US } else { 1 }
    };
    (0..calls).map(|_| next()).collect()
}

fn schedule<P: Pool>(subject: &str, calls: usize) -> Result<Figures> {
    let mut figures = Figures::default();
    let pool = P::new(WORKERS, subject)?;
    warm(&pool, 1000)?;
    let times = microseconds(calls);
    let stretch = Stretch::of(|| {
        let mut pending = std::collections::VecDeque::new();
        for us in &times {
            if pending.len() == P::PENDING_MAX
                && let Some(oldest) = pending.pop_front()
            {
                P::result(oldest)?;
            }
            pending.push_back(pool.work(*us)?);
        }
        pending.into_iter().try_for_each(|handle| P::result(handle).map(drop))
    })?;
    figures.push("schedule", stretch.seconds / ideal(&times));
    stretch.costs(&mut figures, "schedule", calls);
    Ok(figures)
}

/// In seconds.
fn ideal(times: &[u64]) -> f64 {
    let mut free_at = [0; WORKERS];
    for us in times {
        if let Some(first) = free_at.iter_mut().min() {
            *first += us;
        }
    }
    free_at.into_iter().max().unwrap_or(0) as f64 / 1e6
}
