//! What a worker has started ends with it, however that one ends, and nobody else's does.
//!
//! Calls start this program again, which starts itself once more. Each of these processes arrives at the case's gate
//! and stays there, so that the case sees the end of each; and with the case they end anyhow.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use process_pool::{Executor, TaskError};
use xtests::calls::{exit, lost, pid, run, submit};
use xtests::gate::{Gate, PATIENCE, Visitor, wait_at};
use xtests::runner::{Subject, kill_if_there, skip};

use crate::tools::all_there;

/// Set for a process that was started by a call: what it is to do, and the gate's port.
const TREE: &str = "XTESTS_TREE";

/// In such a process: does it, and ends the process. Elsewhere returns.
pub(crate) fn play() {
    let Some(part) = std::env::var(TREE).ok() else { return };
    let (what, port) = part.split_once(' ').expect("two words");
    let port = port.parse().expect("a port");
    match what {
        "child" => drop(start("leaf", port)),
        // In a session of its own it starts another, and leaves that alone.
        "daemon" => {
            #[cfg(unix)]
            rustix::process::setsid().expect("it leads no group");
            drop(start("leaf", port));
            std::process::exit(0);
        }
        leaf => assert_eq!(leaf, "leaf"),
    }
    wait_at(port);
    std::process::exit(0);
}

fn start(what: &str, port: u16) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.env(TREE, format!("{what} {port}")).stdin(Stdio::null());
    command.spawn().expect("it starts")
}

/// For calls: starts a process that starts another.
fn start_two(port: u16) {
    // Nobody waits for it.
    drop(start("child", port));
}

/// For calls: leaves a process that is in no group and of no parent of this worker's.
fn start_daemon(port: u16) {
    assert!(start("daemon", port).wait().expect("waited for").success());
}

/// A call's two processes.
fn two(pool: &Executor, gate: &Gate) -> Vec<Visitor> {
    run(pool, start_two, gate.port());
    gate.arrivals(2)
}

fn daemon(pool: &Executor, gate: &Gate) -> Visitor {
    run(pool, start_daemon, gate.port());
    gate.arrival()
}

#[track_caller]
fn are_gone(processes: &[Visitor]) {
    for process in processes {
        assert!(process.is_gone_within(PATIENCE), "{} is still there", process.pid);
    }
}

/// As far as that can be seen of a process that nobody will end.
#[track_caller]
fn are_there(processes: &[Visitor]) {
    for process in processes {
        assert!(!process.is_gone_within(Duration::from_millis(20)), "{} has ended", process.pid);
    }
}

/// Ends those that nothing else will.
fn end(processes: &[Visitor]) {
    for process in processes {
        // It may have ended by itself.
        let _ = kill_if_there(process.pid);
    }
}

fn is_forked(subject: &Subject) -> bool {
    subject.start_method() != "exec"
}

fn ends_with(subject: &Subject, end: impl FnOnce(Executor)) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let processes = two(&pool, &gate);
    are_there(&processes);
    end(pool);
    are_gone(&processes);
}

pub(crate) fn what_a_worker_started_ends_with_the_pool(subject: &Subject) {
    ends_with(subject, drop);
    ends_with(subject, |pool| pool.kill_workers());
    ends_with(subject, |pool| pool.terminate_workers());
}

/// D28.
pub(crate) fn what_a_worker_started_ends_when_it_ends_by_itself(subject: &Subject) {
    ends_with(subject, |pool| drop(lost(submit(&pool, exit, 0).result())));
    ends_with(subject, |pool| drop(lost(submit(&pool, exit, 3).result())));
    ends_with(subject, |pool| drop(lost(submit(&pool, |()| aborts(), ()).result())));
}

fn aborts() {
    std::process::abort();
}

/// D28.
pub(crate) fn what_a_worker_started_ends_with_a_call_that_is_killed(subject: &Subject) {
    ends_with(subject, |pool| {
        let gate = Gate::new();
        let call = submit(&pool, wait_at, gate.port());
        let _visitor = gate.arrival();
        call.kill();
        assert!(matches!(call.result(), Err(TaskError::Killed(_))));
    });
}

pub(crate) fn what_a_worker_started_ends_with_its_last_call(subject: &Subject) {
    let pool = subject.builder().max_workers(1).max_tasks_per_child(1).build().expect("a pool");
    let gate = Gate::new();
    for _ in 0..3 {
        // A process that has not arrived yet is not seen to end.
        let last = Gate::new();
        let call = submit(&pool, start_two_and_wait, (gate.port(), last.port()));
        let processes = gate.arrivals(2);
        last.arrival().pass();
        call.result().expect("it has ended well");
        are_gone(&processes);
    }
}

/// Elsewhere a daemon is out of reach, as the guide says.
pub(crate) fn a_daemon_ends_with_its_worker_where_the_system_can_tell_whose_it_is(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let mut daemons = vec![daemon(&pool, &gate)];
    are_there(&daemons);
    lost(submit(&pool, exit, 0).result());
    if cfg!(windows) || (cfg!(target_os = "linux") && is_forked(subject)) {
        are_gone(&daemons);
        // And when nothing else is left: the pool's end waits for it.
        daemons = vec![daemon(&pool, &gate), daemon(&pool, &gate)];
        drop(pool);
        are_gone(&daemons);
    } else {
        are_there(&daemons);
        assert!(kill_if_there(daemons[0].pid));
        are_gone(&daemons);
    }
}

pub(crate) fn a_neighbours_processes_are_not_touched(subject: &Subject) {
    let (pool, gate) = (subject.pool(2), Gate::new());
    all_there(&pool);
    // One at a time, so that the other worker runs what follows.
    let busy = Gate::new();
    let call = submit(&pool, start_all_and_wait, (gate.port(), busy.port()));
    let doomed = busy.arrival();
    let of_the_doomed = gate.arrivals(3);
    let neighbour = run(&pool, pid, ());
    assert_ne!(neighbour, doomed.pid);
    let mut of_the_neighbour = two(&pool, &gate);
    of_the_neighbour.push(daemon(&pool, &gate));
    call.kill();
    assert!(matches!(call.result(), Err(TaskError::Killed(_))));
    if cfg!(windows) || (cfg!(target_os = "linux") && is_forked(subject)) {
        are_gone(&of_the_doomed);
    } else {
        // The last to be started, which is out of reach.
        end(&of_the_doomed);
    }
    are_there(&of_the_neighbour);
    assert!(pool.worker_pids().contains(&neighbour));
    if cfg!(unix) && !is_forked(subject) {
        end(&of_the_neighbour);
    }
}

/// For calls: starts two, and waits at another gate.
fn start_two_and_wait((port, wait): (u16, u16)) {
    start_two(port);
    wait_at(wait);
}

/// For calls: starts both kinds, and waits at another gate.
fn start_all_and_wait((port, wait): (u16, u16)) {
    start_two(port);
    start_daemon(port);
    wait_at(wait);
}

/// The kernel ends the workers then, and the parent what is left of their groups.
pub(crate) fn a_server_that_is_killed_leaves_daemons_at_most(subject: &Subject) {
    if !is_forked(subject) {
        skip("there is no server");
    }
    if !cfg!(target_os = "linux") {
        skip("elsewhere nobody tells which process the server is");
    }
    let (pool, gate) = (subject.pool(1), Gate::new());
    let processes = two(&pool, &gate);
    let daemon = daemon(&pool, &gate);
    let server = xtests::processes::parent_of(run(&pool, pid, ())).expect("Linux tells");
    let call = submit(&pool, wait_at, gate.port());
    let worker = gate.arrival();
    assert!(kill_if_there(server));
    assert!(call.result().is_err());
    assert!(worker.is_gone_within(PATIENCE));
    if kernel() >= (6, 9) {
        are_gone(&processes);
    } else {
        println!("skipped: this kernel does not tell of a group whose leader has ended");
        end(&processes);
    }
    assert!(kill_if_there(daemon.pid), "nobody's any more, it goes on");
    are_gone(&[daemon]);
}

/// The kernel's version.
fn kernel() -> (u32, u32) {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = text.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
