//! W6: counting the primes of some hundred ranges, one call each of a millisecond or more. The figure is the
//! speed-up: how many times as fast as one thread that counts them, in the same process. The two take turns,
//! eighty ranges each, so that both have the same share of a machine whose speed drifts. CPython has smaller
//! ranges, which take it as long.

use crate::calls::{Pool, primes, warm, with_pool};
use crate::meter::Stretch;
use crate::table::{Case, Figures, Goal, Of, at_least};
use crate::{Result, Scale, WORKERS, Workload, cpython};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "w6",
    title: "W6: CPU-bound calls; 2 workers",
    cases: &[Case { name: "speed-up", unit: "× one thread" }],
    goals: &[Goal {
        case: "speed-up",
        who: "",
        must: &[at_least(0.97, Of::Subject("threads/rayon"))],
        aim: &[at_least(0.99, Of::Subject("threads/rayon"))],
    }],
    others: &["cpython", "cpython/Pool", "procspawn", "threads/crossbeam", "threads/rayon"],
    yardsticks: &["threads/rayon"],
    counts_system_calls: false,
    measure,
};

/// How many numbers a range has.
const RANGE: u64 = 8_000;
/// How many ranges are counted at a time.
const TURN: u64 = 80;

fn measure(subject: &str, scale: Scale) -> Result<Figures> {
    let turns = scale.of(5, 1) as u64;
    with_pool!(subject, speed_up(subject, turns)).unwrap_or_else(|| cpython::measure(subject, "w6", scale))
}

fn speed_up<P: Pool>(subject: &str, turns: u64) -> Result<Figures> {
    let mut figures = Figures::default();
    let pool = P::new(WORKERS, subject)?;
    warm(&pool, 1000)?;
    let (mut alone, mut together) = (0.0, 0.0);
    for turn in 0..turns {
        let ranges =
            (turn * TURN..(turn + 1) * TURN).map(|n| (1_000_000 + n * RANGE, 1_000_000 + (n + 1) * RANGE));
        let mut expected = Vec::new();
        let one = Stretch::of(|| {
            expected.extend(ranges.clone().map(primes));
            Ok(())
        })?;
        let all = Stretch::of(|| {
            let handles = ranges.map(|range| pool.primes(range)).collect::<Result<Vec<_>>>()?;
            let counts = handles.into_iter().map(P::result).collect::<Result<Vec<_>>>()?;
            (counts == expected).then_some(()).ok_or_else(|| "not the results".into())
        })?;
        alone += one.seconds;
        together += all.seconds;
        all.costs(&mut figures, "speed-up", TURN as usize);
    }
    figures.push("speed-up", alone / together);
    Ok(figures)
}
