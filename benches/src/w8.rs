//! W8: a million no-op calls are pending, behind one that holds the only worker. How many bytes each takes in
//! the parent, all told (`RssAnon` after, less before, the vector of handles included), and how many descriptors
//! all of them. Then the worker is let go, and every result is asked for.
//!
//! CPython gets a hundred thousand.

use crate::calls::{Pool, warm, with_pool};
use crate::gate::Gate;
use crate::meter::system::{descriptors, rss};
use crate::table::{Case, Figures, Goal, Of, at_most};
use crate::{Result, Scale, Workload, cpython, skip};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "w8",
    title: "W8: many pending no-op calls; 1 worker",
    cases: &[Case { name: "each", unit: "bytes" }, Case { name: "all", unit: "descriptors" }],
    goals: &[
        Goal { case: "each", who: "", must: &[at_most(256.0, Of::Unit)], aim: &[at_most(160.0, Of::Unit)] },
        Goal { case: "all", who: "", must: &[at_most(0.0, Of::Unit)], aim: &[] },
    ],
    others: &["cpython", "cpython/Pool", "procspawn", "threads/crossbeam", "threads/rayon"],
    yardsticks: &["cpython", "threads/crossbeam"],
    counts_system_calls: false,
    measure,
};

fn measure(subject: &str, scale: Scale) -> Result<Figures> {
    if subject == "procspawn" {
        return Err(skip("it takes three descriptors for each pending call"));
    }
    let count = scale.of(1_000_000, 100_000);
    match with_pool!(subject, pending(subject, count)) {
        Some(figures) => figures,
        None => cpython::measure(subject, "w8", scale),
    }
}

fn pending<P: Pool>(subject: &str, count: usize) -> Result<Figures> {
    let mut figures = Figures::default();
    let gate = Gate::new()?;
    let pool = P::new(1, subject)?;
    warm(&pool, 1000)?;
    let held = pool.hold(gate.folder()?)?;
    gate.arrivals(1)?;

    let (before, descriptors_before) = (rss(std::process::id()).anon, descriptors());
    let mut handles = Vec::with_capacity(count);
    for n in 0..count as u64 {
        handles.push(pool.noop(n)?);
    }
    figures.push("each", (rss(std::process::id()).anon - before) / count as f64);
    figures.push("all", descriptors() - descriptors_before);

    gate.open(1)?;
    P::result(held)?;
    for (n, handle) in (0..).zip(handles) {
        if P::result(handle)? != n {
            return Err("another call's result".into());
        }
    }
    Ok(figures)
}
