//! Figures, what is asked of them, and the tables.

use std::collections::BTreeMap;

use crate::ours;

/// What one subject measured in one round: by case, and by `case.cpu` and `case.switches` what a call cost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(pub(crate) BTreeMap<String, f64>);

impl Figures {
    pub(crate) fn push(&mut self, case: &str, value: f64) {
        self.0.insert(case.to_owned(), value);
    }

    /// One line for each figure, for the process that asked.
    pub(crate) fn print(&self) {
        for (case, value) in &self.0 {
            println!("figure {case} {value}");
        }
    }

    /// Reads what `print` (or `cpython.py`) has written.
    pub(crate) fn read(text: &str) -> Self {
        let figure = |line: &str| {
            let (case, value) = line.strip_prefix("figure ")?.rsplit_once(' ')?;
            Some((case.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter_map(figure).collect())
    }
}

/// One thing that a workload measures.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
}

/// A figure held against a bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) limit: Limit,
    pub(crate) of: Of,
}

/// From which side.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// What the limit is a multiple of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of {
    /// Of the figure's unit.
    Unit,
    /// Of this subject's figure in the same round.
    Subject(&'static str),
    /// Of another case of the same subject in the same round.
    Case(&'static str),
}

/// What is asked of one case of every subject of ours over pipe or shm whose name holds `who`.
#[derive(Debug)]
pub(crate) struct Goal {
    pub(crate) case: &'static str,
    pub(crate) who: &'static str,
    /// One of them is to hold.
    pub(crate) must: &'static [Bound],
    /// All of them may hold one day.
    pub(crate) aim: &'static [Bound],
}

impl Goal {
    /// Whether this subject is to meet it. Of no other transport anything is asked.
    pub(crate) fn is_of(&self, subject: &str) -> bool {
        let own = ours::parts(subject).is_some_and(|(transport, _)| transport != "ipc");
        own && subject.contains(self.who)
    }
}

pub(crate) const fn at_least(factor: f64, of: Of) -> Bound {
    Bound { limit: Limit::AtLeast(factor), of }
}

pub(crate) const fn at_most(factor: f64, of: Of) -> Bound {
    Bound { limit: Limit::AtMost(factor), of }
}

/// How many musts were not met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) missed: usize,
    /// The figure is missing, or that of its yardstick.
    pub(crate) unmeasured: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.missed += other.missed;
        self.unmeasured += other.unmeasured;
    }
}

/// All rounds of one workload: for each subject its figures, round by round; `None` where it has failed.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) subjects: Vec<String>,
    pub(crate) figures: Vec<Vec<Option<Figures>>>,
    /// System calls for each call, where they were counted.
    pub(crate) system_calls: BTreeMap<String, f64>,
}

impl Rounds {
    fn of(&self, subject: &str) -> Option<&[Option<Figures>]> {
        let at = self.subjects.iter().position(|name| name == subject)?;
        Some(&self.figures[at])
    }

    fn values(&self, subject: &str, case: &str) -> Vec<Option<f64>> {
        let rounds = self.of(subject).unwrap_or_default();
        rounds.iter().map(|figures| figures.as_ref()?.0.get(case).copied()).collect()
    }

    pub(crate) fn median(&self, subject: &str, case: &str) -> Option<f64> {
        median(self.values(subject, case).into_iter().flatten())
    }

    /// The median of the ratios inside each round.
    pub(crate) fn ratio(&self, subject: &str, case: &str, base: &str, base_case: &str) -> Option<f64> {
        let (ours, theirs) = (self.values(subject, case), self.values(base, base_case));
        let ratio = |(ours, theirs): (Option<f64>, Option<f64>)| Some(ours? / theirs?);
        // None of nothing.
        median(ours.into_iter().zip(theirs).filter_map(ratio).filter(|ratio| ratio.is_finite()))
    }

    /// The figure as a multiple of what the bound is about.
    fn multiple(&self, subject: &str, case: &str, of: Of) -> Option<f64> {
        match of {
            Of::Unit => self.median(subject, case),
            Of::Subject(base) => self.ratio(subject, case, base, case),
            Of::Case(other) => self.ratio(subject, case, subject, other),
        }
    }

    /// Whether the bound holds; `None` if what it is about was not measured.
    fn holds(&self, subject: &str, case: &str, bound: &Bound) -> Option<bool> {
        let multiple = self.multiple(subject, case, bound.of)?;
        Some(match bound.limit {
            Limit::AtLeast(least) => multiple >= least,
            Limit::AtMost(most) => multiple <= most,
        })
    }

    /// What is asked of this case, and whether it is met. Counts what is not.
    fn verdict(&self, subject: &str, case: &Case, goals: &[Goal], tally: &mut Tally) -> String {
        let asked = goals.iter().filter(|goal| goal.case == case.name && goal.is_of(subject));
        let text = |goal: &Goal| {
            let holds: Vec<_> = goal.must.iter().map(|bound| self.holds(subject, case.name, bound)).collect();
            let verdict = match (holds.contains(&Some(true)), holds.contains(&Some(false))) {
                (true, _) => "met",
                (false, true) => {
                    tally.missed += 1;
                    "MISSED"
                }
                (false, false) => {
                    tally.unmeasured += 1;
                    "not measured"
                }
            };
            let say = |bound: &Bound| self.say(subject, case, bound);
            let must = goal.must.iter().map(say).collect::<Vec<_>>().join(" or ");
            let aim = goal.aim.iter().map(|bound| format!(", aim {}", self.say(subject, case, bound)));
            format!("{must}: {verdict}{}", aim.collect::<String>())
        };
        asked.map(text).collect::<Vec<_>>().join("; ")
    }

    /// The bound, and in brackets what the figure is in its terms.
    fn say(&self, subject: &str, case: &Case, bound: &Bound) -> String {
        let limit = match bound.limit {
            Limit::AtLeast(least) => format!("≥ {least}"),
            Limit::AtMost(most) => format!("≤ {most}"),
        };
        let multiple = || self.multiple(subject, case.name, bound.of).map_or("–".to_owned(), short);
        match bound.of {
            Of::Unit => format!("{limit} {}", case.unit),
            Of::Subject(base) => format!("{limit} × {base} ({})", multiple()),
            Of::Case(other) => format!("{limit} × its own {other} ({})", multiple()),
        }
    }

    /// What this case's ratios are to: the first of these that was measured.
    pub(crate) fn base(&self, case: &str, yardsticks: &[&'static str]) -> Option<&'static str> {
        yardsticks.iter().find(|base| self.median(base, case).is_some()).copied()
    }

    /// The table, and how many musts are not met.
    pub(crate) fn table(&self, cases: &[Case], goals: &[Goal], yardsticks: &[&'static str]) -> (String, Tally) {
        let mut tally = Tally::default();
        let first = yardsticks.first().unwrap_or(&"–");
        let mut text = format!(
            "| subject | what | median | from – to | × {first} | CPU µs | switches | system calls | must, aim |\n\
             |---|---|---:|---:|---:|---:|---:|---:|---|\n"
        );
        for (at, case) in cases.iter().enumerate() {
            let base = self.base(case.name, yardsticks);
            for subject in &self.subjects {
                let verdict = self.verdict(subject, case, goals, &mut tally);
                if verdict.is_empty() && self.median(subject, case.name).is_none() {
                    continue;
                }
                let value = self.values_of(subject, case.name);
                let ratio = base.and_then(|base| {
                    let ratio = short(self.ratio(subject, case.name, base, case.name)?);
                    Some(if base == *first { ratio } else { format!("{ratio} (× {base})") })
                });
                let cost = |what: &str| self.median(subject, &format!("{}.{what}", case.name)).map(short);
                let calls = self.system_calls.get(subject).filter(|_| at == 0).copied().map(short);
                let rest =
                    [ratio, cost("cpu"), cost("switches"), calls].map(|cell| cell.unwrap_or("–".to_owned()));
                let (what, unit, rest) = (case.name, case.unit, rest.join(" | "));
                text += &format!("| {subject} | {what}, {unit} | {value} | {rest} | {verdict} |\n");
            }
        }
        (text, tally)
    }

    /// Two cells: the median, and the least and the greatest value.
    fn values_of(&self, subject: &str, case: &str) -> String {
        let Some((least, median, most)) = self.spread(subject, case) else { return "– | –".to_owned() };
        format!("{} | {} – {}", short(median), short(least), short(most))
    }

    /// The least value, the median, and the greatest.
    pub(crate) fn spread(&self, subject: &str, case: &str) -> Option<(f64, f64, f64)> {
        let all = || self.values(subject, case).into_iter().flatten();
        let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
        Some((least, median(all())?, most))
    }
}

/// Four figures that count.
pub(crate) fn short(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        v if v >= 1.0 || v == 0.0 => 3,
        _ => 4,
    };
    format!("{value:.digits$}")
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 0 => Some(f64::midpoint(values[middle - 1], values[middle])),
        _ => Some(values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::{Bound, Case, Figures, Goal, Of, Rounds, Tally, at_least, at_most, median};

    const CASES: &[Case] = &[Case { name: "calls", unit: "1/s" }];

    /// Rounds of `calls` by subject.
    fn rounds(subjects: &[(&str, &[Option<f64>])]) -> Rounds {
        let figures = |value: &Option<f64>| value.map(|value| Figures([("calls".to_owned(), value)].into()));
        Rounds {
            subjects: subjects.iter().map(|(name, _)| (*name).to_owned()).collect(),
            figures: subjects.iter().map(|(_, values)| values.iter().map(figures).collect()).collect(),
            ..Rounds::default()
        }
    }

    #[test]
    fn a_ratio_is_the_median_of_those_inside_each_round() {
        // The machine got slower from round to round.
        let theirs = [Some(100.0), Some(10.0), Some(1.0)];
        let rounds = rounds(&[("a+b", &[Some(200.0), Some(50.0), Some(1.0)]), ("c", &theirs)]);
        assert_eq!(rounds.ratio("a+b", "calls", "c", "calls"), Some(2.0));
        assert_eq!(rounds.median("a+b", "calls"), Some(50.0));
    }

    #[test]
    fn a_round_without_one_of_them_has_no_ratio() {
        let rounds = rounds(&[("a+b", &[None, Some(30.0)]), ("c", &[Some(1.0), Some(10.0)])]);
        assert_eq!(rounds.ratio("a+b", "calls", "c", "calls"), Some(3.0));
        assert_eq!(rounds.ratio("a+b", "calls", "d", "calls"), None);
    }

    #[test]
    fn one_bound_of_a_must_is_enough_and_those_that_are_not_are_counted() {
        let rounds = rounds(&[("ours/pipe+a", &[Some(40.0)]), ("c", &[Some(10.0)])]);
        let verdict = |must| {
            let goals = [Goal { case: "calls", who: "pipe+", must, aim: &[] }];
            let mut tally = Tally::default();
            let text = rounds.verdict("ours/pipe+a", &CASES[0], &goals, &mut tally);
            assert_eq!(rounds.verdict("c", &CASES[0], &goals, &mut tally), "", "nothing is asked of others");
            (text.rsplit(": ").next().unwrap_or_default().to_owned(), tally.missed, tally.unmeasured)
        };
        const MUSTS: [&[Bound]; 4] = [
            &[at_least(4.0, Of::Subject("c"))],
            &[at_least(4.1, Of::Subject("c"))],
            &[at_least(5.0, Of::Subject("c")), at_most(40.0, Of::Unit)],
            &[at_least(5.0, Of::Subject("d"))],
        ];
        let verdicts = MUSTS.map(verdict);
        let expected = [("met", 0, 0), ("MISSED", 1, 0), ("met", 0, 0), ("not measured", 0, 1)];
        assert_eq!(verdicts, expected.map(|(text, missed, unmeasured)| (text.to_owned(), missed, unmeasured)));
    }

    #[test]
    fn figures_are_read_as_they_are_printed() {
        let figures = Figures::read("figure 64 MiB 0.25\nnoise\nfigure calls.cpu 3\n");
        assert_eq!(
            figures.0.into_iter().collect::<Vec<_>>(),
            [("64 MiB".to_owned(), 0.25), ("calls.cpu".to_owned(), 3.0)]
        );
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
    }
}
