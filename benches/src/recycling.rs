//! Calls of a millisecond in workers that are replaced after 25 of them, and in workers that are not: how many of the
//! latter's calls the former do in the same time. The two pools take turns, a hundred calls each, so that both have the
//! same share of a machine whose speed drifts.
//!
//! Calls that *compute* leave no core for the start of a worker; calls that *wait* (as for a disk) do.

use process_pool::{Executor, TaskHandle};

use crate::calls::{primes, work};
use crate::meter::Stretch;
use crate::table::{Case, Figures, Goal, Of, at_least};
use crate::{Result, Scale, WORKERS, Workload, ours, skip};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "recycling",
    title: "Recycling: max_tasks_per_child(25), calls of 1 ms; 2 workers",
    cases: &[Case { name: "compute", unit: "× without" }, Case { name: "wait", unit: "× without" }],
    goals: &[
        Goal { case: "compute", who: "forkserver", must: &[at_least(0.8, Of::Unit)], aim: &[] },
        Goal { case: "wait", who: "forkserver", must: &[at_least(0.8, Of::Unit)], aim: &[] },
    ],
    others: &[],
    yardsticks: &[],
    counts_system_calls: false,
    measure,
};

/// How many calls are made at a time.
const TURN: u64 = 100;
/// So many numbers take about a millisecond.
const RANGE: u64 = 8_000;

fn measure(subject: &str, scale: Scale) -> Result<Figures> {
    let turns = scale.of(20, 4) as u64;
    if ours::parts(subject).is_some_and(|(_, start_method)| start_method == "fork") {
        return Err(skip("the second of two pools could not fork a program with threads"));
    }
    let mut figures = Figures::default();
    let without = Executor::builder().max_workers(WORKERS).context(ours::context(subject)?).build()?;
    let builder = Executor::builder().max_workers(WORKERS).context(ours::context(subject)?);
    let with = builder.max_tasks_per_child(25).build()?;
    let compute = |pool: &Executor, n| pool.submit(primes, (1_000_000 + n * RANGE, 1_000_000 + (n + 1) * RANGE));
    let wait = |pool: &Executor, _| pool.submit(work, 1000);
    figures.push("compute", ratio(turns, |n| Ok(compute(&without, n)?), |n| Ok(compute(&with, n)?))?);
    figures.push("wait", ratio(turns, |n| Ok(wait(&without, n)?), |n| Ok(wait(&with, n)?))?);
    Ok(figures)
}

/// How many times as fast the second is.
fn ratio(
    turns: u64,
    first: impl Fn(u64) -> Result<TaskHandle<u64>>,
    second: impl Fn(u64) -> Result<TaskHandle<u64>>,
) -> Result<f64> {
    let turn = |call: &dyn Fn(u64) -> Result<TaskHandle<u64>>| {
        let stretch = Stretch::of(|| {
            let handles = (0..TURN).map(call).collect::<Result<Vec<_>>>()?;
            handles.into_iter().try_for_each(|handle| Ok(handle.result().map(drop)?))
        })?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(stretch.seconds)
    };
    // So that all workers are up.
    turn(&first)?;
    turn(&second)?;
    let (mut firsts, mut seconds) = (0.0, 0.0);
    for _ in 0..turns {
        firsts += turn(&first)?;
        seconds += turn(&second)?;
    }
    Ok(firsts / seconds)
}
