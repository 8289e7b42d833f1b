//! W1: one caller submits a no-op, waits for its result, and submits the next. µs per call.
//!
//! The clock is looked at after every hundred calls; the figure is the median of these batches' means, so that
//! one hiccup of the machine does not count. What is measured of a call is all of it: the argument is made,
//! encoded, carried, and its result compared.
//!
//! `ours/pipe-no-spin+exec` waits in the kernel at once, on both sides, as `limit/pipe` does: two processes that
//! send 64 bytes to and fro over two pipes. `limit/pipe-apart` are the same, bound to a processor each, and
//! `limit/shm` two that look at words in shared memory, for 20 µs before they sleep.

use std::time::Instant;

use crate::calls::{Pool, warm, with_pool};
use crate::meter::Stretch;
use crate::table::{Bound, Case, Figures, Goal, Of, at_most, median};
use crate::{Result, Scale, Workload, cpython, limits, ours};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "w1",
    title: "W1: no-op round trip, one caller, 2 workers",
    cases: &[Case { name: "round trip", unit: "µs" }],
    goals: &[
        Goal {
            case: "round trip",
            who: "/shm+",
            must: &[CPYTHON_SHM],
            aim: &[
                at_most(1.0, Of::Subject("threads/crossbeam")),
                at_most(1.0, Of::Subject("threads/rayon")),
                at_most(3.0, Of::Subject("limit/shm")),
            ],
        },
        Goal { case: "round trip", who: "/pipe+", must: &[at_most(0.04, Of::Subject("cpython"))], aim: &[] },
        Goal {
            case: "round trip",
            who: "/pipe-no-spin+",
            must: &[at_most(1.3, Of::Subject("limit/pipe"))],
            aim: &[],
        },
    ],
    others: &[
        "cpython",
        "cpython/Pool",
        "procspawn",
        "threads/crossbeam",
        "threads/rayon",
        "limit/pipe",
        "limit/pipe-apart",
        "limit/shm",
        ours::NO_SPIN,
    ],
    yardsticks: &["cpython", "limit/pipe"],
    counts_system_calls: true,
    measure,
};

const CPYTHON_SHM: Bound = at_most(0.02, Of::Subject("cpython"));
const BATCH: usize = 100;

fn measure(subject: &str, scale: Scale) -> Result<Figures> {
    let count = scale.of(20_000, 2_000);
    match with_pool!(subject, pool(subject, count)) {
        Some(figures) => figures,
        None if subject.starts_with("limit/") => {
            let mut figures = Figures::default();
            figures.push("round trip", limits::measure(subject, count)?);
            Ok(figures)
        }
        None => cpython::measure(subject, "w1", scale),
    }
}

fn pool<P: Pool>(subject: &str, count: usize) -> Result<Figures> {
    let pool = P::new(crate::WORKERS, subject)?;
    warm(&pool, 1000)?;
    let (mut figures, mut n, mut us) = (Figures::default(), 0, 0.0);
    let stretch = Stretch::of(|| {
        us = batches(count, || {
            n += 1;
            (P::result(pool.noop(n)?)? == n).then_some(()).ok_or_else(|| "another call's result".into())
        })?;
        Ok(())
    })?;
    figures.push("round trip", us);
    figures.push("calls made", count as f64);
    stretch.costs(&mut figures, "round trip", count);
    Ok(figures)
}

/// Runs `call` so often, and returns the median of what a hundred of them took, in µs per call.
pub(crate) fn batches(count: usize, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut means = Vec::with_capacity(count / BATCH);
    for _ in 0..count.div_ceil(BATCH) {
        let start = Instant::now();
        for _ in 0..BATCH {
            call()?;
        }
        means.push(start.elapsed().as_secs_f64() * 1e6 / BATCH as f64);
    }
    Ok(median(means.into_iter()).unwrap_or(f64::NAN))
}
