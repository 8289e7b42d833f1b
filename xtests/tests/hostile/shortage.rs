//! Too few descriptors, too few processes.
//!
//! Workers inherit the limits, so they meet them too.

#![expect(unsafe_code, reason = "becoming another user")]

use std::time::{Duration, Instant};

use process_pool::error::{BreakReason, StartError};
use process_pool::spawn::Exec;
use process_pool::spawner::SpawnError;
use process_pool::{BuildError, Executor, TaskError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use xtests::cases;
use xtests::gate::{Gate, wait_at};
use xtests::processes::eventually_within;
use xtests::runner::{Case, Subject, skip};

use crate::kit::{self, PROMPTLY, settled};

pub(crate) const CASES: &[Case] = cases![
    without_descriptors_for_a_worker_the_pool_gives_up_at_the_start_deadline,
    wherever_descriptors_run_out_the_error_says_so,
    with_descriptors_for_one_worker_there_is_one_and_later_more,
    descriptors_that_are_freed_in_time_let_the_pool_start,
    descriptors_that_run_out_while_a_worker_starts_do_no_harm,
    wherever_processes_run_out_the_error_says_so,
    with_processes_for_one_worker_there_is_one_and_later_more,
    sixty_four_workers_under_forty_descriptors_are_fewer_workers,
    sixty_four_workers_under_a_few_processes_are_fewer_workers,
];

/// Lowers a limit of this process, until dropped.
struct Lowered {
    resource: Resource,
    before: Rlimit,
}

impl Lowered {
    fn to(resource: Resource, current: u64) -> Self {
        let before = getrlimit(resource);
        setrlimit(resource, Rlimit { current: Some(current), maximum: before.maximum }).expect("lowered");
        Self { resource, before }
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        setrlimit(self.resource, self.before).expect("raised to what it was");
    }
}

/// How many descriptors this process has; their numbers are without gaps when a case begins.
fn descriptors() -> u64 {
    // One of them is the directory that is being read.
    std::fs::read_dir("/proc/self/fd").expect("listed").count() as u64 - 1
}

fn threads() -> u64 {
    std::fs::read_dir("/proc/self/task").expect("listed").count() as u64
}

const DEADLINE: Duration = Duration::from_millis(250);

fn patient(subject: &Subject, max_workers: usize) -> Executor {
    subject.builder().max_workers(max_workers).start_deadline(DEADLINE).build().expect("a pool")
}

/// Whether an error's texts, from outermost to innermost, hold one of what the system says of a shortage.
fn tells_of_shortage(error: &dyn std::error::Error) -> bool {
    let texts =
        ["os error 24", "os error 11", "too many open already", "no descriptor is free", "lifeline's thread"];
    let mut source = Some(error);
    while let Some(error) = source {
        let text = error.to_string();
        if texts.iter().any(|part| text.contains(part)) {
            return true;
        }
        source = error.source();
    }
    false
}

fn is_shortage(last: &StartError) -> bool {
    match last {
        StartError::Link(_) => true,
        StartError::Spawn(error) => matches!(**error, SpawnError::Resources { .. }),
        _ => false,
    }
}

fn without_descriptors_for_a_worker_the_pool_gives_up_at_the_start_deadline(subject: &Subject) {
    let pool = patient(subject, 4);
    let limit = Lowered::to(Resource::Nofile, descriptors());
    let start = Instant::now();
    let calls: Vec<_> = (0..8_u8).map(|n| pool.submit(|n: u8| n, n).expect("taken")).collect();
    kit::breaks(pool, calls, |reason| match reason {
        BreakReason::NoWorkerInTime { deadline, last } => *deadline == DEADLINE && is_shortage(last),
        _ => false,
    });
    assert!(start.elapsed() >= DEADLINE, "others might have freed some: {:?}", start.elapsed());
    drop(limit);
    kit::is_usable(&patient(subject, 1));
}

/// What came of a pool under some limit.
enum Outcome {
    Works,
    Fails,
}

/// One pool of two workers, some calls, under a limit that holds from before the pool is built.
fn attempt(subject: &Subject, what: &str) -> Outcome {
    let start = Instant::now();
    let limits = subject.builder().max_workers(2).start_deadline(DEADLINE);
    let pool = match limits.build() {
        Ok(pool) => pool,
        Err(BuildError::Thread(error)) => {
            assert!(tells_of_shortage(&error), "{what}: {error:?}");
            return Outcome::Fails;
        }
        // Fork needs its keeper right then.
        Err(BuildError::Spawn(error @ SpawnError::Resources { .. })) if subject.start_method() == "fork" => {
            assert!(tells_of_shortage(&error), "{what}: {error:?}");
            return Outcome::Fails;
        }
        Err(error) => panic!("{what}: {error:?}"),
    };
    let calls: Vec<_> = (0..8_u8).map(|n| pool.submit(|n: u8| n, n).expect("taken")).collect();
    let results: Vec<_> = calls.iter().map(settled).collect();
    drop(pool);
    assert!(start.elapsed() < PROMPTLY, "{what}: {:?}", start.elapsed());
    let works = results.iter().filter(|result| result.is_ok()).count();
    for result in results {
        match result {
            Ok(_) => {}
            Err(TaskError::Broken(error)) => {
                assert!(tells_of_shortage(&error), "{what}: {error}");
                assert_eq!(works, 0, "{what}");
            }
            Err(error) => panic!("{what}: {error:?}"),
        }
    }
    if works == 0 { Outcome::Fails } else { Outcome::Works }
}

fn wherever_descriptors_run_out_the_error_says_so(subject: &Subject) {
    let before = descriptors();
    let mut works = 0;
    for spare in 0..28 {
        let limit = Lowered::to(Resource::Nofile, before + spare);
        let outcome = attempt(subject, &format!("{spare} descriptors to spare"));
        drop(limit);
        match outcome {
            Outcome::Works => works += 1,
            // Where there are just enough it is luck: two workers that start at the same time need more than one after
            // the other.
            Outcome::Fails => assert!(works <= 1, "{spare} to spare do not do where fewer did, twice"),
        }
        println!("{spare}: {works}");
    }
    assert!(works > 0, "so many must do");
}

/// Calls that all run at once if they can.
fn at_once(pool: &Executor, gate: &Gate, count: usize) -> Vec<process_pool::TaskHandle<()>> {
    (0..count).map(|_| pool.submit(wait_at, gate.port()).expect("taken")).collect()
}

fn with_descriptors_for_one_worker_there_is_one_and_later_more(subject: &Subject) {
    let pool = patient(subject, 4);
    let gate = Gate::new();
    let mut calls = at_once(&pool, &gate, 1);
    let first = gate.arrival();
    // The pool has one worker; another takes more than one descriptor.
    let limit = Lowered::to(Resource::Nofile, descriptors() + 2);
    calls.extend(at_once(&pool, &gate, 7));
    // The second visitor comes only when the first has gone: there is nobody else to come.
    assert!(gate.arrival_within(DEADLINE * 2).is_none(), "there is one worker");
    assert!(pool.broken().is_none(), "one worker will do: {:?}", pool.broken());
    first.pass();
    let second = gate.arrival();
    drop(limit);
    let more = gate.arrivals(3);
    let mut pids: Vec<_> = more.iter().chain([&second]).map(|visitor| visitor.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 4, "all workers are there");
    drop((second, more));
    gate.arrivals(3).into_iter().for_each(xtests::gate::Visitor::pass);
    calls.iter().for_each(|call| settled(call).expect("a result"));
}

fn descriptors_that_are_freed_in_time_let_the_pool_start(subject: &Subject) {
    let pool = subject.builder().max_workers(2).build().expect("a pool");
    let limit = Lowered::to(Resource::Nofile, descriptors());
    let call = pool.submit(|n: u8| n, 1).expect("taken");
    assert!(!call.wait_timeout(Duration::from_millis(100)));
    drop(limit);
    assert_eq!(settled(&call).expect("a result"), 1);
    kit::is_usable(&pool);
}

fn descriptors_that_run_out_while_a_worker_starts_do_no_harm(subject: &Subject) {
    if subject.context != "exec+pipe" {
        skip("about a worker that `Exec` starts with two descriptors: run with exec+pipe");
    }
    let gate = Gate::new();
    let exec = Exec::new().env(crate::WAIT, gate.port().to_string());
    let pool = Executor::builder().max_workers(1).context(kit::program(exec)).build().expect("a pool");
    let call = pool.submit(|n: u8| n, 1).expect("taken");
    let starting = gate.arrival();
    // It may be here before its start has returned.
    eventually_within(kit::PATIENCE, "the worker is known", || !pool.worker_pids().is_empty());
    let limit = Lowered::to(Resource::Nofile, 0);
    starting.pass();
    assert_eq!(settled(&call).expect("a result"), 1);
    kit::is_usable(&pool);
    drop(limit);
}

/// Makes this process an ordinary user's, whom the kernel holds to a number of processes, or skips the case.
fn become_nobody() {
    let nobody = 60_000 + std::process::id() % 5_000;
    if !rustix::process::geteuid().is_root() {
        // Others' processes of the same user would count.
        skip("it takes root to become a user without other processes");
    }
    // SAFETY: takes no memory; all threads change together.
    let changed = unsafe { libc::setuid(nobody) };
    assert_eq!(changed, 0, "root may become anybody");
    // SAFETY: takes no memory. Without this the files in our part of /proc would stay root's.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
    let program = std::env::current_exe().expect("a path");
    if std::fs::File::open(&program).is_err() {
        skip("nobody else may run this program");
    }
}

fn wherever_processes_run_out_the_error_says_so(subject: &Subject) {
    become_nobody();
    let before = threads();
    let mut works = 0;
    for spare in 0..14 {
        let limit = Lowered::to(Resource::Nproc, before + spare);
        let outcome = attempt(subject, &format!("{spare} processes to spare"));
        drop(limit);
        match outcome {
            Outcome::Works => works += 1,
            Outcome::Fails => println!("{spare} do not do"),
        }
        eventually_within(kit::PATIENCE, "threads have ended", || threads() == before);
    }
    assert!(works > 0, "so many must do");
}

fn with_processes_for_one_worker_there_is_one_and_later_more(subject: &Subject) {
    if subject.start_method() != "exec" {
        skip("a limit that is set later does not reach the process that forks");
    }
    become_nobody();
    let pool = patient(subject, 4);
    let gate = Gate::new();
    let mut calls = at_once(&pool, &gate, 1);
    let first = gate.arrival();
    // The worker has one thread.
    let limit = Lowered::to(Resource::Nproc, threads() + 1);
    calls.extend(at_once(&pool, &gate, 7));
    assert!(gate.arrival_within(DEADLINE * 2).is_none(), "there is one worker");
    assert!(pool.broken().is_none(), "one worker will do: {:?}", pool.broken());
    first.pass();
    let second = gate.arrival();
    drop(limit);
    let more = gate.arrivals(3);
    drop((second, more));
    gate.arrivals(3).into_iter().for_each(xtests::gate::Visitor::pass);
    calls.iter().for_each(|call| settled(call).expect("a result"));
}

/// Many more workers asked for than there can be: every call has its result, from fewer workers.
fn fewer_do(subject: &Subject, resource: Resource, limit: u64) {
    let lowered = Lowered::to(resource, limit);
    let start = Instant::now();
    let pool = subject.pool(64);
    let calls: Vec<_> = (0..256_u32).map(|n| pool.submit(own_pid_after_some_work, n).expect("taken")).collect();
    let mut pids = Vec::new();
    for (n, call) in (0..).zip(&calls) {
        let (echo, pid) = settled(call).unwrap_or_else(|error| panic!("call {n}: {error}"));
        assert_eq!(echo, n);
        pids.push(pid);
    }
    assert!(pool.broken().is_none(), "{:?}", pool.broken());
    assert_eq!(pool.max_workers(), 64, "what was asked for is not changed");
    drop(pool);
    drop(lowered);
    assert!(start.elapsed() < PROMPTLY, "{:?}", start.elapsed());
    pids.sort_unstable();
    pids.dedup();
    println!("{} workers", pids.len());
    assert!((1..64).contains(&pids.len()), "{} workers", pids.len());
}

/// Long enough for more workers to be wanted.
fn own_pid_after_some_work(n: u32) -> (u32, u32) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2) {
        std::hint::spin_loop();
    }
    (n, std::process::id())
}

fn sixty_four_workers_under_forty_descriptors_are_fewer_workers(subject: &Subject) {
    fewer_do(subject, Resource::Nofile, 40);
}

fn sixty_four_workers_under_a_few_processes_are_fewer_workers(subject: &Subject) {
    become_nobody();
    fewer_do(subject, Resource::Nproc, threads() + 20);
}
