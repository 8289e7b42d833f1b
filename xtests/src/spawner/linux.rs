//! The laws about what a process has, which Linux tells.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pool_core::error::Exit;
use pool_core::spawner::{Signal, SpawnError, Spawner};
use rustix::process::{Pid, kill_process};

use super::bench::Bench;
use super::cases::end;
use super::tools::read_all;
use crate::leaks::Inventory;
use crate::processes::{eventually, is_emulated, state};
use crate::runner::skip;
use crate::scarce::Descriptors;

/// What this process's descriptors refer to.
pub(super) fn targets() -> BTreeSet<String> {
    let names: Vec<_> = fs::read_dir("/proc/self/fd").expect("listed").flatten().map(|fd| fd.path()).collect();
    // The listing's own is closed by now.
    names.iter().filter_map(|name| fs::read_link(name).ok()).map(|target| target.display().to_string()).collect()
}

/// Stops a process, and returns when it has stopped.
pub(super) fn stop(pid: u32) {
    let number = Pid::from_raw(pid.try_into().expect("a pid")).expect("a pid");
    kill_process(number, rustix::process::Signal::STOP).expect("stopped");
    eventually("it has stopped", || state(pid).expect("it lives") == 'T');
}

fn inventory() -> Inventory {
    Inventory::take().expect("this is Linux")
}

#[track_caller]
fn is_as_before(before: &Inventory) {
    before.check().unwrap_or_else(|what| panic!("{what}"));
}

pub(super) fn a_worker_holds_its_handles_and_nothing_else(bench: &Bench<'_>) {
    let at_first = targets();
    let spawner = bench.spawner();
    let path = std::env::temp_dir().join("of the parent");
    let file = File::create(&path).expect("created");
    let (other, _other_reader) = bench.start_up(&*spawner, "idle");
    let (started, reader) = bench.start_with_pipe(&*spawner, "list descriptors", b"");
    let own = fs::read_link(format!("/proc/self/fd/{}", reader.as_raw_fd())).expect("open").display().to_string();
    // What has no name of its own is like that of any other process.
    let has_name = |target: &&String| !target.starts_with("anon_inode:") && *target != "/dev/null";
    let parents: BTreeSet<_> = targets().difference(&at_first).filter(has_name).cloned().collect();
    let text = read_all(bench.patience(), reader);
    let workers: BTreeSet<_> = text.lines().map(str::to_owned).collect();
    let common: Vec<_> = workers.intersection(&parents).collect();
    drop(file);
    fs::remove_file(path).expect("removed");
    end(&started);
    end(&other);
    assert_eq!(common, [&own], "the worker has {workers:?}");
}

pub(super) fn a_foreign_child_sees_no_handle(bench: &Bench<'_>) {
    let spawner = bench.spawner();
    let look = || {
        let out = Command::new("ls").args(["-l", "/proc/self/fd"]).stdin(Stdio::null()).output().expect("it runs");
        String::from_utf8_lossy(&out.stdout).lines().filter(|line| line.contains("->")).count()
    };
    let normal = look();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..bench.many(100) {
                let (started, reader) = bench.start_with_pipe(&*spawner, "exit", &[0]);
                read_all(bench.patience(), reader);
                drop(started.exit.recv_timeout(bench.patience()));
            }
            done.store(true, Ordering::Release);
        });
        let mut looks = Vec::new();
        while !done.load(Ordering::Acquire) {
            looks.push(look());
        }
        assert!(looks.iter().all(|count| *count == normal), "{normal} before, then {looks:?}");
        println!("looked {} times", looks.len());
    });
}

pub(super) fn deaths_leave_nothing_behind(bench: &Bench<'_>) {
    let at_first = inventory();
    let spawner = bench.spawner();
    let (idle, reader) = bench.start_up(&*spawner, "idle");
    // Of the others there is nothing yet.
    let before = inventory();
    for round in 0..bench.many(300) {
        let (started, _) = if round % 3 == 0 {
            bench.start_up(&*spawner, "idle")
        } else {
            bench.start_with_pipe(&*spawner, "exit", &[1])
        };
        if round % 3 == 0 {
            started.worker.signal(Signal::Kill).expect("sent");
        }
        drop(started.exit.recv_timeout(bench.patience()));
    }
    is_as_before(&before);
    end(&idle);
    drop((idle, reader, spawner));
    is_as_before(&at_first);
}

pub(super) fn no_descriptor_left_is_a_shortage_and_passes(bench: &Bench<'_>) {
    let spawner = bench.spawner();
    let start = |spare| {
        let scarce = Descriptors::limited_to(spare);
        let result = bench.start(&*spawner, "return", &[4], vec![]);
        drop(scarce);
        result
    };
    let mut worked = false;
    // However many are missing, at whichever step they run out: a shortage, and nothing is left behind.
    for spare in 0..24 {
        let before = inventory();
        match start(spare) {
            Ok(started) => {
                let exit = started.exit.recv_timeout(bench.patience()).map(|report| report.exit);
                worked = exit == Ok(Exit::Code(4)) || worked;
            }
            Err(SpawnError::Resources { .. }) => {
                assert!(!worked, "{spare} to spare were enough before");
                // What several workers share may have come to stay.
                if inventory().processes() <= before.processes() {
                    is_as_before(&before);
                }
            }
            Err(error) => panic!("{spare} to spare: {error:?}"),
        }
    }
    assert!(worked, "24 descriptors are not enough");
}

pub(super) fn a_large_parent_starts_workers_as_fast(bench: &Bench<'_>) {
    if is_emulated() {
        skip(
            "under the emulator a process that shares its parent's memory until it is another program has a copy of it",
        );
    }
    let spawner = bench.spawner();
    end(&bench.start_up(&*spawner, "idle").0);
    let small = fastest(bench, &*spawner);
    // To copy the page tables of this much takes 50 ms.
    let memory = vec![1_u8; 512 << 20];
    let large = fastest(bench, &*spawner);
    println!("{small:?}; beside {} MiB: {large:?}", memory.len() >> 20);
    assert!(large < small * 2 + Duration::from_millis(10), "{small:?} {large:?}");
}

fn fastest(bench: &Bench<'_>, spawner: &dyn Spawner) -> Duration {
    let one = |_| {
        let begin = Instant::now();
        let started = bench.start(spawner, "return", &[0], vec![]).expect("started");
        let took = begin.elapsed();
        drop(started.exit.recv_timeout(bench.patience()));
        took
    };
    (0..10).map(one).min().expect("ten of them")
}
