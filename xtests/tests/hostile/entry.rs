//! Programs that call `init()` never, late, twice, on another thread, or not where a worker comes by.

use std::process::{Command, Output, Stdio};
use std::time::Instant;

use xtests::cases;
use xtests::runner::{Case, Subject};

use crate::kit::PROMPTLY;

pub(crate) const CASES: &[Case] = cases![
    without_init_nothing_is_started_and_the_error_says_what_to_do,
    init_after_a_first_pool_was_refused_is_not_too_late,
    a_program_that_builds_a_pool_before_init_is_refused_one_in_its_workers,
    a_worker_that_misses_init_is_a_failed_start,
    a_worker_that_never_gets_to_init_is_given_up_at_the_start_deadline,
    a_worker_that_panics_before_init_is_a_failed_start,
    init_may_be_called_twice,
    init_may_be_called_on_another_thread,
];

/// Runs the program that treats `init()` in this way, and returns what it says on its standard output.
#[track_caller]
fn main_that(how: &str) -> String {
    let start = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostile_main"));
    let Output { status, stdout, stderr } =
        command.env("HOSTILE_MAIN", how).stdin(Stdio::null()).output().expect("it runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{status}\n{stdout}\n{stderr}");
    assert!(start.elapsed() < PROMPTLY, "{:?}", start.elapsed());
    stdout.into_owned()
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "it does not say {part:?}: {text}");
    }
}

fn without_init_nothing_is_started_and_the_error_says_what_to_do(_: &Subject) {
    let text = main_that("never");
    says(&text, &["call it first in `main`", "auto_init!"]);
    // Elsewhere a program cannot ask so simply.
    if cfg!(unix) {
        says(&text, &["no child"]);
    }
}

fn init_after_a_first_pool_was_refused_is_not_too_late(_: &Subject) {
    says(&main_that("late"), &["refused: this program has not called", "works"]);
}

fn a_program_that_builds_a_pool_before_init_is_refused_one_in_its_workers(_: &Subject) {
    says(&main_that("inside"), &["started as a worker but builds a pool before", "too many: Code(42)"]);
}

fn a_worker_that_misses_init_is_a_failed_start(_: &Subject) {
    says(&main_that("branch"), &["ended before it had run a single call (exit code 7)", "too many: Code(7)"]);
}

fn a_worker_that_never_gets_to_init_is_given_up_at_the_start_deadline(_: &Subject) {
    says(&main_that("blocks"), &["does its `main` call `init()` first", "in time: 500ms"]);
}

fn a_worker_that_panics_before_init_is_a_failed_start(_: &Subject) {
    says(&main_that("panics"), &["too many: Code(101)"]);
}

fn init_may_be_called_twice(_: &Subject) {
    says(&main_that("twice"), &["works"]);
}

fn init_may_be_called_on_another_thread(_: &Subject) {
    says(&main_that("thread"), &["works"]);
}
