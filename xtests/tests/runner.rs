//! The runner itself: it has to notice what goes wrong in a case.
//!
//! Each case runs this program once more, with specimens of what can go wrong as its cases.

use std::process::{Command, Output};
use std::time::Duration;

use xtests::cases;
use xtests::gate::{Gate, wait_at};
use xtests::runner::{self, Case, Subject};

/// Set where the specimens are to be run.
const SPECIMENS: &str = "XTESTS_SPECIMENS";

mod specimen {
    use super::*;

    pub(crate) fn passes(_: &Subject) {}

    pub(crate) fn panics(_: &Subject) {
        println!("said before");
        panic!("as it must");
    }

    pub(crate) fn is_skipped(_: &Subject) {
        runner::skip("no moon tonight");
    }

    pub(crate) fn exits(_: &Subject) {
        std::process::exit(0x2a);
    }

    pub(crate) fn leaks_a_thread(_: &Subject) {
        std::thread::Builder::new().name("lost-thread".to_owned()).spawn(std::thread::park).expect("a thread");
    }

    pub(crate) fn leaks_a_descriptor(subject: &Subject) {
        let file = std::fs::File::create(subject.dir.join("lost-file")).expect("a file");
        std::mem::forget(file);
    }

    pub(crate) fn leaks_a_temporary_file(_: &Subject) {
        std::fs::write(std::env::temp_dir().join("lost-temporary"), "").expect("a file");
    }

    /// The pool is never dropped: its worker, its threads and its pipes are left.
    pub(crate) fn leaks_a_pool(subject: &Subject) {
        let pool = subject.pool(1);
        assert_eq!(pool.submit(|n: u8| n, 1).expect("accepted").result().expect("a result"), 1);
        std::mem::forget(pool);
    }

    /// With a worker, which must go too.
    pub(crate) fn hangs(subject: &Subject) {
        let (pool, gate) = (subject.pool(1), Gate::new());
        let handle = pool.submit(wait_at, gate.port()).expect("accepted");
        println!("worker {}", gate.arrival().pid);
        let _waits = pool.submit(wait_at, gate.port()).expect("accepted");
        let _visitor = gate.arrival();
        drop(handle);
        std::thread::park();
    }

    /// Fails for every other context than that it is run with.
    pub(crate) fn is_about_its_context(subject: &Subject) {
        assert_eq!(subject.pool(1).context(), subject.context);
        assert_eq!(std::fs::read_dir(&subject.dir).expect("a directory").count(), 0);
    }
}

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.args(args).env(SPECIMENS, "1").output().expect("the runner runs")
}

/// The runner's standard output, and whether it was content.
fn outcome(args: &[&str]) -> (String, bool) {
    let Output { status, stdout, .. } = run(args);
    (String::from_utf8(stdout).expect("text"), status.success())
}

#[track_caller]
fn assert_says(output: &str, parts: &[&str]) {
    for part in parts {
        assert!(output.contains(part), "no `{part}` in\n{output}");
    }
}

/// The specimen's full name.
fn of(subject: &Subject, specimen: &str) -> String {
    format!("{}::{specimen}", subject.context)
}

fn a_good_case_passes(subject: &Subject) {
    let name = of(subject, "passes");
    let (output, content) = outcome(&["--exact", &name]);
    assert!(content);
    assert_says(
        &output,
        &["running 1 tests", &format!("test {name} ... ok"), "test result: ok. 1 passed; 0 failed; 0 ignored"],
    );
}

fn a_failure_is_shown_with_its_output(subject: &Subject) {
    let (output, content) = outcome(&[&of(subject, "panics")]);
    assert!(!content);
    assert_says(
        &output,
        &["::panics ... FAILED", "said before", "as it must", "test result: FAILED. 0 passed; 1 failed"],
    );
}

fn an_unexpected_exit_is_a_failure(subject: &Subject) {
    let (output, content) = outcome(&[&of(subject, "exits")]);
    assert!(!content);
    assert_says(&output, &["exit code 42"]);
}

fn a_skipped_case_is_ignored_with_its_reason(subject: &Subject) {
    let (output, content) = outcome(&[&of(subject, "is_skipped")]);
    assert!(content);
    assert_says(&output, &["ignored, no moon tonight", "0 passed; 0 failed; 1 ignored"]);
}

fn what_is_left_behind_is_a_failure(subject: &Subject) {
    if !cfg!(target_os = "linux") {
        runner::skip("leaks are looked for on Linux only");
    }
    for (name, traces) in [
        ("leaks_a_thread", &["lost-thread"][..]),
        ("leaks_a_descriptor", &["lost-file"]),
        ("leaks_a_temporary_file", &["lost-temporary"]),
        ("leaks_a_pool", &["pool-supervisor", "processes: [\""]),
    ] {
        let (output, content) = outcome(&[&of(subject, name)]);
        assert!(!content);
        assert_says(&output, &["left something behind"]);
        assert_says(&output, traces);
        if name == "leaks_a_pool" && subject.transport() == "pipe" {
            assert_says(&output, &[" rw-s "]);
        }
    }
}

fn a_hang_is_ended_and_named_and_so_are_its_workers(subject: &Subject) {
    let (output, content) = outcome(&[&of(subject, "hangs")]);
    assert!(!content);
    assert_says(&output, &["::hangs ... FAILED", "hang: 3s passed"]);
    if cfg!(target_os = "linux") {
        let pid = output.split("worker ").nth(1).and_then(|rest| rest.lines().next()).expect("a worker's pid");
        // It was killed before the program ended, but it ends in its own time; as a zombie it has no command line.
        xtests::processes::eventually(&format!("worker {pid} is gone"), || {
            std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().is_empty()
        });
    }
}

fn known_failures_run_only_when_asked_for(subject: &Subject) {
    let (output, content) = outcome(&[&of(subject, "known")]);
    assert!(content);
    assert_says(&output, &["ignored, known to fail: a specimen", "0 passed; 0 failed; 1 ignored"]);
    let (output, content) = outcome(&[&of(subject, "known"), "--ignored"]);
    assert!(!content);
    assert_says(&output, &["0 passed; 1 failed"]);
}

/// cargo-nextest's contract: each line of the list ends with `: test`.
fn the_list_is_what_nextest_reads(_: &Subject) {
    let (output, content) = outcome(&["--list", "--format", "terse"]);
    assert!(content && output.lines().count() >= 10);
    assert!(output.lines().all(|line| line.ends_with(": test") && line.contains("+")), "{output}");
    let (output, content) = outcome(&["--list", "--format", "terse", "--ignored"]);
    assert!(content && output.lines().all(|line| line.contains("::known")), "{output}");
    assert!(!outcome(&["--frobnicate"]).1);
}

fn main() {
    process_pool::init();
    if std::env::var_os(SPECIMENS).is_some() {
        let hangs = Case::new("hangs", specimen::hangs).watchdog(Duration::from_secs(3));
        let known = Case::new("known", specimen::panics).known_failing("a specimen");
        let others: &[Case] = cases![
            specimen::passes,
            specimen::panics,
            specimen::is_skipped,
            specimen::exits,
            specimen::leaks_a_thread,
            specimen::leaks_a_descriptor,
            specimen::leaks_a_temporary_file,
            specimen::leaks_a_pool,
            specimen::is_about_its_context,
        ];
        runner::main(&[others, &[hangs, known]].concat());
    }
    runner::main(cases![
        a_good_case_passes,
        a_failure_is_shown_with_its_output,
        an_unexpected_exit_is_a_failure,
        a_skipped_case_is_ignored_with_its_reason,
        what_is_left_behind_is_a_failure,
        a_hang_is_ended_and_named_and_so_are_its_workers,
        known_failures_run_only_when_asked_for,
        the_list_is_what_nextest_reads,
    ]);
}
