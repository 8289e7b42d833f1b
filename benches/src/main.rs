//! Side-by-side measurements: `cargo run --release -p pool-bench`; `--help` tells what can be chosen.
//!
//! One module for each workload says what it measures, what is asked of it, and how its figures are taken.
//! Common to all:
//!
//! - Every subject is measured in each round, one after the other, in a process of its own. The median of the
//!   rounds counts, and of ratios the median of those inside each round: a machine's speed drifts, ratios hold.
//! - Two workers, unless the workload says otherwise; workers are up, and have answered, before the clock runs.
//! - Results are compared with what they have to be.
//! - *CPU µs* and *switches* are processor time and context switches for each call, of the parent (`getrusage`)
//!   and of all processes below it (`/proc/PID/task/TID/schedstat` and `status`), between the start and the end
//!   of the clock.
//! - *System calls* for each call are counted by `perf`, in a round of their own, of a workload's first case: the
//!   difference of a long run and a short one, divided by the difference of their calls. Where `perf` cannot count
//!   them, a line says so.
//! - After each workload: how much of the machine others used meanwhile, and how much two busy threads got of it.
//!   Where that is not close to nothing and to 2, measure again.
//!
//! The subjects: this library by context, `ours/shm+exec` and so on; `cpython`, its `ProcessPoolExecutor` (start
//! method fork), and `cpython/Pool`, its `multiprocessing.Pool`; `procspawn`, its `Pool`; `threads/crossbeam`, a
//! pool of threads that share one channel, with handles of a mutex and a condition variable; `threads/rayon` with
//! the same handles; and `limit/…`, what the system takes for the least that does such a thing. What a machine
//! lacks is left out, with the reason. A must that is missed is printed; it is a failure with `--strict` only.
//!
//! What is asked as a multiple of CPython's is meant for a 3.13 without profile-guided optimisation (PGO). One
//! with it is 1.1 to 1.5 times as fast. Where there is no Python, the ratios are to the first other yardstick:
//! mostly a limit.

mod about;
mod calls;
mod cpython;
#[cfg(target_os = "linux")]
mod gate;
mod json;
#[cfg_attr(not(target_os = "linux"), path = "limits_none.rs")]
mod limits;
mod markdown;
mod meter;
mod mixed;
mod options;
mod ours;
mod recycling;
mod run;
#[cfg(target_os = "linux")]
mod starts;
#[cfg(target_os = "linux")]
mod sys;
mod table;
mod threads;
mod w1;
mod w2;
mod w3;
mod w4;
mod w6;
#[cfg(target_os = "linux")]
mod w7;
#[cfg(target_os = "linux")]
mod w8;

use std::process::ExitCode;

use options::{Options, USAGE};
use table::{Case, Figures, Goal};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How many workers a pool has.
const WORKERS: usize = 2;

/// One row of what can be measured.
struct Workload {
    name: &'static str,
    title: &'static str,
    cases: &'static [Case],
    goals: &'static [Goal],
    /// The subjects beside the contexts.
    others: &'static [&'static str],
    /// What the others are compared with: the first of them that there is.
    yardsticks: &'static [&'static str],
    counts_system_calls: bool,
    /// Measures one subject, in a process of its own.
    measure: fn(&str, Scale) -> Result<Figures>,
}

const WORKLOADS: &[&Workload] = &[
    &w1::WORKLOAD,
    &w2::WORKLOAD,
    &w2::WIDE,
    &w3::WORKLOAD,
    &w4::WORKLOAD,
    #[cfg(target_os = "linux")]
    &starts::WORKLOAD,
    &w6::WORKLOAD,
    #[cfg(target_os = "linux")]
    &w7::WORKLOAD,
    #[cfg(target_os = "linux")]
    &w8::WORKLOAD,
    &mixed::WORKLOAD,
    &recycling::WORKLOAD,
];

impl Workload {
    /// What the title begins with, as in `W1`.
    fn label(&self) -> &'static str {
        self.title.split(':').next().unwrap_or(self.title)
    }
}

/// How many calls to measure.
#[derive(Clone, Copy, Debug)]
struct Scale {
    how: How,
    times: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Full,
    /// A fraction of the calls.
    Quick,
    /// The first case only, for its system calls.
    First,
}

impl Scale {
    fn of(self, full: usize, quick: usize) -> usize {
        self.times * if self.how == How::Quick { quick } else { full }
    }

    /// How many of a workload's cases to measure.
    fn cases(self) -> usize {
        if self.how == How::First { 1 } else { usize::MAX }
    }
}

impl How {
    const ALL: [Self; 3] = [Self::Full, Self::Quick, Self::First];

    /// What the process that measures is told.
    fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Quick => "quick",
            Self::First => "first",
        }
    }
}

/// Why something is not measured, which is no failure.
#[derive(Debug)]
struct Skip(String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

fn skip(why: &str) -> Box<dyn std::error::Error + Send + Sync> {
    Box::new(Skip(why.to_owned()))
}

fn main() -> ExitCode {
    process_pool::init();
    #[cfg(unix)]
    procspawn::init();

    let args: Vec<String> = std::env::args().skip(1).collect();
    #[cfg(target_os = "linux")]
    if let Some(done) = starts::main(&args) {
        return finish(done);
    }
    if let Some(done) = run::part(&args) {
        return finish(done);
    }
    if args.iter().any(|arg| arg == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match Options::read(&args) {
        Ok(options) => finish(run::all(&options)),
        Err(why) => {
            eprintln!("pool-bench: {why}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn finish(done: Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("pool-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::options::USAGE;
    use crate::table::Of;
    use crate::{WORKLOADS, ours};

    #[test]
    fn what_is_asked_is_asked_of_something_that_is_measured() {
        for workload in WORKLOADS {
            let is_case = |name: &str| workload.cases.iter().any(|case| case.name == name);
            let contexts = ["exec+pipe", "exec+shm", "forkserver+pipe", "forkserver+shm"].map(ours::subject);
            let subjects: Vec<_> =
                workload.others.iter().copied().chain(contexts.iter().map(String::as_str)).collect();
            for goal in workload.goals {
                assert!(is_case(goal.case), "{}: {}", workload.name, goal.case);
                let is_of_any = subjects.iter().any(|subject| goal.is_of(subject));
                assert!(is_of_any, "{}: {}: {}", workload.name, goal.case, goal.who);
                for bound in goal.must.iter().chain(goal.aim) {
                    match bound.of {
                        Of::Unit => {}
                        Of::Subject(name) => assert!(workload.others.contains(&name), "{}: {name}", workload.name),
                        Of::Case(name) => assert!(is_case(name), "{}: {name}", workload.name),
                    }
                }
            }
            assert!(workload.yardsticks.iter().all(|name| workload.others.contains(name)), "{}", workload.name);
            assert!(USAGE.contains(workload.name), "{}", workload.name);
        }
    }
}
