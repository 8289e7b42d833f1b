//! Calls that end by themselves: their time is up, or somebody asks them to.

use std::thread;
use std::time::{Duration, Instant};

use process_pool::{Asked, CallOptions, Executor, TaskError, TaskHandle, task};
use xtests::calls::{pid, run, same, submit};
use xtests::gate::{Gate, PATIENCE, wait_at};
use xtests::processes::eventually;
use xtests::random::Random;
use xtests::runner::Subject;

use crate::tools::{file, leave_trace, traces};

/// Short for people, long for a machine.
const SHORT: Duration = Duration::from_millis(50);

/// For calls: works until it is to stop, and says for how many milliseconds, and in which process.
fn work((): ()) -> (u64, u32) {
    let start = Instant::now();
    while !task::cancelled() {
        std::hint::spin_loop();
    }
    (start.elapsed().as_millis() as u64, std::process::id())
}

/// The same, after it was at a gate.
fn wait_and_work(port: u16) -> u32 {
    wait_at(port);
    work(()).1
}

/// For calls: how much time it has, in milliseconds.
fn time_left((): ()) -> Option<u64> {
    task::deadline().map(|at| at.saturating_duration_since(Instant::now()).as_millis() as u64)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// billiard's and Celery's soft limit.
pub(crate) fn a_call_sees_that_its_soft_limit_has_passed(subject: &Subject) {
    let pool = subject.pool(1);
    let before = run(&pool, pid, ());
    let limited = pool.with(CallOptions::new().soft_limit(SHORT));
    for _ in 0..3 {
        // From here, not from the task's first step: its time runs since before that.
        let submitted = Instant::now();
        let (_, pid) = limited.submit(work, ()).expect("accepted").result().expect("its own result");
        assert!(submitted.elapsed() >= SHORT, "{:?}", submitted.elapsed());
        assert_eq!(pid, before, "it costs no worker");
    }
    assert_eq!(run(&pool, |()| (task::cancelled(), task::deadline().is_some()), ()), (false, false));
    assert!(!task::cancelled() && task::deadline().is_none() && task::token().is_none(), "there is no call here");
}

pub(crate) fn a_call_knows_the_earliest_of_its_limits(subject: &Subject) {
    let pool = subject.pool(1);
    let left = |options: CallOptions| {
        let handle = pool.with(options).submit(time_left, ()).expect("accepted");
        handle.result().expect("a result").map(|left| left.div_ceil(1000))
    };
    let new = CallOptions::new;
    // A busy machine may take some seconds to begin.
    let is_about = |left: Option<u64>, limit: u64| left.is_some_and(|left| left <= limit && left + 30 > limit);
    assert_eq!(left(new()), None);
    assert!(is_about(left(new().soft_limit(seconds(100))), 100));
    assert!(is_about(left(new().time_limit(seconds(100))), 100));
    assert!(is_about(left(new().total_limit(seconds(100))), 100));
    assert!(is_about(
        left(new().time_limit(seconds(100)).soft_limit(seconds(200)).total_limit(seconds(300))),
        100
    ));
    assert!(left(new().soft_limit(Duration::MAX)).is_none_or(|left| left > 1 << 30), "as good as none");
    // Those of a pool are those of its maps, for each chunk.
    let pool =
        subject.builder().max_workers(1).call_options(new().soft_limit(seconds(100))).build().expect("a pool");
    let all: Result<Vec<_>, _> = pool.map(|_: u64| time_left(()), 0..10).collect();
    assert!(all.expect("results").into_iter().all(|left| is_about(left.map(|left| left.div_ceil(1000)), 100)));
}

pub(crate) fn a_call_that_does_not_look_goes_on_past_its_soft_limit(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let limited = pool.with(CallOptions::new().soft_limit(Duration::from_millis(1)));
    let handle = limited.submit(wait_at, gate.port()).expect("accepted");
    let visitor = gate.arrival();
    assert!(!handle.wait_timeout(SHORT));
    assert_ne!(handle.ask_to_stop(), Asked::Cancelled);
    assert!(!handle.wait_timeout(SHORT));
    visitor.pass();
    handle.result().expect("it took as long as it liked");
}

pub(crate) fn a_call_that_runs_is_asked_to_stop(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let before = run(&pool, pid, ());
    for _ in 0..20 {
        let handle = submit(&pool, wait_and_work, gate.port());
        let visitor = gate.arrival();
        assert_eq!(handle.ask_to_stop(), Asked::Told);
        visitor.pass();
        assert_eq!(handle.result().expect("its own result"), before);
        assert!(!run(&pool, |()| task::cancelled(), ()), "the next one is another");
    }
    // Also while it is looking already.
    let handle = submit(&pool, wait_and_work, gate.port());
    gate.arrival().pass();
    assert!(!handle.wait_timeout(SHORT));
    assert_eq!(handle.ask_to_stop(), Asked::Told);
    assert_eq!(handle.result().expect("its own result"), before);
}

pub(crate) fn a_call_that_waits_is_cancelled_when_it_is_asked_to_stop(subject: &Subject) {
    let (pool, gate, path) = (subject.pool(1), Gate::new(), file(&subject.dir));
    let long = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    let waiting: Vec<_> = (0..5).map(|n| submit(&pool, leave_trace, (path.clone(), n))).collect();
    let is_in_reach = subject.caps().revocable.is_some();
    for (n, handle) in waiting.iter().enumerate() {
        match handle.ask_to_stop() {
            Asked::Cancelled => assert!(handle.cancelled(), "{n}"),
            Asked::Told => assert!(!is_in_reach && n < 2, "{n}"),
            other => panic!("{n}: {other:?}"),
        }
    }
    assert!(waiting[4].cancelled() && !long.done());
    visitor.pass();
    long.result().expect("it is not touched");
    assert_eq!(waiting[4].ask_to_stop(), Asked::Settled);
    drop(waiting);
    drop(pool);
    assert!(traces(&path).iter().all(|n| !is_in_reach && *n < 2));
    let pool = subject.pool(1);
    let done = submit(&pool, same, 1);
    done.wait();
    assert_eq!(done.ask_to_stop(), Asked::Settled);
    assert!(!done.kill_after(SHORT));
    assert_eq!(done.result().expect("a result"), 1);
}

pub(crate) fn a_call_that_does_not_stop_is_killed_when_its_grace_is_over(subject: &Subject) {
    let (pool, gate) = (subject.pool(2), Gate::new());
    let handles = [0, 1].map(|_| submit(&pool, wait_at, gate.port()));
    let visitors = gate.arrivals(2);
    let [stopped, neighbour] = handles;
    let behind: Vec<_> = (0..20).map(|n| submit(&pool, same, n)).collect();
    let start = Instant::now();
    assert!(stopped.kill_after(SHORT));
    // What is said later counts only if it is sooner.
    assert!(stopped.kill_after(Duration::from_secs(600)));
    match stopped.result() {
        Err(TaskError::Killed(killed)) => {
            assert!(visitors.iter().any(|visitor| Some(visitor.pid) == killed.pid), "{killed}");
        }
        other => panic!("{other:?}"),
    }
    assert!(start.elapsed() >= SHORT);
    for (n, handle) in (0..).zip(behind) {
        assert_eq!(handle.result().expect("it goes elsewhere, or later"), n);
    }
    assert!(!neighbour.done());
    drop(visitors);
    neighbour.result().expect("it is not touched");
}

pub(crate) fn a_call_that_stops_within_its_grace_has_its_result(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let before = run(&pool, pid, ());
    let handle = submit(&pool, wait_and_work, gate.port());
    let visitor = gate.arrival();
    let waits = submit(&pool, same, 1);
    assert!(handle.kill_after(PATIENCE));
    assert!(waits.kill_after(PATIENCE));
    visitor.pass();
    assert_eq!(handle.result().expect("its own result"), before);
    match waits.result() {
        Err(TaskError::Cancelled) => {}
        Ok(1) => assert!(subject.caps().revocable.is_none(), "it was within reach"),
        other => panic!("{other:?}"),
    }
    assert_eq!(run(&pool, pid, ()), before, "nobody was killed");
}

/// Works in threads of its own, with what they need to know when to stop.
fn work_in_threads(port: u16) -> usize {
    let token = task::token().expect("this is a call");
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let token = token.clone();
            thread::spawn(move || {
                while !token.cancelled() {
                    thread::yield_now();
                }
            })
        })
        .collect();
    wait_at(port);
    threads.into_iter().map(thread::JoinHandle::join).filter(Result::is_ok).count()
}

/// Leaves a thread that goes on as long as its call.
fn leave_a_thread((path, n): (String, u64)) {
    let token = task::token().expect("this is a call");
    assert!(!token.cancelled());
    thread::spawn(move || {
        while !token.cancelled() {
            thread::yield_now();
        }
        leave_trace((path, n));
    });
}

pub(crate) fn the_threads_of_a_call_see_that_it_is_to_stop_and_that_it_is_over(subject: &Subject) {
    let (pool, gate, path) = (subject.pool(1), Gate::new(), file(&subject.dir));
    let handle = submit(&pool, work_in_threads, gate.port());
    let visitor = gate.arrival();
    assert_eq!(handle.ask_to_stop(), Asked::Told);
    visitor.pass();
    assert_eq!(handle.result().expect("its own result"), 3);
    run(&pool, leave_a_thread, (path.clone(), 7));
    let later = submit(&pool, wait_at, gate.port());
    let _visitor = gate.arrival();
    eventually("the thread sees that its call is over", || traces(&path) == [7]);
    assert!(later.kill());
}

/// For calls: works for a moment, and says whether somebody wanted it to stop.
fn work_a_little(n: u64) -> (u64, bool) {
    let end = Instant::now() + Duration::from_micros(n % 7 * 300);
    while Instant::now() < end {
        if task::cancelled() {
            return (n, true);
        }
    }
    (n, false)
}

/// Whoever is asked, and whenever: nobody else hears of it.
pub(crate) fn random_requests_reach_their_call_alone(subject: &Subject) {
    let (pool, mut random) = (subject.pool(3), Random::new(9));
    let (mut cancelled, mut stopped) = (0, 0);
    // Once is mostly enough; but whether requests come in time is the machine's to say.
    for _ in 0..20 {
        let (waited, ran) = random_requests(&pool, &mut random);
        cancelled += waited;
        stopped += ran;
        if cancelled > 0 && stopped > 0 {
            break;
        }
    }
    assert!(cancelled > 0 && stopped > 0, "the case decides something");
    assert!(pool.broken().is_none());
}

/// How many calls were cancelled by their request, and how many stopped by it.
fn random_requests(pool: &Executor, random: &mut Random) -> (u64, u64) {
    let mut handles: Vec<TaskHandle<(u64, bool)>> = Vec::new();
    let mut asked = Vec::new();
    for n in 0..600 {
        handles.push(submit(pool, work_a_little, n));
        if random.below(3) == 0 {
            if let Some(older) = handles.len().checked_sub(8) {
                handles[older].wait();
            }
            let nth = handles.len() - 1 - (random.below(10) as usize).min(handles.len() - 1);
            let answer = handles[nth].ask_to_stop();
            assert_ne!(answer, Asked::OutOfReach, "every transport here can say it");
            if answer != Asked::Settled {
                asked.push(nth);
            }
        }
    }
    let (mut cancelled, mut stopped) = (0, 0);
    for (nth, handle) in handles.into_iter().enumerate() {
        match handle.result() {
            Ok((n, was_asked)) => {
                assert_eq!(n, nth as u64);
                assert!(!was_asked || asked.contains(&nth), "{nth} was told what was meant for another");
                stopped += u64::from(was_asked);
            }
            Err(TaskError::Cancelled) => {
                assert!(asked.contains(&nth), "{nth} is cancelled, and nobody wanted that");
                cancelled += 1;
            }
            Err(error) => panic!("{nth}: {error:?}"),
        }
    }
    println!("of {} asked {cancelled} waited, {stopped} stopped", asked.len());
    (cancelled, stopped)
}
