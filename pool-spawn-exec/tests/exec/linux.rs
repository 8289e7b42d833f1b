//! Cases that look into `/proc`.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pool_core::spawner::SpawnError;
use xtests::processes::emulator_lacks;

use crate::harness::{Case, own, read_all, start, start_with_pipe};

pub(crate) fn all() -> Vec<Case> {
    vec![
        ("a_worker_holds_its_handles_and_nothing_else", a_worker_holds_its_handles_and_nothing_else),
        ("a_failed_start_leaves_nothing_behind", a_failed_start_leaves_nothing_behind),
        ("a_renamed_program_still_starts", a_renamed_program_still_starts),
        ("ignored_children_are_reported_too", ignored_children_are_reported_too),
    ]
}

/// What this process has open, apart from the look itself.
pub(crate) fn descriptors() -> Vec<String> {
    let entries: Vec<_> =
        fs::read_dir("/proc/self/fd").expect("listed").map(|entry| entry.expect("one")).collect();
    let mut list: Vec<_> = entries
        .iter()
        .filter_map(|entry| Some((entry.file_name(), fs::read_link(entry.path()).ok()?)))
        .map(|(number, what)| format!("{} {}", number.display(), what.display()))
        .collect();
    list.sort();
    list
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("listed").count()
}

/// The thread leaves a moment after the last report.
fn settles_to(expected: usize, count: impl Fn() -> usize) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while count() != expected && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(count(), expected);
}

fn a_worker_holds_its_handles_and_nothing_else() {
    let inherited = descriptors().len();
    let (started, reader) = start_with_pipe(&own(), "list descriptors", b"");
    let text = read_all(reader);
    // The standard streams and whatever the case itself was born with, one handle, and the lifeline.
    assert_eq!(text.matches("socket:").count(), 1, "{text}");
    assert!(text.contains("\"0 /dev/null\""), "{text}");
    assert_eq!(text.matches(", ").count() + 1, inherited + 2, "{text}");
    let called = text.rsplit_once("] ").expect("the list, then the name").1;
    assert!(called.starts_with("\"exec-"), "named after the program: {text}");
    started.report();
}

fn a_failed_start_leaves_nothing_behind() {
    if emulator_lacks("a process that shares its parent's memory until it is another program has a copy of it") {
        return;
    }
    let before = descriptors();
    let text = std::env::temp_dir().join(format!("pool-spawn-exec-text-{}", std::process::id()));
    fs::write(&text, "no program").expect("written");
    fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    for _ in 0..10 {
        let failed = start(&pool_spawn_exec::Exec::program(&text), "x", b"", vec![]);
        assert!(matches!(failed.map(drop), Err(SpawnError::Program { .. })));
        assert_eq!(descriptors(), before, "not even for a moment");
    }
    settles_to(1, threads);
    fs::remove_file(&text).expect("removed");
}

fn a_renamed_program_still_starts() {
    if emulator_lacks("a program is read by its name") {
        return;
    }
    let copy = std::env::temp_dir().join(format!("pool-spawn-exec-copy-{}", std::process::id()));
    fs::copy(std::env::current_exe().expect("a path"), &copy).expect("copied");
    let mut printer = Command::new(&copy);
    printer.env(crate::harness::ROLE, "printer of a file that is gone").stdout(Stdio::piped());
    let mut printer = printer.spawn().expect("it starts");
    let out = read_all(printer.stdout.take().expect("piped"));
    assert_eq!(out.trim_end(), "hello from the worker");
    assert!(printer.wait().expect("it ends").success());
    assert!(!copy.exists());
}

/// Where the program ignores `SIGCHLD`, the kernel keeps no exit status for anybody to ask for.
fn ignored_children_are_reported_too() {
    let program = std::env::current_exe().expect("a path");
    let mut command = Command::new("env");
    command.arg("--ignore-signal=CHLD").arg(program).env(crate::harness::ROLE, "counter").stdout(Stdio::piped());
    let mut counter = command.spawn().expect("it starts");
    assert_eq!(read_all(counter.stdout.take().expect("piped")), "30 reports");
    counter.wait().expect("it ends");
}
