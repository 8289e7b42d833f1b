//! Judges the judges: a backend that breaks one law has to be told from one that breaks none, and from one that
//! breaks another.
//!
//! Each mutant is a trial of its own, which runs every case of the kit against it, each in its own process.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use pool_core::spawner::{Arrival, Entry};
use pool_spawn_exec::ExecEntry;

use crate::trial::{self, Trial, Verdict};
use crate::{spawner, transport};

/// A backend, and the law that it breaks.
#[derive(Debug)]
pub struct Mutant {
    judged: Judged,
    breaks: Option<&'static str>,
}

#[derive(Debug)]
enum Judged {
    Transport(transport::Candidate),
    Spawner(spawner::Candidate),
}

impl Mutant {
    /// A transport that breaks this law, such as `"T1"`, and no other; or none.
    pub fn transport(candidate: transport::Candidate, breaks: Option<&'static str>) -> Self {
        Self { judged: Judged::Transport(candidate.in_brief()), breaks }
    }

    /// The same for a spawner, whose workers arrive as those of Exec do.
    pub fn spawner(candidate: spawner::Candidate, breaks: Option<&'static str>) -> Self {
        Self { judged: Judged::Spawner(candidate.in_brief()), breaks }
    }

    fn name(&self) -> &str {
        match &self.judged {
            Judged::Transport(candidate) => candidate.name(),
            Judged::Spawner(candidate) => candidate.name(),
        }
    }

    /// The law that a case breaks by leaving something behind.
    fn left_behind(&self) -> &'static str {
        match &self.judged {
            Judged::Transport(_) => transport::LEFT_BEHIND,
            Judged::Spawner(_) => spawner::LEFT_BEHIND,
        }
    }

    fn parts(&self) -> Vec<(&'static str, Trial<'_>)> {
        let part = |(law, trial)| (law, Trial { is_part: true, ..trial });
        match &self.judged {
            Judged::Transport(candidate) => transport::trials(candidate).map(part).collect(),
            Judged::Spawner(candidate) => spawner::trials(candidate).map(part).collect(),
        }
    }

    /// Runs every case, and compares the laws that were broken with what was to be expected.
    ///
    /// In brief, cases have little patience. One that finds a law broken unexpectedly is tried again, alone: a busy
    /// machine is no mutant, and what a mutant breaks it breaks again.
    fn judge(&self) {
        let parts = self.parts();
        let mut found = self.run(&parts, &parts.iter().map(|(_, trial)| trial).collect::<Vec<_>>(), THREADS);
        for _ in 0..AGAIN {
            let unexpected: Vec<String> =
                found.iter().filter(|it| Some(it.law) != self.breaks).map(|it| it.case.clone()).collect();
            if unexpected.is_empty() {
                break;
            }
            println!("tried again: {}", unexpected.join(", "));
            let again: Vec<_> =
                parts.iter().map(|(_, trial)| trial).filter(|trial| unexpected.contains(&trial.name)).collect();
            found.retain(|it| Some(it.law) == self.breaks);
            found.extend(self.run(&parts, &again, 1));
        }
        let mut broken: BTreeMap<&str, String> = BTreeMap::new();
        for Found { law, text, .. } in found {
            broken.entry(law).or_default().push_str(&text);
        }
        let laws: Vec<_> = broken.keys().copied().collect();
        let all: Vec<_> = broken.iter().map(|(law, text)| format!("{law}:\n{text}")).collect();
        println!("{}", all.join("\n"));
        assert_eq!(laws, Vec::from_iter(self.breaks), "the laws that the kit found broken, and the one that is");
    }

    /// Runs some of the cases, so many at a time, and says which laws they found broken.
    fn run(&self, parts: &[(&'static str, Trial<'_>)], trials: &[&Trial<'_>], threads: usize) -> Vec<Found> {
        let law_of = |trial: &Trial<'_>| {
            let found = parts.iter().find(|(_, part)| part.name == trial.name);
            found.expect("invariant: one of the parts").0
        };
        let found: Mutex<Vec<Found>> = Mutex::default();
        trial::each(
            trials,
            threads,
            false,
            |_| None,
            |trial, verdict, said| {
                let law = match verdict {
                    Verdict::Ok | Verdict::Skipped(_) => return,
                    Verdict::LeftBehind => self.left_behind(),
                    Verdict::Failed(_) => law_of(trial),
                };
                // The first lines say why; the rest is a backtrace.
                let why: Vec<_> = said.lines().filter(|line| !line.is_empty()).take(4).collect();
                let text = format!("  {} {verdict:?}\n    {}\n", trial.name, why.join("\n    "));
                found.lock().expect("no panic").push(Found { case: trial.name.clone(), law, text });
            },
        );
        found.into_inner().expect("no panic")
    }
}

/// A law that a case found broken.
struct Found {
    case: String,
    law: &'static str,
    text: String,
}

/// How many times more a case is tried that finds a law broken unexpectedly.
const AGAIN: usize = 2;

/// How many cases of one mutant run at a time.
const THREADS: usize = 2;

/// How long all cases of one mutant may take, each of its hangs included.
const WATCHDOG: Duration = Duration::from_secs(400);

/// Judges the mutants, as the command line says, and ends the program. To be called first in `main`: the workers
/// of some cases are this program, started again.
pub fn main(mutants: &[Mutant]) -> ! {
    arrive(mutants);
    let mut trials = Vec::new();
    for mutant in mutants {
        let judge = |_: &Path| mutant.judge();
        trials.push(Trial { watchdog: WATCHDOG, ..Trial::new(mutant.name().to_owned(), judge) });
        trials.extend(mutant.parts().into_iter().map(|(_, trial)| trial));
    }
    trial::main(&trials)
}

/// In a worker or a bystander of a case: does what it was started for, and ends the process. Elsewhere returns.
fn arrive(mutants: &[Mutant]) {
    let transports = mutants.iter().filter_map(|mutant| match &mutant.judged {
        Judged::Transport(candidate) => Some(candidate),
        Judged::Spawner(_) => None,
    });
    let spawners = mutants.iter().filter_map(|mutant| match &mutant.judged {
        Judged::Transport(_) => None,
        Judged::Spawner(candidate) => Some(candidate),
    });
    match ExecEntry.arrive() {
        Arrival::NotAWorker => spawner::play(spawners),
        Arrival::Worker { ticket, last_words } if spawner::is_job(&ticket) => {
            std::process::exit(spawner::work(ticket, last_words));
        }
        // The worker's side has no faults that count in a process of its own: any will do.
        Arrival::Worker { ticket, .. } => {
            let candidate = transports.into_iter().next().expect("one of them has started it");
            transport::play(candidate, ticket);
        }
        Arrival::Unusable(why) => {
            eprintln!("unusable: {why}");
            std::process::exit(97);
        }
    }
}
