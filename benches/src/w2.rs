//! W2: all no-ops are submitted, then all results are asked for, through their handles. Calls per second.
//!
//! 200,000 calls; CPython gets 20,000, which does it no harm (more pending calls are not faster there). procspawn
//! has at most 250 pending, since each holds three descriptors: the oldest is waited for before the next.
//! `limit/ring` are numbers that another process takes from one ring in shared memory and puts into a second.
//!
//! W2': the same with more workers, and by several threads that submit at the same time and ask each for its own.

use std::collections::VecDeque;

use crate::calls::{Pool, warm, with_pool};
use crate::meter::Stretch;
use crate::table::{Bound, Case, Figures, Goal, Of, at_least};
use crate::{Result, Scale, WORKERS, Workload, cpython, limits, run};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "w2",
    title: "W2: no-op calls, all submitted, then all results; 2 workers",
    cases: &[Case { name: "calls", unit: "1/s" }],
    goals: &[
        Goal {
            case: "calls",
            who: "/shm+",
            must: &[at_least(100.0, Of::Subject("cpython"))],
            aim: &[at_least(1.0, Of::Subject("threads/crossbeam"))],
        },
        Goal {
            case: "calls",
            who: "/pipe+",
            must: &[at_least(40.0, Of::Subject("cpython"))],
            aim: &[at_least(100.0, Of::Subject("cpython"))],
        },
        Goal { case: "calls", who: "/pipe+", must: &[at_least(25.0, Of::Subject("procspawn"))], aim: &[] },
    ],
    others: &["cpython", "cpython/Pool", "procspawn", "threads/crossbeam", "threads/rayon", "limit/ring"],
    yardsticks: &["cpython", "limit/ring"],
    counts_system_calls: true,
    measure,
};

pub(crate) const WIDE: Workload = Workload {
    name: "w2x",
    title: "W2': as W2, with more workers, or with more threads that submit",
    cases: &[
        Case { name: "2 workers", unit: "1/s" },
        Case { name: "16 workers", unit: "1/s" },
        Case { name: "64 workers", unit: "1/s" },
        Case { name: "4 threads", unit: "1/s" },
        Case { name: "16 threads", unit: "1/s" },
    ],
    goals: &[wide("16 workers"), wide("64 workers"), wide("4 threads"), wide("16 threads")],
    others: &["cpython", "cpython/Pool", "procspawn", "threads/crossbeam", "threads/rayon"],
    yardsticks: &["cpython", "threads/crossbeam"],
    counts_system_calls: false,
    measure: measure_wide,
};

const fn wide(case: &'static str) -> Goal {
    const MUST: &[Bound] = &[at_least(0.8, Of::Case("2 workers"))];
    Goal { case, who: "", must: MUST, aim: &[] }
}

fn measure(subject: &str, scale: Scale) -> Result<Figures> {
    match with_pool!(subject, calls(subject, count(subject, scale))) {
        Some(figures) => figures,
        None if subject == "limit/ring" => {
            let mut figures = Figures::default();
            figures.push("calls", limits::measure(subject, scale.of(10_000_000, 1_000_000))?);
            Ok(figures)
        }
        None => cpython::measure(subject, "w2", scale),
    }
}

fn count(subject: &str, scale: Scale) -> usize {
    match subject {
        "procspawn" => scale.of(20_000, 2_000),
        _ => scale.of(200_000, 20_000),
    }
}

fn calls<P: Pool>(subject: &str, count: usize) -> Result<Figures> {
    let mut figures = Figures::default();
    let pool = P::new(WORKERS, subject)?;
    warm(&pool, 1000)?;
    Stretch::of(|| all(&pool, count, P::PENDING_MAX))?.rate(&mut figures, "calls", count as f64, count);
    figures.push("calls made", count as f64);
    Ok(figures)
}

fn measure_wide(subject: &str, scale: Scale) -> Result<Figures> {
    if subject.starts_with("cpython") {
        return cpython::measure(subject, "w2x", scale);
    }
    let Some((subject, case)) = subject.split_once('#') else {
        let parts = WIDTHS.iter().map(|(case, ..)| run::apart("w2x", subject, case, scale));
        return parts
            .collect::<Result<Vec<_>>>()
            .map(|parts| Figures(parts.into_iter().flat_map(|part| part.0).collect()));
    };
    let width = WIDTHS.iter().find(|(name, ..)| *name == case).ok_or("no such case")?;
    with_pool!(subject, wide_calls(subject, count(subject, scale), *width)).ok_or("no such subject")?
}

/// Each with how many workers, and how many threads that submit.
const WIDTHS: &[(&str, usize, usize)] = &[
    ("2 workers", 2, 1),
    ("16 workers", 16, 1),
    ("64 workers", 64, 1),
    ("4 threads", 2, 4),
    ("16 threads", 2, 16),
];

fn wide_calls<P: Pool + Sync>(subject: &str, count: usize, width: (&str, usize, usize)) -> Result<Figures> {
    let (case, workers, threads) = width;
    let mut figures = Figures::default();
    let pool = P::new(workers, subject)?;
    // So long that every worker is up before the last has returned.
    let long = (0..4 * workers).map(|_| pool.work(10_000)).collect::<Result<Vec<_>>>()?;
    long.into_iter().try_for_each(|handle| P::result(handle).map(drop))?;
    let each = count / threads;
    let all = || all(&pool, each, P::PENDING_MAX / threads);
    let stretch = Stretch::of(|| {
        if threads == 1 {
            return all();
        }
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(all)).collect();
            let joined = threads.into_iter().map(|thread| thread.join().expect("invariant: it has not panicked"));
            joined.collect()
        })
    })?;
    stretch.rate(&mut figures, case, (each * threads) as f64, each * threads);
    Ok(figures)
}

fn all<P: Pool>(pool: &P, count: usize, pending_max: usize) -> Result<()> {
    let mut pending = VecDeque::with_capacity(count.min(pending_max));
    let mut next = 0;
    let mut take = |handle: P::Handle<u64>| {
        let result = P::result(handle)?;
        next += 1;
        (result == next - 1).then_some(()).ok_or_else(|| "another call's result".into())
    };
    for n in 0..count as u64 {
        if pending.len() == pending_max
            && let Some(oldest) = pending.pop_front()
        {
            take(oldest)?;
        }
        pending.push_back(pool.noop(n)?);
    }
    pending.into_iter().try_for_each(take)
}
