//! Judges the judges: a backend that breaks one law has to be told from one that breaks none, and from one that
//! breaks another.
//!
//! Each mutant is a trial of its own, which runs every case of the kit against it, each in its own process.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use crate::transport;
use crate::trial::{self, Trial, Verdict};

/// A backend, and the law that it breaks.
#[derive(Debug)]
pub struct Mutant {
    judged: transport::Candidate,
    breaks: Option<&'static str>,
}

impl Mutant {
    /// A transport that breaks this law, such as `"T1"`, and no other; or none.
    pub fn transport(candidate: transport::Candidate, breaks: Option<&'static str>) -> Self {
        Self { judged: candidate.in_brief(), breaks }
    }

    fn parts(&self) -> Vec<(&'static str, Trial<'_>)> {
        let part = |(law, trial)| (law, Trial { is_part: true, ..trial });
        transport::trials(&self.judged).map(part).collect()
    }

    /// Runs every case, and compares the laws that were broken with what was to be expected.
    fn judge(&self) {
        let parts = self.parts();
        let law_of = |trial: &Trial<'_>| {
            let found = parts.iter().find(|(_, part)| part.name == trial.name);
            found.expect("invariant: one of the parts").0
        };
        let broken: Mutex<BTreeMap<&str, String>> = Mutex::default();
        let trials: Vec<_> = parts.iter().map(|(_, trial)| trial).collect();
        trial::each(
            &trials,
            THREADS,
            false,
            |_| None,
            |trial, verdict, said| {
                let law = match verdict {
                    Verdict::Ok | Verdict::Skipped(_) => return,
                    Verdict::LeftBehind => transport::LEFT_BEHIND,
                    Verdict::Failed(_) => law_of(trial),
                };
                let mut broken = broken.lock().expect("no panic");
                // The first lines say why; the rest is a backtrace.
                let why: Vec<_> = said.lines().filter(|line| !line.is_empty()).take(4).collect();
                let text = broken.entry(law).or_default();
                writeln!(text, "  {} {verdict:?}\n    {}", trial.name, why.join("\n    ")).expect("a string");
            },
        );
        let broken = broken.into_inner().expect("no panic");
        let laws: Vec<_> = broken.keys().copied().collect();
        let all: Vec<_> = broken.iter().map(|(law, text)| format!("{law}:\n{text}")).collect();
        println!("{}", all.join("\n"));
        assert_eq!(laws, Vec::from_iter(self.breaks), "the laws that the kit found broken, and the one that is");
    }
}

/// How many cases of one mutant run at a time.
const THREADS: usize = 2;

/// How long all cases of one mutant may take, each of its hangs included.
const WATCHDOG: Duration = Duration::from_secs(400);

/// Judges the mutants, as the command line says, and ends the program. To be called first in `main`: the workers of
/// some cases are this program, started again.
pub fn main(mutants: &[Mutant]) -> ! {
    if let Some(any) = mutants.first() {
        transport::work(&any.judged);
    }
    let mut trials = Vec::new();
    for mutant in mutants {
        let judge = |_: &Path| mutant.judge();
        trials.push(Trial { watchdog: WATCHDOG, ..Trial::new(mutant.judged.name().to_owned(), judge) });
        trials.extend(mutant.parts().into_iter().map(|(_, trial)| trial));
    }
    trial::main(&trials)
}
