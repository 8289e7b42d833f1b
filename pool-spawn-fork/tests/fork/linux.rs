//! Cases that look into `/proc`, for both start methods.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pool_core::error::Exit;
use pool_core::spawner::Signal;
use rustix::process::{Pid, kill_process};
use xtests::processes::{self, eventually};

use crate::harness::{Method, Named, bystander, read_all, start, start_up, start_with_pipe};

pub(crate) fn all() -> Vec<Named> {
    vec![
        ("a_worker_holds_its_handles_and_nothing_else", a_worker_holds_its_handles_and_nothing_else),
        ("a_worker_begins_with_no_signal_held_or_handled", a_worker_begins_with_no_signal_held_or_handled),
        ("three_hundred_deaths_leave_nothing_behind", three_hundred_deaths_leave_nothing_behind),
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

pub(crate) fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("listed").count()
}

/// The children of this process, zombies included.
pub(crate) fn children() -> Vec<i32> {
    let numbers =
        fs::read_dir("/proc").expect("listed").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let pids = numbers.filter_map(|number| number.parse().ok());
    pids.filter(|pid: &i32| processes::parent_of(pid.cast_unsigned()) == Some(std::process::id())).collect()
}

pub(crate) fn parent_of(pid: i32) -> i32 {
    processes::parent_of(pid.cast_unsigned()).expect("it lives").cast_signed()
}

pub(crate) fn is_asleep(pid: i32) -> bool {
    state(pid) == 'S'
}

fn state(pid: i32) -> char {
    processes::state(pid.cast_unsigned()).expect("it lives")
}

pub(crate) fn stop(pid: i32) {
    kill_process(Pid::from_raw(pid).expect("a pid"), rustix::process::Signal::STOP).expect("stopped");
    eventually("it has stopped", || state(pid) == 'T');
}

/// Some things take a moment more than the last report.
pub(crate) fn settles(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !is_so() {
        assert!(
            Instant::now() < deadline,
            "{:?}, {} threads, children {:?}",
            descriptors(),
            threads(),
            children()
        );
        std::thread::yield_now();
    }
}

fn a_worker_holds_its_handles_and_nothing_else(method: Method) {
    let inherited = descriptors().len();
    let spawner = method.spawner();
    // Nor anything of another worker's.
    let (_other, _reader) = start_up(&*spawner, "idle");
    let (started, reader) = start_with_pipe(&*spawner, "list descriptors", b"");
    let text = read_all(reader);
    // The standard streams and whatever the case itself was born with, one handle, and the lifeline.
    assert_eq!(text.matches("socket:").count(), 1, "{text}");
    assert!(text.contains("\"0 /dev/null\""), "{text}");
    assert_eq!(text.matches(", ").count() + 1, inherited + 2, "{text}");
    assert!(text.ends_with("] 1"), "one thread: {text}");
    started.report();
}

fn a_worker_begins_with_no_signal_held_or_handled(method: Method) {
    let (started, reader) = start_with_pipe(&*method.spawner(), "status", b"");
    let text = read_all(reader);
    let mask = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("there");
        u64::from_str_radix(line.trim(), 16).expect("a number")
    };
    assert_eq!(mask(&text, "SigBlk:"), 0);
    let faults = [11, 7].map(|signal| 1 << (signal - 1)).iter().sum::<u64>();
    assert_eq!(mask(&text, "SigCgt:") & !faults & 0x7fff_ffff, 0, "{text}");
    let own = fs::read_to_string("/proc/self/status").expect("read");
    // Two are the C library's own, which sets them up with a process's first other thread.
    let ours = |mask: u64| mask & !(3 << 31);
    // And what a terminal would stop a process by that is in the background.
    let by_terminal = 0b11 << (21 - 1);
    // A shell's background job ignores some of these, and its workers none.
    let asks_to_end = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];
    let asks_to_end = asks_to_end.map(|signal| 1 << (signal - 1)).iter().sum::<u64>();
    let ignored = ours(mask(&own, "SigIgn:")) & !asks_to_end | by_terminal;
    assert_eq!(ours(mask(&text, "SigIgn:")), ignored, "ignored stays ignored, but for what asks a process to end");
    assert!(text.ends_with("leads its group: true"), "{text}");
    started.report();
}

fn three_hundred_deaths_leave_nothing_behind(method: Method) {
    let at_first = descriptors();
    let spawner = method.spawner();
    start(&*spawner, "exit", &[0], vec![]).expect("started").report();
    // Of the server the parent has a control socket and what its end is told by.
    let (before, threads_before) = (descriptors(), threads());
    for round in 0..300u32 {
        if round % 3 == 0 {
            let (started, _) = start_up(&*spawner, "idle");
            started.worker.signal(Signal::Kill).expect("sent");
            assert_eq!(started.report().exit, Exit::Signal(9));
        } else {
            start(&*spawner, "exit", &[1], vec![]).expect("started").report();
        }
    }
    assert_eq!(descriptors(), before);
    assert_eq!(threads(), threads_before);
    let servers = children();
    assert_eq!(servers.len(), 1);
    let held = fs::read_dir(format!("/proc/{}/fd", servers[0])).expect("listed").count();
    assert!(held <= at_first.len() + 4, "the server holds {held}");
    drop(spawner);
    settles(|| threads() == 1 && children().is_empty() && descriptors() == at_first);
}

fn a_renamed_program_still_starts(method: Method) {
    let copy = std::env::temp_dir().join(format!("pool-spawn-fork-copy-{}", std::process::id()));
    fs::copy(std::env::current_exe().expect("a path"), &copy).expect("copied");
    let named = bystander("printer of a file that is gone", method);
    let mut printer = Command::new(&copy);
    printer.envs(named.get_envs().filter_map(|(key, value)| Some((key, value?)))).stdout(Stdio::piped());
    printer.env_remove("POOL_FORK_TEST_CASE");
    let mut printer = printer.spawn().expect("it starts");
    let out = read_all(printer.stdout.take().expect("piped"));
    assert!(out.contains("hello from the worker"), "{out}");
    assert!(printer.wait().expect("it ends").success());
    assert!(!copy.exists());
}

/// Where the program ignores `SIGCHLD`, the kernel keeps no exit status, but for the server, which needs it.
fn ignored_children_are_reported_too(method: Method) {
    let program = std::env::current_exe().expect("a path");
    let named = bystander("counter", method);
    let mut command = Command::new("env");
    command.arg("--ignore-signal=CHLD").arg(program).stdout(Stdio::piped());
    command.envs(named.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.env_remove("POOL_FORK_TEST_CASE");
    let mut counter = command.spawn().expect("it starts");
    assert_eq!(read_all(counter.stdout.take().expect("piped")), "30 reports");
    counter.wait().expect("it ends");
}
