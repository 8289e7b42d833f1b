//! Worker programs that are none.

use std::path::Path;
use std::time::{Duration, Instant};

use pool_core::spawner::SpawnError;
use process_pool::error::{BreakReason, Exit, StartError};
use process_pool::spawn::Exec;
use process_pool::{BuildError, Executor};
use xtests::cases;
use xtests::runner::{Case, Subject};

use crate::kit::{self, PROMPTLY, write_program};

pub(crate) const CASES: &[Case] = cases![
    a_missing_program_is_refused_when_the_pool_is_built,
    a_directory_is_no_program,
    a_file_that_may_not_be_executed_is_no_program,
    a_file_without_an_interpreter_is_no_program,
    a_script_whose_interpreter_is_missing_is_no_program,
    a_program_that_vanishes_after_the_pool_was_built_is_missed,
    a_program_that_exits_at_once_is_no_worker,
    a_program_that_prints_and_exits_is_no_worker,
    a_program_that_reads_its_input_is_no_worker,
    a_program_that_closes_its_input_is_no_worker,
    a_program_that_never_ends_is_given_up_at_the_start_deadline,
    a_program_that_leaves_its_input_to_another_process_is_no_worker,
    a_program_that_fails_twice_and_then_works_is_a_worker,
];

fn with_program(exec: Exec) -> Result<Executor, BuildError> {
    kit::impatient(Executor::builder()).context(kit::program(exec)).build()
}

/// The pool is not even built.
#[track_caller]
fn is_refused(path: &Path) {
    match with_program(Exec::program(path)) {
        Err(BuildError::Spawn(SpawnError::Program { path: named, .. })) => assert_eq!(named, path),
        other => panic!("{other:?}"),
    }
}

/// The pool is built, and breaks when it needs a worker; the last failure is the right one.
#[track_caller]
fn comes_to_nothing(exec: Exec, is_right: impl Fn(&StartError) -> bool) {
    let pool = with_program(exec).expect("it cannot be known yet");
    let calls = (0..3).map(|n| pool.submit_named::<u32, u32>("double", n).expect("taken")).collect();
    kit::breaks(pool, calls, |reason| match reason {
        BreakReason::TooManyFailures { failures: 2, last } => is_right(last),
        _ => false,
    });
}

fn shell(script: &str) -> Exec {
    Exec::program("/bin/sh").args(["-c", script])
}

fn cannot_run(last: &StartError) -> bool {
    matches!(last, StartError::Spawn(error) if matches!(**error, SpawnError::Program { .. }))
}

fn ended(with: Exit) -> impl Fn(&StartError) -> bool {
    move |last| matches!(last, StartError::Ended { exit, .. } if *exit == with)
}

fn a_missing_program_is_refused_when_the_pool_is_built(subject: &Subject) {
    is_refused(&subject.dir.join("no-such-program"));
}

fn a_directory_is_no_program(subject: &Subject) {
    is_refused(&subject.dir);
}

fn a_file_that_may_not_be_executed_is_no_program(subject: &Subject) {
    let path = subject.dir.join("text");
    std::fs::write(&path, "text").expect("written");
    is_refused(&path);
}

fn a_file_without_an_interpreter_is_no_program(subject: &Subject) {
    let path = subject.dir.join("text");
    write_program(&path, "text without a first line that says what reads it");
    comes_to_nothing(Exec::program(path), cannot_run);
}

fn a_script_whose_interpreter_is_missing_is_no_program(subject: &Subject) {
    let path = subject.dir.join("script");
    write_program(&path, "#!/no/such/interpreter\n");
    comes_to_nothing(Exec::program(path), cannot_run);
}

fn a_program_that_vanishes_after_the_pool_was_built_is_missed(subject: &Subject) {
    let path = subject.dir.join("script");
    write_program(&path, "#!/bin/sh\nexit 0\n");
    let pool = with_program(Exec::program(&path)).expect("it is there");
    std::fs::remove_file(&path).expect("removed");
    let call = pool.submit_named::<u32, u32>("double", 1).expect("taken");
    kit::breaks(pool, vec![call], |reason| match reason {
        BreakReason::TooManyFailures { failures: 2, last } => cannot_run(last),
        _ => false,
    });
}

fn a_program_that_exits_at_once_is_no_worker(_: &Subject) {
    comes_to_nothing(Exec::program("/bin/true"), ended(Exit::Code(0)));
    comes_to_nothing(Exec::program("/bin/false"), ended(Exit::Code(1)));
    comes_to_nothing(shell("kill -s SEGV $$"), ended(Exit::Signal(11)));
}

fn a_program_that_prints_and_exits_is_no_worker(_: &Subject) {
    comes_to_nothing(Exec::program(env!("CARGO_BIN_EXE_hostile_worker")).arg("prints"), ended(Exit::Code(2)));
}

/// What it reads in this way loses the descriptors that came along, so the link closes; the pool ends it then.
fn a_program_that_reads_its_input_is_no_worker(_: &Subject) {
    comes_to_nothing(shell("exec cat > /dev/null"), ended(Exit::Signal(9)));
}

fn a_program_that_closes_its_input_is_no_worker(_: &Subject) {
    comes_to_nothing(shell("exec sleep 1000 < /dev/null"), ended(Exit::Signal(9)));
}

fn a_program_that_never_ends_is_given_up_at_the_start_deadline(_: &Subject) {
    let deadline = Duration::from_millis(300);
    let exec = shell("trap '' TERM INT HUP; exec sleep 1000");
    let pool = kit::impatient(Executor::builder()).start_deadline(deadline).context(kit::program(exec));
    let pool = pool.build().expect("a pool");
    let calls = (0..3).map(|n| pool.submit_named::<u32, u32>("double", n).expect("taken")).collect();
    kit::breaks(pool, calls, |reason| match reason {
        BreakReason::NoWorkerInTime { deadline: named, last: StartError::TimedOut(after) } => {
            (*named, *after) == (deadline, deadline)
        }
        _ => false,
    });
}

fn a_program_that_leaves_its_input_to_another_process_is_no_worker(_: &Subject) {
    // The runner grants what is left behind two seconds.
    comes_to_nothing(shell("(exec sleep 1) & exit 3"), ended(Exit::Code(3)));
}

fn a_program_that_fails_twice_and_then_works_is_a_worker(subject: &Subject) {
    let counter = subject.dir.join("counter");
    std::fs::write(&counter, "").expect("written");
    let exec = Exec::program(env!("CARGO_BIN_EXE_hostile_worker")).arg("flaky").arg(&counter);
    let start = Instant::now();
    let pool = Executor::builder().max_workers(1).context(kit::program(exec));
    let pool = pool.build().expect("a pool");
    let call = pool.submit_named::<u32, u32>("double", 21).expect("taken");
    assert_eq!(kit::settled(&call).expect("the third start is a good one"), 42);
    assert_eq!(std::fs::read(&counter).expect("read"), b"xx");
    assert!(start.elapsed() < PROMPTLY, "{:?}", start.elapsed());
}
