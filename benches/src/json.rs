//! The tables as rows: a JSON array of `{"workload", "subject", "value", "unit"}`.
//!
//! The workload is `W1` and so on, and where it has several cases, the case behind it: `W4 64 KiB`. The first row
//! of a subject is the median; those that follow have other units: `… (least)` and `… (most)` of the rounds, the
//! ratio as `× cpython` or of what else was the yardstick, and for each call `CPU µs/call`, `switches/call` and
//! `system calls/call`, as far as they were measured.

use crate::Workload;
use crate::table::Rounds;

/// One row.
#[derive(Debug, PartialEq)]
struct Row {
    workload: String,
    subject: String,
    value: f64,
    unit: String,
}

/// Everything that was measured.
pub(crate) fn array(done: &[(&Workload, Rounds)]) -> String {
    let rows: Vec<_> = done.iter().flat_map(|(workload, rounds)| rows(workload, rounds)).collect();
    // No number that JSON lacks.
    let lines: Vec<_> = rows.iter().filter(|row| row.value.is_finite()).map(line).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

fn line(Row { workload, subject, value, unit }: &Row) -> String {
    let [workload, subject, unit] = [workload, subject, unit].map(|text| quoted(text));
    format!(r#"{{"workload": {workload}, "subject": {subject}, "value": {value}, "unit": {unit}}}"#)
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            char if char.is_control() => quoted += &format!("\\u{:04x}", u32::from(char)),
            char => quoted.push(char),
        }
    }
    quoted + "\""
}

fn rows(workload: &Workload, rounds: &Rounds) -> Vec<Row> {
    let mut rows = Vec::new();
    for (at, case) in workload.cases.iter().enumerate() {
        let base = rounds.base(case.name, workload.yardsticks);
        let name = match workload.cases.len() {
            1 => workload.label().to_owned(),
            _ => format!("{} {}", workload.label(), case.name),
        };
        for subject in &rounds.subjects {
            let Some((least, median, most)) = rounds.spread(subject, case.name) else { continue };
            let cost = |what: &str| rounds.median(subject, &format!("{}.{what}", case.name));
            let ratio = base.and_then(|base| rounds.ratio(subject, case.name, base, case.name));
            let values = [
                (Some(median), case.unit.to_owned()),
                (Some(least), format!("{} (least)", case.unit)),
                (Some(most), format!("{} (most)", case.unit)),
                (ratio, format!("× {}", base.unwrap_or_default())),
                (cost("cpu"), "CPU µs/call".to_owned()),
                (cost("switches"), "switches/call".to_owned()),
                (rounds.system_calls.get(subject).filter(|_| at == 0).copied(), "system calls/call".to_owned()),
            ];
            rows.extend(values.into_iter().filter_map(|(value, unit)| {
                Some(Row { workload: name.clone(), subject: subject.clone(), value: value?, unit })
            }));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::{array, quoted};
    use crate::table::{Figures, Rounds};
    use crate::{w1, w4};

    /// Rounds in which `cpython` and one of ours had these figures.
    fn rounds(case: &str, theirs: f64, ours: f64) -> Rounds {
        let figures = |value| vec![Some(Figures([(case.to_owned(), value), (format!("{case}.cpu"), 7.0)].into()))];
        Rounds {
            subjects: vec!["cpython".to_owned(), "ours/shm+exec".to_owned()],
            figures: vec![figures(theirs), figures(ours)],
            system_calls: [("cpython".to_owned(), 21.0)].into(),
        }
    }

    #[test]
    fn a_row_has_four_members_and_the_median_comes_first() {
        let text = array(&[(&w1::WORKLOAD, rounds("round trip", 200.0, 0.5))]);
        let row = |subject: &str, value: &str, unit: &str| {
            format!(r#"{{"workload": "W1", "subject": "{subject}", "value": {value}, "unit": "{unit}"}}"#)
        };
        let expected = [
            row("cpython", "200", "µs"),
            row("cpython", "200", "µs (least)"),
            row("cpython", "200", "µs (most)"),
            row("cpython", "1", "× cpython"),
            row("cpython", "7", "CPU µs/call"),
            row("cpython", "21", "system calls/call"),
            row("ours/shm+exec", "0.5", "µs"),
            row("ours/shm+exec", "0.5", "µs (least)"),
            row("ours/shm+exec", "0.5", "µs (most)"),
            row("ours/shm+exec", "0.0025", "× cpython"),
            row("ours/shm+exec", "7", "CPU µs/call"),
        ];
        assert_eq!(text, format!("[\n{}\n]\n", expected.join(",\n")));
    }

    #[test]
    fn one_of_several_cases_is_named_and_what_is_no_number_is_left_out() {
        let text = array(&[(&w4::WORKLOAD, rounds("1 MiB", f64::NAN, 0.25))]);
        assert!(
            text.contains(
                r#"{"workload": "W4 1 MiB", "subject": "ours/shm+exec", "value": 0.25, "unit": "GB/s"}"#
            )
        );
        assert!(!text.contains("NaN"), "{text}");
    }

    #[test]
    fn text_is_quoted() {
        assert_eq!(quoted("a \"b\" \\ \n µ"), r#""a \"b\" \\ \u000a µ""#);
    }
}
