//! Cases that look into `/proc`.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pool_core::error::Exit;
use pool_core::spawner::{Signal, SpawnError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{Case, own, read_all, read_some, start, start_with_pipe};

pub(crate) fn all() -> Vec<Case> {
    vec![
        ("a_worker_holds_its_handles_and_nothing_else", a_worker_holds_its_handles_and_nothing_else),
        ("three_hundred_deaths_leave_nothing_behind", three_hundred_deaths_leave_nothing_behind),
        ("a_failed_start_leaves_nothing_behind", a_failed_start_leaves_nothing_behind),
        ("a_foreign_child_sees_no_descriptor_of_ours", a_foreign_child_sees_no_descriptor_of_ours),
        ("no_descriptor_left_is_a_shortage_and_passes", no_descriptor_left_is_a_shortage_and_passes),
        ("a_renamed_program_still_starts", a_renamed_program_still_starts),
        ("a_large_parent_starts_workers_as_fast", a_large_parent_starts_workers_as_fast),
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

fn three_hundred_deaths_leave_nothing_behind() {
    let exec = own();
    start(&exec, "exit", &[0], vec![]).expect("started").report();
    settles_to(1, threads);
    let before = descriptors();
    for round in 0..300u32 {
        if round % 3 == 0 {
            let (started, mut reader) = start_with_pipe(&exec, "idle", b"");
            assert_eq!(read_some(&mut reader, 2), "up");
            started.worker.signal(Signal::Kill).expect("sent");
            assert_eq!(started.report().exit, Exit::Signal(9));
        } else {
            start(&exec, "exit", &[1], vec![]).expect("started").report();
        }
    }
    settles_to(1, threads);
    assert_eq!(descriptors(), before);
}

fn a_failed_start_leaves_nothing_behind() {
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

fn a_foreign_child_sees_no_descriptor_of_ours() {
    let look = || {
        let out = Command::new("ls").args(["-l", "/proc/self/fd"]).stdin(Stdio::null()).output().expect("it runs");
        let text = String::from_utf8(out.stdout).expect("text");
        text.lines().filter(|line| line.contains("->")).count()
    };
    let normal = look();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exec = own();
            for _ in 0..100 {
                let (started, reader) = start_with_pipe(&exec, "exit", &[0]);
                read_all(reader);
                started.report();
            }
            done.store(true, Ordering::Release);
        });
        let mut looks = 0;
        while !done.load(Ordering::Acquire) {
            assert_eq!(look(), normal);
            looks += 1;
        }
        println!("looked {looks} times");
    });
}

fn no_descriptor_left_is_a_shortage_and_passes() {
    let exec = own();
    start(&exec, "exit", &[0], vec![]).expect("started").report();
    settles_to(1, threads);
    let before = descriptors();
    let limit = getrlimit(Resource::Nofile);
    // However many are missing, at whichever step they run out: a shortage, and nothing is left behind.
    let mut worked = false;
    for spare in 0..12 {
        let tight = Rlimit { current: Some(before.len() as u64 + spare), maximum: limit.maximum };
        setrlimit(Resource::Nofile, tight).expect("set");
        let result = start(&exec, "exit", &[4], vec![]);
        setrlimit(Resource::Nofile, limit).expect("set");
        match result {
            Ok(started) => worked = started.report().exit == Exit::Code(4) || worked,
            Err(SpawnError::Resources { .. }) => assert!(!worked, "{spare} to spare were enough before"),
            Err(error) => panic!("{spare} to spare: {error:?}"),
        }
        settles_to(1, threads);
        assert_eq!(descriptors(), before);
    }
    assert!(worked);
}

fn a_renamed_program_still_starts() {
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

fn a_large_parent_starts_workers_as_fast() {
    // To copy the page tables of this much takes 50 ms.
    let memory = vec![1u8; 512 << 20];
    let exec = own();
    let fastest = (0..10).map(|_| {
        let begin = Instant::now();
        let started = start(&exec, "exit", &[0], vec![]).expect("started");
        let took = begin.elapsed();
        started.report();
        took
    });
    let fastest = fastest.min().expect("ten of them");
    println!("started in {fastest:?} beside {} MiB", memory.len() >> 20);
    assert!(fastest < Duration::from_millis(10), "{fastest:?}");
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
