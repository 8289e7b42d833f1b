//! Workers that are stopped for longer than their lease, and go on: no call runs twice.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use process_pool::error::Exit;
use process_pool::spawn::{Attach, Exec, Invitation};
use process_pool::spawner::{OnExit, Signal, SpawnError, Spawner, SpawnerCaps, Worker};
use process_pool::transport::Ticket;
use process_pool::worker::WorkerEntry;
use process_pool::{Executor, RestartLimit};
use rustix::process::{Pid, kill_process};
use xtests::cases;
use xtests::gate::Gate;
use xtests::runner::{Case, Subject};

use crate::kit::{builder, eventually, file, is_gone, lost, settled, state, trace, traces};

pub(crate) const CASES: &[Case] = cases![
    a_stopped_child_costs_its_call_and_is_killed,
    a_stopped_attached_worker_costs_its_call_and_another_one_goes_on,
    a_stop_shorter_than_the_lease_changes_nothing,
    a_call_that_reached_a_stopped_worker_runs_elsewhere_and_not_there,
    a_call_that_was_running_in_a_stopped_worker_is_lost_and_runs_nowhere_else,
    a_parent_that_was_stopped_loses_nothing,
];

/// Short, and yet longer than a busy machine lets a heart wait.
const LEASE: Duration = Duration::from_secs(2);

fn signal(pid: u32, signal: rustix::process::Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).expect("a process id"), signal).expect("sent");
}

fn stop(pid: u32) {
    signal(pid, rustix::process::Signal::STOP);
    eventually("it has stopped", || state(pid) == Some('T'));
}

fn go_on(pid: u32) {
    signal(pid, rustix::process::Signal::CONT);
}

/// The process of the only worker.
fn only_worker(pool: &Executor) -> u32 {
    settled(&pool.submit(|()| std::process::id(), ()).expect("taken")).expect("a result")
}

fn a_stopped_child_costs_its_call_and_is_killed(subject: &Subject) {
    let (gate, path) = (Gate::new(), file(&subject.dir));
    let pool = builder(Exec::new(), LEASE).max_workers(1).build().expect("a pool");
    let call = pool.submit(trace, (path.clone(), 1, Some(gate.port()))).expect("taken");
    let next = pool.submit(trace, (path.clone(), 2, None)).expect("taken");
    let visitor = gate.arrival();
    stop(visitor.pid);
    let start = Instant::now();
    let lost = lost(settled(&call));
    println!("lost after {:?}", start.elapsed());
    assert_eq!(lost.exit, Exit::Signal(9));
    assert!(lost.why.as_ref().is_some_and(|why| why.contains("silent")), "{lost:?}");
    assert_ne!(settled(&next).expect("a result"), visitor.pid);
    assert_eq!(traces(&path), [1, 2]);
}

/// A worker that was started by hand.
struct Hand(Child);

impl Hand {
    fn starts(invitation: &Invitation) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        Self(command.env(Invitation::VARIABLE, invitation.to_string()).spawn().expect("it starts"))
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        // Mostly it has ended long ago.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn a_stopped_attached_worker_costs_its_call_and_another_one_goes_on(subject: &Subject) {
    let (gate, path, attach) = (Gate::new(), file(&subject.dir), Attach::new().expect("a door"));
    let invitations = attach.invitations();
    let limit = RestartLimit { backoff_max: Duration::from_millis(20), ..RestartLimit::default() };
    let pool = builder(attach, LEASE).max_workers(1).restart_limit(limit).build().expect("a pool");
    assert_eq!(pool.context(), "attach+tcp");
    let call = pool.submit(trace, (path.clone(), 1, Some(gate.port()))).expect("taken");
    let next = pool.submit(trace, (path.clone(), 2, None)).expect("taken");
    let one = Hand::starts(&invitations.issue().expect("an invitation"));
    let visitor = gate.arrival();
    assert_eq!(visitor.pid, one.0.id());
    stop(visitor.pid);
    let lost = lost(settled(&call));
    assert!(lost.why.as_ref().is_some_and(|why| why.contains("silent")), "{lost:?}");
    let other = Hand::starts(&invitations.issue().expect("an invitation"));
    assert_eq!(settled(&next).expect("a result"), other.0.id());
    assert_eq!(traces(&path), [1, 2]);
}

fn a_stop_shorter_than_the_lease_changes_nothing(subject: &Subject) {
    let (gate, path) = (Gate::new(), file(&subject.dir));
    let pool = builder(Exec::new(), Duration::from_secs(20)).max_workers(1).build().expect("a pool");
    let call = pool.submit(trace, (path.clone(), 1, Some(gate.port()))).expect("taken");
    let visitor = gate.arrival();
    let pid = visitor.pid;
    stop(pid);
    visitor.pass();
    go_on(pid);
    assert_eq!(settled(&call).expect("a result"), pid);
    assert_eq!(traces(&path), [1]);
}

/// Workers that no signal of the pool's reaches, like those of another machine. They end with their link.
#[derive(Debug)]
struct OutOfReach(Exec);

struct Unreachable(Box<dyn Worker>);

impl Spawner for OutOfReach {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn caps(&self) -> SpawnerCaps {
        self.0.caps()
    }

    fn prepare(&self, entry: WorkerEntry) -> Result<(), SpawnError> {
        self.0.prepare(entry)
    }

    fn spawn(&self, ticket: Ticket, on_exit: OnExit) -> Result<Box<dyn Worker>, SpawnError> {
        Ok(Box::new(Unreachable(self.0.spawn(ticket, on_exit)?)))
    }
}

impl Worker for Unreachable {
    fn pid(&self) -> Option<u32> {
        self.0.pid()
    }

    fn signal(&self, _: Signal) -> std::io::Result<()> {
        Ok(())
    }
}

/// The frame is in the worker's socket when its lease ends. It reads it when it goes on.
fn a_call_that_reached_a_stopped_worker_runs_elsewhere_and_not_there(subject: &Subject) {
    let path = file(&subject.dir);
    let pool = builder(OutOfReach(Exec::new()), LEASE).max_workers(1).build().expect("a pool");
    let first = only_worker(&pool);
    stop(first);
    let call = pool.submit(trace, (path.clone(), 1, None)).expect("taken");
    assert_ne!(settled(&call).expect("a result"), first);
    assert_eq!(state(first), Some('T'), "nobody has ended it");
    go_on(first);
    eventually("it ends by itself", || is_gone(first));
    assert_eq!(traces(&path), [1]);
}

fn a_call_that_was_running_in_a_stopped_worker_is_lost_and_runs_nowhere_else(subject: &Subject) {
    let (gate, path) = (Gate::new(), file(&subject.dir));
    let pool = builder(OutOfReach(Exec::new()), LEASE).max_workers(1).build().expect("a pool");
    // So many short ones that some are sent ahead from now on.
    pool.map(|n: u64| n, 0..200).for_each(drop);
    let call = pool.submit(trace, (path.clone(), 1, Some(gate.port()))).expect("taken");
    let others: Vec<_> = (2..20).map(|n| pool.submit(trace, (path.clone(), n, None)).expect("taken")).collect();
    let visitor = gate.arrival();
    let pid = visitor.pid;
    stop(pid);
    lost(settled(&call));
    for other in &others {
        assert_ne!(settled(other).expect("a result"), pid);
    }
    visitor.pass();
    go_on(pid);
    eventually("it ends by itself", || is_gone(pid));
    assert_eq!(traces(&path), (1..20).collect::<Vec<_>>());
}

/// Its workers are heard all the time; it is the parent that does not listen. It is this case's process, and the
/// one who lets it go on is a worker.
fn a_parent_that_was_stopped_loses_nothing(subject: &Subject) {
    fn stops_its_parent((pid, pause): (u32, Duration)) -> u32 {
        stop(pid);
        // The length of the stop is what this is about.
        std::thread::sleep(pause);
        go_on(pid);
        std::process::id()
    }
    let (lease, path) = (Duration::from_secs(1), file(&subject.dir));
    let pool = builder(Exec::new(), lease).max_workers(2).build().expect("a pool");
    let call = pool.submit(stops_its_parent, (std::process::id(), lease * 2)).expect("taken");
    let others: Vec<_> = (0..50).map(|n| pool.submit(trace, (path.clone(), n, None)).expect("taken")).collect();
    settled(&call).expect("a result");
    for other in &others {
        settled(other).expect("a result");
    }
    assert_eq!(traces(&path), (0..50).collect::<Vec<_>>());
}
