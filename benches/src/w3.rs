//! W3: `map` of ten million numbers, with the chunks that `map` makes by itself. Items per second.
//!
//! CPython maps two million with `chunksize=1000`; procspawn and the threads get chunks of a thousand made by
//! hand, as `Vec<u64>`; rayon has its own `map`. `by 1000` is ours with `chunksize(1000)`. `limit/ring` is that of
//! W2. What is told of one call is of one item here.

use process_pool::Executor;
use rayon::prelude::*;

use crate::calls::{Pool, noop, warm};
use crate::meter::Stretch;
use crate::table::{Case, Figures, Goal, Of, at_least};
use crate::threads::{Rayon, Threads};
use crate::{Result, Scale, WORKERS, Workload, cpython, limits};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "w3",
    title: "W3: map of tiny items; 2 workers",
    cases: &[Case { name: "items", unit: "1/s" }, Case { name: "items by 1000", unit: "1/s" }],
    goals: &[
        Goal {
            case: "items",
            who: "",
            must: &[at_least(15.0, Of::Subject("cpython"))],
            aim: &[at_least(30.0, Of::Subject("cpython"))],
        },
        Goal { case: "items", who: "", must: &[at_least(3.0, Of::Subject("procspawn"))], aim: &[] },
    ],
    others: &["cpython", "cpython/Pool", "procspawn", "threads/crossbeam", "threads/rayon", "limit/ring"],
    yardsticks: &["cpython", "limit/ring"],
    counts_system_calls: true,
    measure,
};

const CHUNK: usize = 1000;

fn measure(subject: &str, scale: Scale) -> Result<Figures> {
    let count = scale.of(10_000_000, 300_000);
    match subject {
        "threads/rayon" => by_rayon(count),
        "threads/crossbeam" => by_hand::<Threads>(subject, count),
        #[cfg(unix)]
        "procspawn" => by_hand::<procspawn::Pool>(subject, count),
        "limit/ring" => {
            let mut figures = Figures::default();
            figures.push("items", limits::measure(subject, count)?);
            Ok(figures)
        }
        ours if ours.starts_with("ours/") => by_map(ours, count, scale.cases()),
        _ => cpython::measure(subject, "w3", scale),
    }
}

fn by_map(subject: &str, count: usize, cases: usize) -> Result<Figures> {
    let mut figures = Figures::default();
    let pool = <Executor as Pool>::new(WORKERS, subject)?;
    warm(&pool, 1000)?;
    figures.push("calls made", count as f64);
    for (case, chunksize) in [("items", None), ("items by 1000", Some(CHUNK))].into_iter().take(cases) {
        let stretch = Stretch::of(|| {
            let map = pool.map(noop, 0..count as u64);
            let map = match chunksize {
                Some(chunksize) => map.chunksize(chunksize),
                None => map,
            };
            let mut results = Vec::with_capacity(count);
            for result in map {
                results.push(result?);
            }
            check(&results, count)
        })?;
        stretch.rate(&mut figures, case, count as f64, count);
    }
    Ok(figures)
}

fn by_hand<P: Pool>(subject: &str, count: usize) -> Result<Figures> {
    let mut figures = Figures::default();
    let pool = P::new(WORKERS, subject)?;
    warm(&pool, 100)?;
    figures.push("calls made", count as f64);
    let stretch = Stretch::of(|| {
        let mut results = Vec::with_capacity(count);
        let mut pending = std::collections::VecDeque::new();
        for start in (0..count).step_by(CHUNK) {
            // The map of an `Executor` is as far ahead: four chunks for each worker.
            if pending.len() == 4 * WORKERS
                && let Some(oldest) = pending.pop_front()
            {
                results.extend(P::result(oldest)?);
            }
            pending.push_back(pool.chunk((start as u64..(start + CHUNK).min(count) as u64).collect())?);
        }
        for handle in pending {
            results.extend(P::result(handle)?);
        }
        check(&results, count)
    })?;
    stretch.rate(&mut figures, "items", count as f64, count);
    Ok(figures)
}

fn by_rayon(count: usize) -> Result<Figures> {
    let mut figures = Figures::default();
    let pool = Rayon::new(WORKERS)?;
    warm(&pool, 100)?;
    figures.push("calls made", count as f64);
    let stretch = Stretch::of(|| {
        let results: Vec<u64> = pool.0.install(|| (0..count as u64).into_par_iter().map(noop).collect());
        check(&results, count)
    })?;
    stretch.rate(&mut figures, "items", count as f64, count);
    Ok(figures)
}

fn check(results: &[u64], count: usize) -> Result<()> {
    let in_order = results.iter().copied().eq(0..count as u64);
    in_order.then_some(()).ok_or_else(|| "not the results".into())
}
