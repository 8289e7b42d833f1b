//! Keeps `cpython.md` and `executor_laws.md` honest: what they name exists and runs, and they leave nothing out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What `cpython.md` has to tell of, beside S1 to S74.
const PAINS: &[u32] = &[
    1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 31, 32,
    33, 34, 37, 38, 39, 40, 42, 43, 44, 45, 46,
];

/// What a row says that names no test.
const REASONS: [&str; 2] = ["not applicable: ", "not offered: "];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn page() -> String {
    read(&root().join("cpython.md"))
}

fn laws() -> String {
    read(&root().join("executor_laws.md"))
}

/// The rows of the page's tables, in cells, without the tables' heads.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let cells = |line| -> Vec<&str> { str::trim_matches(line, '|').split('|').map(str::trim).collect() };
    let lines: Vec<_> = page.lines().collect();
    let is_row = |at: usize| {
        let next = lines.get(at + 1).copied().unwrap_or_default();
        lines[at].starts_with('|') && !lines[at].starts_with("|---") && !next.starts_with("|---")
    };
    (0..lines.len()).filter(|at| is_row(*at)).map(|at| cells(lines[at])).collect()
}

/// What stands in backticks and is the name of a test.
fn tests_in(text: &str) -> Vec<&str> {
    let is_name = |code: &&str| {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-:".contains(c);
        code.contains("::") && code.chars().all(is_plain)
    };
    text.split('`').skip(1).step_by(2).filter(is_name).collect()
}

/// Where the source of a test may be: of a suite of this crate, or of another crate.
fn sources(modules: &[&str]) -> Vec<PathBuf> {
    let (first, rest) = modules.split_first().expect("a suite or a crate");
    let file = |folder: PathBuf, rest: &[&str]| folder.join(rest.join("/")).with_extension("rs");
    let tests = root().join("tests");
    let of_a_suite = file(tests.clone(), modules);
    if tests.join(first).is_dir() || of_a_suite.is_file() {
        return vec![of_a_suite];
    }
    let home = root().join("..").join(if *first == "process-pool" { "" } else { first });
    vec![file(home.join("src"), rest), file(home.join("tests"), rest)]
}

/// What stands in the source's lists of cases; comments do not count.
fn listed(text: &str) -> BTreeSet<String> {
    let code = text.lines().map(str::trim).filter(|line| !line.starts_with("//")).collect::<String>();
    let lists = code.split("cases![").skip(1).filter_map(|rest| rest.split(']').next());
    lists.flat_map(|list| list.split(',')).map(|name| name.trim().to_owned()).collect()
}

/// Why there is no such test, or why it does not run.
fn fault(name: &str) -> Option<String> {
    let modules: Vec<_> = name.split("::").collect();
    let (case, modules) = modules.split_last().expect("`split` gives one at least");
    let Some(path) = sources(modules).into_iter().find(|path| path.is_file()) else {
        return Some(format!("{name}: no such file"));
    };
    let text = read(&path);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.starts_with("//")).collect();
    let Some(at) = lines.iter().position(|line| line.contains(&format!("fn {case}("))) else {
        return Some(format!("{name}: no such function in {}", path.display()));
    };
    let tests = root().join("tests");
    let runs = if path.starts_with(&tests) && lines[at.saturating_sub(1)] != "#[test]" {
        // The list stands with the cases, or in the suite's main file.
        let main = tests.join(modules[0]).join("main.rs");
        let main = if main.is_file() { read(&main) } else { String::new() };
        let in_main = name.split_once("::").expect("it has two parts at least").1;
        listed(&text).contains(*case) || listed(&main).contains(in_main)
    } else {
        // Other crates have the standard harness, or one with lists of names or calls.
        let lists = [format!("\"{case}\""), format!("|_| {case}()")];
        // The kit's laws are listed beside their files.
        let in_list = format!("{}::{case}", modules.last().expect("a module"));
        lines[at.saturating_sub(1)] == "#[test]"
            || (modules[0] == "xtests" && read(&path.with_file_name("mod.rs")).contains(&in_list))
            || lines.iter().any(|line| lists.iter().any(|it| line.contains(it)))
    };
    (!runs).then(|| format!("{name}: it is not run"))
}

#[test]
fn every_test_that_is_named_exists_and_runs() {
    for (page, least) in [(page(), 150), (laws(), 50)] {
        let names: BTreeSet<_> = tests_in(&page).into_iter().collect();
        assert!(names.len() > least, "only {} names were understood", names.len());
        let faults: Vec<_> = names.into_iter().filter_map(fault).collect();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}

/// The laws are numbered without a gap, and each has a row that names a test.
#[test]
fn every_law_of_the_executor_is_held() {
    let source = read(&root().join("../pool-core/src/executor.rs"));
    let said: Vec<_> = source
        .lines()
        .filter_map(|line| line.strip_prefix("//! - **E")?.split_once("** "))
        .map(|(number, _)| number.parse::<u32>().expect("a law's number"))
        .collect();
    assert!(said.len() > 10, "only {said:?} were understood");
    assert_eq!(said, (1..=said.len() as u32).collect::<Vec<_>>());
    let page = laws();
    let rows = rows(&page);
    let held: Vec<_> = rows.iter().map(|row| row[0].to_owned()).collect();
    assert_eq!(held, said.iter().map(|number| format!("E{number}")).collect::<Vec<_>>());
    for row in &rows {
        assert!(!tests_in(row.last().expect("a row has cells")).is_empty(), "no test: {row:?}");
    }
}

#[test]
fn a_name_that_is_wrong_is_found_out() {
    for (name, what) in [
        ("executor::nowhere::a_submitted_call_returns_its_result", "no such file"),
        ("executor::calls::a_submitted_call", "no such function"),
        ("executor::stress::an_older_call_starts_before_newer_ones", "it is not run"),
        ("executor::tools::traces", "it is not run"),
        ("pool-core::machine::script::live", "it is not run"),
    ] {
        assert!(fault(name).is_some_and(|fault| fault.contains(what)), "{name}: {:?}", fault(name));
    }
}

#[test]
fn the_tables_leave_nothing_out() {
    let page = page();
    let rows = rows(&page);
    let numbers = |letter: char| -> Vec<u32> {
        let heads = rows.iter().filter_map(|row| row[0].strip_prefix(letter));
        heads.filter_map(|number| number.parse().ok()).collect()
    };
    assert_eq!(numbers('S'), (1..=74).collect::<Vec<_>>());
    assert_eq!(numbers('D'), PAINS);
    for row in &rows {
        let answer = row.last().expect("a row has cells");
        let is_held = !tests_in(answer).is_empty() || REASONS.iter().any(|reason| answer.contains(reason));
        assert!(is_held, "neither a test nor a reason: {row:?}");
    }
}

#[test]
fn every_case_of_the_suite_is_told_of() {
    let page = page();
    let told: BTreeSet<_> = tests_in(&page).into_iter().collect();
    let main = read(&root().join("tests/cpython/main.rs"));
    let cases: Vec<_> = listed(&main).into_iter().filter(|case| !case.is_empty()).collect();
    assert!(cases.len() > 20, "only {} cases were understood", cases.len());
    let untold: Vec<_> = cases.iter().filter(|case| !told.contains(format!("cpython::{case}").as_str())).collect();
    assert!(untold.is_empty(), "{untold:?}");
}

/// Each of README's differences begins with words in bold, and has a row that begins with the same.
#[test]
fn what_readme_says_differs_is_held() {
    let readme = read(&root().join("../README.md"));
    let section =
        readme.split("\n## ").find(|section| section.starts_with("How it differs from concurrent.futures"));
    let items = section.expect("README has the section").lines().filter_map(|line| line.strip_prefix("- **"));
    let said: Vec<_> = items.map(|item| item.split("**").next().expect("bold ends")).collect();
    let page = page();
    let last = page.split("\n## ").last().expect("it has sections");
    let held: Vec<_> = rows(last).into_iter().map(|row| row[0]).collect();
    assert!(said.len() > 10, "{said:?}");
    assert_eq!(said, held);
}
