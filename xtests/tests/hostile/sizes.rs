//! How many workers a pool has that was not told: what the variable says, what the system grants.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use xtests::cases;
use xtests::runner::{Case, Subject, skip};

pub(crate) const CASES: &[Case] = cases![
    the_variable_sets_the_default_and_the_builder_decides_over_it,
    a_variable_that_is_no_size_is_refused_by_name_and_value,
    the_default_honours_cpu_affinity,
    the_default_honours_a_cgroup_quota,
];

const VARIABLE: &str = "PROCESS_POOL_WORKERS";

/// What the program says of its pools under this value of the variable.
#[track_caller]
fn sizes(value: Option<&str>) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostile_main"));
    command.env("HOSTILE_MAIN", "sizes").env_remove(VARIABLE).envs(value.map(|value| (VARIABLE, value)));
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().expect("it runs");
    assert!(status.success(), "{value:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text")
}

fn the_variable_sets_the_default_and_the_builder_decides_over_it(_: &Subject) {
    for (value, workers) in [("1", 1), (" 5 ", 5), ("4096", 4096)] {
        assert_eq!(sizes(Some(value)), format!("default: {workers}\nasked for: 7\n"));
    }
}

fn a_variable_that_is_no_size_is_refused_by_name_and_value(_: &Subject) {
    for value in ["0", "", "-1", "many", "3.5", "99999999999999999999999"] {
        let expected = format!(
            "refused: the environment variable {VARIABLE} is `{value}`: it must be a number from 1 on\n\
             asked for: 7\n"
        );
        assert_eq!(sizes(Some(value)), expected);
    }
}

fn the_default_honours_cpu_affinity(_: &Subject) {
    let before = sched_getaffinity(None).expect("known");
    let first = (0..CpuSet::MAX_CPU).find(|cpu| before.is_set(*cpu)).expect("one at least");
    let mut one = CpuSet::new();
    one.set(first);
    // A process that this thread starts inherits it.
    sched_setaffinity(None, &one).expect("a processor that was granted");
    let said = sizes(None);
    sched_setaffinity(None, &before).expect("as it was");
    assert_eq!(said, "default: 1\nasked for: 7\n");
    if before.count() > 1 {
        assert_ne!(sizes(None), said, "there are {} processors", before.count());
    }
}

/// A group of processes that may use one processor's time; it goes away in the end.
struct Group(PathBuf);

impl Group {
    fn new() -> Self {
        let name = format!("process-pool-test-{}", std::process::id());
        // Version 2, then version 1.
        for (root, files) in [
            ("/sys/fs/cgroup", [("cpu.max", "100000 100000"), ("cpu.max", "100000 100000")]),
            ("/sys/fs/cgroup/cpu", [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "100000")]),
        ] {
            let group = Self(PathBuf::from(root).join(&name));
            if fs::create_dir(&group.0).is_ok()
                && files.iter().all(|(file, text)| {
                    group.0.join(file).is_file() && fs::write(group.0.join(file), text).is_ok()
                })
            {
                return group;
            }
        }
        skip("no cgroup with a limit of processor time can be made here");
    }

    fn enter(&self) -> Inside<'_> {
        let entered = fs::write(self.0.join("cgroup.procs"), std::process::id().to_string());
        entered.expect("a group that was just made takes this process");
        Inside(self)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// This process is in the group, until this is dropped.
struct Inside<'a>(&'a Group);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let parent = self.0.0.parent().expect("it has one");
        fs::write(parent.join("cgroup.procs"), std::process::id().to_string()).expect("out again");
    }
}

fn the_default_honours_a_cgroup_quota(_: &Subject) {
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1) {
        skip("there is one processor only");
    }
    let group = Group::new();
    let inside = group.enter();
    let said = sizes(None);
    drop(inside);
    assert_eq!(said, "default: 1\nasked for: 7\n");
}
