//! W7: a busy worker is killed. How long until its call's error is there, and how long until a replacement has
//! answered a call that is submitted then; both in ms from the `SIGKILL`, medians of twenty kills. The pool has
//! one worker, so no other can answer.
//!
//! CPython's pool is broken then, so it is a new pool that answers; and its `multiprocessing.Pool` never tells
//! that a call is lost. `limit/posix_spawn` is a bare child that is killed and waited for, and another that says a
//! byte.

use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::calls::{Pool, warm, with_pool};
use crate::gate::Gate;
use crate::table::{Case, Figures, Goal, Of, at_most, median};
use crate::{Result, Scale, Workload, cpython, starts};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "w7",
    title: "W7: a busy worker is killed; 1 worker",
    cases: &[Case { name: "error", unit: "ms" }, Case { name: "next answer", unit: "ms" }],
    goals: &[
        Goal { case: "error", who: "", must: &[at_most(0.5, Of::Unit)], aim: &[at_most(0.2, Of::Unit)] },
        Goal { case: "next answer", who: "+forkserver", must: &[at_most(3.0, Of::Unit)], aim: AIM },
        Goal { case: "next answer", who: "+exec", must: &[at_most(5.0, Of::Unit)], aim: AIM },
    ],
    others: &["cpython", "cpython/Pool", "procspawn", starts::POSIX_SPAWN],
    yardsticks: &["cpython", starts::POSIX_SPAWN],
    counts_system_calls: false,
    measure,
};

const AIM: &[crate::table::Bound] = &[at_most(1.0, Of::Unit)];

fn measure(subject: &str, scale: Scale) -> Result<Figures> {
    let kills = scale.of(20, 5);
    if subject == starts::POSIX_SPAWN {
        return bare(kills);
    }
    match with_pool!(subject, kill(subject, kills)) {
        Some(figures) => figures,
        None => cpython::measure(subject, "w7", scale),
    }
}

fn kill<P: Pool>(subject: &str, kills: usize) -> Result<Figures> {
    let gate = Gate::new()?;
    let pool = P::new(1, subject)?;
    warm(&pool, 10)?;
    let one = || {
        let busy = pool.busy(gate.folder()?)?;
        let pid = Pid::from_raw(gate.pid()? as i32).ok_or("no process id")?;
        let start = Instant::now();
        kill_process(pid, Signal::KILL)?;
        if P::result(busy).is_ok() {
            return Err("a call that never returns has returned".into());
        }
        let error = start.elapsed();
        P::result(pool.noop(1)?)?;
        Ok((error, start.elapsed()))
    };
    figures((0..kills).map(|_| one()))
}

fn bare(kills: usize) -> Result<Figures> {
    let one = || {
        let mut child = starts::ready_child()?;
        let start = Instant::now();
        child.kill()?;
        child.wait()?;
        let error = start.elapsed();
        let mut next = starts::ready_child()?;
        let answer = start.elapsed();
        drop(next.stdin.take());
        next.wait()?;
        Ok((error, answer))
    };
    figures((0..kills).map(|_| one()))
}

fn figures(kills: impl Iterator<Item = Result<(std::time::Duration, std::time::Duration)>>) -> Result<Figures> {
    let kills = kills.collect::<Result<Vec<_>>>()?;
    let mut figures = Figures::default();
    let ms = |of: fn(&(std::time::Duration, std::time::Duration)) -> std::time::Duration| {
        median(kills.iter().map(|kill| of(kill).as_secs_f64() * 1e3)).unwrap_or(f64::NAN)
    };
    figures.push("error", ms(|kill| kill.0));
    figures.push("next answer", ms(|kill| kill.1));
    Ok(figures)
}
