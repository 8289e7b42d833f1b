//! What the kits for transports and for spawners share: cases of laws, what they get, and how long and how much
//! they try.

use std::path::Path;
use std::time::Duration;

use crate::trial::Trial;

/// What is judged.
pub(crate) trait Judged: Sync {
    /// How.
    fn terms(&self) -> &Terms;
}

/// How a candidate is judged.
#[derive(Debug)]
pub(crate) struct Terms {
    /// What its cases are called after.
    pub(crate) name: String,
    /// What part of the usual work the cases do: one in so many.
    divisor: u64,
    patience: Duration,
    watchdog: Duration,
}

impl Terms {
    pub(crate) fn new(name: &str, patience: Duration, watchdog: Duration) -> Self {
        Self { name: name.to_owned(), divisor: 1, patience, watchdog }
    }

    /// The cases do a tenth of their work, and nothing may take as long as usual.
    pub(crate) fn in_brief(self) -> Self {
        Self { divisor: 10, patience: Duration::from_secs(5), watchdog: Duration::from_secs(15), ..self }
    }
}

/// What a case gets.
#[derive(Debug)]
pub(crate) struct Bench<'a, C> {
    pub(crate) candidate: &'a C,
}

impl<C: Judged> Bench<'_, C> {
    /// What takes longer is waited for in vain.
    pub(crate) fn patience(&self) -> Duration {
        self.candidate.terms().patience
    }

    /// So many, or a part of it.
    pub(crate) fn many(&self, usual: u64) -> u64 {
        (usual / self.candidate.terms().divisor).max(1)
    }
}

/// A case of a law.
pub(crate) struct Case<C> {
    pub(crate) law: &'static str,
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Bench<'_, C>),
}

/// A list of cases, each a function that is its name, by the law that it is about.
macro_rules! laws {
    ($($law:ident: $($file:ident :: $name:ident),+;)+) => {
        &[$($($crate::judge::Case { law: stringify!($law), name: stringify!($name), run: $file::$name }),+),+]
    };
}

pub(crate) use laws;

/// Every case for this candidate, with its law.
pub(crate) fn trials<'a, C: Judged>(
    cases: &'static [Case<C>],
    candidate: &'a C,
) -> impl Iterator<Item = (&'static str, Trial<'a>)> {
    cases.iter().map(move |case| {
        let run = move |_: &Path| (case.run)(&Bench { candidate });
        let terms = candidate.terms();
        let name = format!("{}::{}::{}", terms.name, case.law, case.name);
        (case.law, Trial { watchdog: terms.watchdog, ..Trial::new(name, run) })
    })
}
