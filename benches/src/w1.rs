//! W1: one caller submits a no-op, waits for its result, and submits the next. µs per call.
//!
//! The clock is looked at after every hundred calls; the figure is the median of these batches' means, so that
//! one hiccup of the machine does not count. What is measured of a call is all of it: the argument is made,
//! encoded, carried, and its result compared.

use std::time::Instant;

use crate::calls::{Pool, warm, with_pool};
use crate::meter::Stretch;
use crate::table::{Bound, Case, Figures, Goal, Of, at_most, median};
use crate::{Result, Scale, Workload, cpython};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "w1",
    title: "W1: no-op round trip, one caller, 2 workers",
    cases: &[Case { name: "round trip", unit: "µs" }],
    goals: &[
        Goal {
            case: "round trip",
            who: "+shm",
            must: &[CPYTHON_SHM],
            aim: &[
                at_most(1.0, Of::Subject("threads")),
                at_most(1.0, Of::Subject("rayon")),
                at_most(3.0, Of::Subject("limit/futex")),
            ],
        },
        Goal {
            case: "round trip",
            who: "+pipe",
            // The first if it spins, the second if it does not.
            must: &[at_most(0.04, Of::Subject("cpython")), at_most(1.3, Of::Subject("limit/pipe"))],
            aim: &[],
        },
    ],
    others: &["cpython", "procspawn", "threads", "rayon", "limit/pipe", "limit/pipe-apart", "limit/futex"],
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
        None => match subject {
            "cpython" => cpython::measure("w1", scale),
            limit => self::limit(limit, count),
        },
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

#[cfg(target_os = "linux")]
fn limit(limit: &str, count: usize) -> Result<Figures> {
    use crate::limits;
    let mut figures = Figures::default();
    let us = match limit {
        "limit/pipe" => limits::pipe(count, false)?,
        "limit/pipe-apart" => limits::pipe(count, true)?,
        "limit/futex" => limits::futex_spin(count)?,
        other => return Err(format!("no such subject: {other}").into()),
    };
    figures.push("round trip", us);
    Ok(figures)
}

#[cfg(not(target_os = "linux"))]
fn limit(_: &str, _: usize) -> Result<Figures> {
    Err(crate::skip("measured on Linux only"))
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
