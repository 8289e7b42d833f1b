//! Who has an invitation joins, once.

use std::fs;
use std::process::Command;

use pool_transport_ipc::Ipc;
use process_pool::Executor;
use process_pool::error::Exit;
use process_pool::spawn::{Invitation, InviteError};
use xtests::calls::lost;
use xtests::cases;
use xtests::gate::{Gate, wait_at};
use xtests::processes::eventually_within;
use xtests::runner::{Case, Subject};

use crate::kit::{self, Hand, PATIENCE, asks_for_pid, is_turned_away, settled};

pub(crate) const CASES: &[Case] = cases![
    a_worker_started_by_hand_joins_and_answers,
    a_worker_that_comes_before_the_first_call_waits_for_it,
    two_join_and_work_at_the_same_time,
    a_worker_joins_whatever_the_transport,
    a_killed_worker_costs_its_call_and_another_one_goes_on,
    a_worker_that_dies_while_it_waits_is_never_given_a_call,
    an_invitation_is_good_once,
    of_two_with_the_same_invitation_one_gets_in,
    a_wrong_token_is_refused_and_uses_up_nothing,
    another_program_is_refused_and_uses_up_nothing,
    another_program_that_is_welcome_runs_named_tasks,
    what_is_no_invitation_ends_the_program_with_an_error,
    a_pool_that_does_not_exist_ends_the_program_with_an_error,
    a_worker_has_pools_of_its_own_and_does_not_hand_its_invitation_on,
    a_worker_has_an_empty_standard_input,
];

fn a_worker_started_by_hand_joins_and_answers(_: &Subject) {
    let (pool, invitations) = kit::pool(1);
    assert_eq!(pool.context(), "attach+pipe");
    let call = asks_for_pid(&pool);
    let mut hand = Hand::starts(&invitations.issue().expect("an invitation"));
    assert_eq!(settled(&call).expect("a result"), hand.pid());
    if cfg!(any(target_os = "linux", windows)) {
        // A worker may have answered before the thread that started it is told of its process.
        eventually_within(PATIENCE, "the worker is known", || pool.worker_pids() == [hand.pid()]);
    }
    let squares: Result<Vec<_>, _> = pool.map(|n: u64| n * n, 0..500).collect();
    assert_eq!(squares.expect("results"), (0..500).map(|n| n * n).collect::<Vec<_>>());
    drop(pool);
    assert!(hand.ends_within(PATIENCE).success());
}

fn a_worker_that_comes_before_the_first_call_waits_for_it(_: &Subject) {
    let (pool, invitations) = kit::pool(1);
    let hand = Hand::starts(&invitations.issue().expect("an invitation"));
    eventually_within(PATIENCE, "it has joined", || invitations.waiting() == 1);
    assert_eq!(pool.workers(), 0, "nobody needs it yet");
    assert_eq!(settled(&asks_for_pid(&pool)).expect("a result"), hand.pid());
    assert_eq!((pool.workers(), invitations.waiting()), (1, 0));
    drop(pool);
    assert!(matches!(invitations.issue(), Err(InviteError::Ended)));
}

fn two_join_and_work_at_the_same_time(_: &Subject) {
    let (pool, invitations) = kit::pool(2);
    let gate = Gate::new();
    let calls: Vec<_> = (0..2).map(|_| pool.submit(wait_at, gate.port()).expect("taken")).collect();
    let hands: Vec<_> = (0..2).map(|_| Hand::starts(&invitations.issue().expect("an invitation"))).collect();
    let visitors = gate.arrivals(2);
    let mut pids: Vec<_> = visitors.iter().map(|visitor| visitor.pid).collect();
    let mut expected: Vec<_> = hands.iter().map(Hand::pid).collect();
    pids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(pids, expected);
    visitors.into_iter().for_each(xtests::gate::Visitor::pass);
    calls.iter().for_each(|call| settled(call).expect("a result"));
}

fn a_worker_joins_whatever_the_transport(_: &Subject) {
    let attach = kit::attach();
    let invitations = attach.invitations();
    let pool = kit::builder_over(attach, Ipc::new()).max_workers(1).build().expect("a pool");
    assert_eq!(pool.context(), "attach+ipc");
    let call = asks_for_pid(&pool);
    let mut hand = Hand::starts(&invitations.issue().expect("an invitation"));
    assert_eq!(settled(&call).expect("a result"), hand.pid());
    drop(pool);
    assert!(hand.ends_within(PATIENCE).success());
}

fn a_killed_worker_costs_its_call_and_another_one_goes_on(_: &Subject) {
    let (pool, invitations) = kit::pool(1);
    let gate = Gate::new();
    let first = pool.submit(wait_at, gate.port()).expect("taken");
    let mut hand = Hand::starts(&invitations.issue().expect("an invitation"));
    let visitor = gate.arrival();
    let second = asks_for_pid(&pool);
    hand.kill();
    let lost = lost(settled(&first));
    assert!(matches!(&lost.exit, Exit::Unknown(why) if why.contains("somebody else")), "{:?}", lost.exit);
    assert!(!second.done() && pool.broken().is_none());
    drop(visitor);
    let other = Hand::starts(&invitations.issue().expect("an invitation"));
    assert_eq!(settled(&second).expect("a result"), other.pid());
}

fn a_worker_that_dies_while_it_waits_is_never_given_a_call(_: &Subject) {
    let (pool, invitations) = kit::pool(1);
    let mut hand = Hand::starts(&invitations.issue().expect("an invitation"));
    eventually_within(PATIENCE, "it has joined", || invitations.waiting() == 1);
    hand.kill();
    hand.ends_within(PATIENCE);
    eventually_within(PATIENCE, "it is missed", || invitations.waiting() == 0);
    let call = asks_for_pid(&pool);
    let other = Hand::starts(&invitations.issue().expect("an invitation"));
    assert_eq!(settled(&call).expect("a result"), other.pid());
}

fn an_invitation_is_good_once(_: &Subject) {
    let (pool, invitations) = kit::pool(2);
    let invitation = invitations.issue().expect("an invitation");
    let mut hand = Hand::starts(&invitation);
    assert_eq!(settled(&asks_for_pid(&pool)).expect("a result"), hand.pid());
    let why = is_turned_away(&mut kit::program(), &invitation.to_string());
    assert!(why.contains("was used before"), "{why}");
    assert_eq!(settled(&asks_for_pid(&pool)).expect("as before"), hand.pid());
    hand.kill();
    hand.ends_within(PATIENCE);
    let why = is_turned_away(&mut kit::program(), &invitation.to_string());
    assert!(why.contains("was used before"), "a death does not make it good again: {why}");
}

fn of_two_with_the_same_invitation_one_gets_in(_: &Subject) {
    let (pool, invitations) = kit::pool(2);
    let invitation = invitations.issue().expect("an invitation");
    let mut hands = [Hand::starts(&invitation), Hand::starts(&invitation)];
    let winner = settled(&asks_for_pid(&pool)).expect("a result");
    let loser = hands.iter_mut().find(|hand| hand.pid() != winner).expect("there are two");
    assert_eq!(loser.ends_within(PATIENCE).code(), Some(1));
    assert_eq!(settled(&asks_for_pid(&pool)).expect("a result"), winner);
    assert_eq!(invitations.waiting(), 0);
}

fn a_wrong_token_is_refused_and_uses_up_nothing(_: &Subject) {
    let (pool, invitations) = kit::pool(1);
    let good = invitations.issue().expect("an invitation");
    let mut text = good.to_string();
    let last = text.pop().expect("a digit");
    text.push(if last == '0' { '1' } else { '0' });
    let why = is_turned_away(&mut kit::program(), &text);
    assert!(why.contains("its token is not known here"), "{why}");
    assert!(pool.broken().is_none() && invitations.waiting() == 0);
    let hand = Hand::starts(&good);
    assert_eq!(settled(&asks_for_pid(&pool)).expect("a result"), hand.pid());
}

/// A program that takes part with named tasks only.
fn other_program(subject: &Subject) -> Command {
    let counter = subject.dir.join("counter");
    fs::write(&counter, "xx").expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostile_worker"));
    command.arg("flaky").arg(counter);
    command
}

fn another_program_is_refused_and_uses_up_nothing(subject: &Subject) {
    let (pool, invitations) = kit::pool(1);
    let invitation = invitations.issue().expect("an invitation");
    let why = is_turned_away(&mut other_program(subject), &invitation.to_string());
    assert!(why.contains("it runs another program"), "{why}");
    let hand = Hand::starts(&invitation);
    assert_eq!(settled(&asks_for_pid(&pool)).expect("a result"), hand.pid());
}

fn another_program_that_is_welcome_runs_named_tasks(subject: &Subject) {
    let (pool, invitations) = kit::pool_of(kit::attach().any_program(), 1);
    let call = pool.submit_named::<u32, u32>("double", 21).expect("taken");
    let invitation = invitations.issue().expect("an invitation");
    let mut command = other_program(subject);
    let mut worker = command.env(Invitation::VARIABLE, invitation.to_string()).spawn().expect("it starts");
    assert_eq!(settled(&call).expect("a result"), 42);
    drop(pool);
    assert!(worker.wait().expect("waited for").success());
}

fn what_is_no_invitation_ends_the_program_with_an_error(_: &Subject) {
    for text in ["", "1", "@process-pool", "@process-pool:", "@process-pool:0123", "/tmp/door:zz"] {
        let why = is_turned_away(&mut kit::program(), text);
        assert!(why.contains("PROCESS_POOL_JOIN is not an invitation"), "{text:?}: {why}");
    }
}

fn a_pool_that_does_not_exist_ends_the_program_with_an_error(subject: &Subject) {
    let (pool, invitations) = kit::pool(1);
    let gone = invitations.issue().expect("an invitation").to_string();
    let name = gone.rsplit_once(':').expect("a name").0.to_owned();
    drop(pool);
    let why = is_turned_away(&mut kit::program(), &gone);
    assert!(why.contains("cannot join the pool") && why.contains(&name), "{why}");
    if cfg!(unix) {
        let path = format!("{}:{}", subject.dir.join("no-door").display(), "0".repeat(64));
        let why = is_turned_away(&mut kit::program(), &path);
        assert!(why.contains("cannot join the pool") && why.contains("no-door"), "{why}");
    }
}

/// What an attached worker has in its environment, and whether a pool of its own works.
fn inner(n: u64) -> (bool, u64) {
    let is_invited = std::env::var_os(Invitation::VARIABLE).is_some();
    let pool = Executor::builder().max_workers(1).build().expect("a pool");
    (is_invited, pool.submit(|n: u64| n + 1, n).expect("taken").result().expect("a result"))
}

fn a_worker_has_pools_of_its_own_and_does_not_hand_its_invitation_on(_: &Subject) {
    let (pool, invitations) = kit::pool(1);
    let call = pool.submit(inner, 41).expect("taken");
    let _hand = Hand::starts(&invitations.issue().expect("an invitation"));
    let (is_invited, answer) = settled(&call).expect("a result");
    assert_eq!(answer, 42);
    assert!(!is_invited || !cfg!(any(target_os = "linux", windows)), "an invitation is for one");
}

fn a_worker_has_an_empty_standard_input(_: &Subject) {
    let (pool, invitations) = kit::pool(1);
    let read = |()| std::io::read_to_string(std::io::stdin()).map_err(|error| error.to_string());
    let call = pool.submit(read, ()).expect("taken");
    let _hand = Hand::starts(&invitations.issue().expect("an invitation"));
    assert_eq!(settled(&call).expect("a result"), Ok(String::new()));
}
