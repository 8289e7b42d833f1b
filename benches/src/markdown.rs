//! One table of everything, as it stands in a README: a line for each case, a column for each subject.

use crate::table::{Rounds, short};
use crate::{Workload, about, cpython};

/// Those whose subjects share a column, each with its name.
const GROUPS: [&str; 2] = ["threads/", "limit/"];

/// The table, and below it where and with what it was measured.
pub(crate) fn table(done: &[(&Workload, Rounds)], rounds: usize) -> String {
    let columns = columns(done);
    let head = columns.iter().map(|column| column.trim_end_matches('/'));
    let mut text = format!("| | {} |\n", head.collect::<Vec<_>>().join(" | "));
    text += &format!("|---|{}\n", "---:|".repeat(columns.len()));
    for (workload, rounds) in done {
        for case in workload.cases {
            let base = rounds.base(case.name, workload.yardsticks);
            let cells = columns.iter().map(|column| cell(rounds, case.name, base, column));
            let cells = cells.collect::<Vec<_>>().join(" | ");
            text += &format!("| {} {}, {} | {cells} |\n", workload.label(), case.name, case.unit);
        }
    }
    text + &format!(
        "\nMedians of {rounds} interleaved rounds. In brackets: × CPython's figure of the same round.\n\
         {}, {}; rustc {}; {}.\n",
        about::machine(),
        about::today(),
        about::RUSTC,
        about::python(),
    )
}

/// In order of appearance, ours and then the limits last.
fn columns(done: &[(&Workload, Rounds)]) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    let all = done.iter().flat_map(|(workload, rounds)| {
        let has_any =
            |subject: &&String| workload.cases.iter().any(|case| rounds.median(subject, case.name).is_some());
        rounds.subjects.iter().filter(has_any)
    });
    for subject in all {
        let group = GROUPS.into_iter().find(|group| subject.starts_with(group));
        let column = group.unwrap_or(subject);
        if !columns.iter().any(|known| known == column) {
            columns.push(column.to_owned());
        }
    }
    columns.sort_by_key(|column| (column == "limit/", column.starts_with("ours/")));
    columns
}

/// The figure, and its ratio; of a group all figures, with their names.
fn cell(rounds: &Rounds, case: &str, base: Option<&str>, column: &str) -> String {
    let figure = |subject: &String| {
        let value = short(rounds.median(subject, case)?);
        if let Some(name) = subject.strip_prefix(column).filter(|name| !name.is_empty()) {
            return Some(format!("{value} {name}"));
        }
        let base = base.filter(|base| base != subject)?;
        let ratio = short(rounds.ratio(subject, case, base, case)?);
        Some(match base {
            cpython::EXECUTOR => format!("{value} ({ratio})"),
            other => format!("{value} ({ratio} × {other})"),
        })
    };
    let is_here = |subject: &&String| match GROUPS.contains(&column) {
        true => subject.starts_with(column),
        false => *subject == column,
    };
    let figures = rounds.subjects.iter().filter(is_here);
    let plain = |subject: &String| figure(subject).or_else(|| rounds.median(subject, case).map(short));
    let cells: Vec<_> = figures.filter_map(plain).collect();
    if cells.is_empty() { "–".to_owned() } else { cells.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::table;
    use crate::table::{Figures, Rounds};
    use crate::w1;

    #[test]
    fn a_line_for_each_case_and_a_column_for_each_subject_that_has_figures() {
        let all = [
            ("cpython", Some(200.0)),
            ("procspawn", None),
            ("threads/crossbeam", Some(7.0)),
            ("threads/rayon", Some(20.0)),
            ("limit/pipe", Some(5.0)),
            ("ours/pipe+exec", Some(8.0)),
        ];
        let figures = |value: f64| Figures([("round trip".to_owned(), value)].into());
        let rounds = Rounds {
            subjects: all.iter().map(|(name, _)| (*name).to_owned()).collect(),
            figures: all.iter().map(|(_, value)| vec![value.map(figures)]).collect(),
            ..Rounds::default()
        };
        let text = table(&[(&w1::WORKLOAD, rounds)], 3);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "| | cpython | threads | ours/pipe+exec | limit |",
                "|---|---:|---:|---:|---:|",
                "| W1 round trip, µs | 200.0 | 7.000 crossbeam, 20.00 rayon | 8.000 (0.0400) | 5.000 pipe |",
                "",
            ]
        );
        assert!(lines[4].starts_with("Medians of 3 interleaved rounds."));
        assert!(lines[5].contains("; rustc 1."), "{}", lines[5]);
    }
}
