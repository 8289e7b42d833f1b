//! The end of a pool that workers were to join, and theirs.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use process_pool::error::{BreakReason, StartError};
use process_pool::spawn::Invitation;
use process_pool::spawner::SpawnError;
use process_pool::{Executor, Shutdown, TaskError};
use xtests::calls::lost;
use xtests::cases;
use xtests::gate::{Gate, wait_at};
use xtests::processes::eventually_within;
use xtests::runner::{Case, Subject};

use crate::kit::{self, Hand, PATIENCE, PROMPTLY, asks_for_pid, settled};

pub(crate) const CASES: &[Case] = cases![
    a_pool_that_nobody_joined_and_nobody_called_ends_at_once,
    calls_that_nobody_came_for_fail_at_the_start_deadline,
    calls_that_nobody_came_for_are_cancelled_on_request,
    a_pool_that_is_not_built_leaves_nothing,
    an_attached_worker_is_killed_with_the_others,
    a_worker_that_waits_ends_with_the_pool,
    a_busy_worker_ends_with_a_killed_parent,
    a_waiting_worker_ends_with_a_killed_parent,
];

fn a_pool_that_nobody_joined_and_nobody_called_ends_at_once(_: &Subject) {
    let (pool, invitations) = kit::pool(2);
    let invitation = invitations.issue().expect("an invitation");
    let start = Instant::now();
    drop(pool);
    assert!(start.elapsed() < PROMPTLY, "{:?}", start.elapsed());
    let why = kit::is_turned_away(&mut kit::program(), &invitation.to_string());
    assert!(why.contains("cannot join"), "{why}");
}

fn calls_that_nobody_came_for_fail_at_the_start_deadline(_: &Subject) {
    let deadline = Duration::from_millis(250);
    let attach = kit::attach();
    let pool = kit::builder(attach).max_workers(2).start_deadline(deadline).build().expect("a pool");
    let calls: Vec<_> = (0..3).map(|_| asks_for_pid(&pool)).collect();
    let start = Instant::now();
    drop(pool);
    assert!(start.elapsed() < PROMPTLY, "{:?}", start.elapsed());
    for call in calls {
        match settled(&call) {
            Err(TaskError::Broken(broken)) => {
                assert!(
                    matches!(&*broken.reason, BreakReason::NoWorkerInTime { last: StartError::Spawn(error), .. }
                        if matches!(**error, SpawnError::Vacant)),
                    "{broken:?}"
                );
                assert!(broken.to_string().contains("no worker has come to join"), "{broken}");
            }
            other => panic!("nobody came: {other:?}"),
        }
    }
}

fn calls_that_nobody_came_for_are_cancelled_on_request(_: &Subject) {
    let (pool, _) = kit::pool(2);
    let calls: Vec<_> = (0..3).map(|_| asks_for_pid(&pool)).collect();
    let start = Instant::now();
    pool.shutdown(Shutdown { cancel_futures: true, ..Shutdown::default() });
    assert!(start.elapsed() < PROMPTLY, "{:?}", start.elapsed());
    for call in calls {
        assert!(matches!(settled(&call), Err(TaskError::Cancelled)));
    }
}

/// The runner looks for what is left.
fn a_pool_that_is_not_built_leaves_nothing(_: &Subject) {
    let attach = kit::attach();
    let invitation = attach.invitations().issue().expect("an invitation");
    let mut hand = Hand::starts(&invitation);
    eventually_within(PATIENCE, "it has joined", || attach.invitations().waiting() == 1);
    assert!(kit::builder(attach).max_workers(0).build().is_err());
    assert_eq!(hand.ends_within(PATIENCE).code(), Some(1));
}

fn an_attached_worker_is_killed_with_the_others(_: &Subject) {
    for ends in [Executor::kill_workers, Executor::terminate_workers] {
        let (pool, invitations) = kit::pool(1);
        let gate = Gate::new();
        let call = pool.submit(wait_at, gate.port()).expect("taken");
        let mut hand = Hand::starts(&invitations.issue().expect("an invitation"));
        let _visitor = gate.arrival();
        ends(&pool);
        assert!(!hand.ends_within(PATIENCE).success());
        lost(settled(&call));
    }
}

fn a_worker_that_waits_ends_with_the_pool(_: &Subject) {
    let (pool, invitations) = kit::pool(1);
    let mut hand = Hand::starts(&invitations.issue().expect("an invitation"));
    eventually_within(PATIENCE, "it has joined", || invitations.waiting() == 1);
    drop(pool);
    assert_eq!(hand.ends_within(PATIENCE).code(), Some(1));
}

/// In a parent's environment: the port of a gate where its call waits.
pub(crate) const PARENT: &str = "ATTACH_PARENT";

/// A parent with a pool of one worker and a call for ever; it tells two invitations.
pub(crate) fn parent() {
    let port: u16 = std::env::var(PARENT).expect("a port").parse().expect("a number");
    let (pool, invitations) = kit::pool(1);
    let call = pool.submit(wait_at, port).expect("taken");
    for _ in 0..2 {
        println!("{}", invitations.issue().expect("an invitation"));
    }
    settled(&call).expect("it is never passed");
}

/// Starts the parent, and two workers for it: one that is busy and one that waits.
fn parent_and_workers(gate: &Gate) -> (Child, Hand, Hand) {
    let mut parent = kit::program();
    parent.env(PARENT, gate.port().to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut parent = parent.spawn().expect("it starts");
    let lines = BufReader::new(parent.stdout.take().expect("piped")).lines();
    let invitations: Vec<Invitation> =
        lines.take(2).map(|line| line.expect("a line").parse().expect("an invitation")).collect();
    let busy = Hand::starts(&invitations[0]);
    (parent, busy, Hand::starts(&invitations[1]))
}

/// Either of the two may be the busy one.
fn ends_with_a_killed_parent(is_busy: bool) {
    let gate = Gate::new();
    let (mut parent, one, other) = parent_and_workers(&gate);
    let visitor = gate.arrival();
    let (mut chosen, _other) = if (one.pid() == visitor.pid) == is_busy { (one, other) } else { (other, one) };
    parent.kill().expect("it can be killed");
    parent.wait().expect("it can be waited for");
    let status = chosen.ends_within(Duration::from_secs(1));
    assert!(!status.success(), "{status}");
}

fn a_busy_worker_ends_with_a_killed_parent(_: &Subject) {
    ends_with_a_killed_parent(true);
}

fn a_waiting_worker_ends_with_a_killed_parent(_: &Subject) {
    ends_with_a_killed_parent(false);
}
