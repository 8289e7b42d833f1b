//! The worker context: what an initializer leaves in its worker, for calls and for the exit hook.

use std::rc::Rc;
use std::time::{Duration, Instant};

use process_pool::error::OtherContext;
use process_pool::{
    BuildError, Builder, CallOptions, Executor, SubmitError, TaskError, TaskHandle, WorkerId, task,
};
use xtests::calls::{exit, run, same, submit};
use xtests::gate::{Gate, wait_at};
use xtests::processes::eventually;
use xtests::runner::Subject;

use crate::tools::{all_there, file, leave_trace, traces};

/// Stays in the thread that made it: it is not `Send`.
struct Counter {
    name: Rc<str>,
    calls: u64,
}

fn make_counter(name: String) -> Result<Counter, String> {
    Ok(Counter { name: name.into(), calls: 0 })
}

/// For calls: how often they were made before, in this worker.
fn count(counter: &mut Counter, step: u64) -> u64 {
    counter.calls += step;
    counter.calls
}

fn name(counter: &mut Counter, (): ()) -> String {
    counter.name.to_string()
}

fn count_and_panic(counter: &mut Counter, odd: u64) -> u64 {
    counter.calls += 1;
    assert!(!odd.is_multiple_of(2), "on purpose");
    counter.calls
}

fn counting(subject: &Subject, max_workers: usize) -> Builder {
    subject.builder().max_workers(max_workers).initializer(make_counter, "a counter".to_owned())
}

#[track_caller]
fn call<R>(handle: Result<TaskHandle<R>, SubmitError>) -> R {
    handle.expect("accepted").result().expect("a result")
}

pub(crate) fn calls_get_what_their_workers_initializer_has_made(subject: &Subject) {
    let pool = counting(subject, 1).build().expect("a pool");
    let handles: Vec<_> = (0..50).map(|_| pool.submit_with(count, 2).expect("accepted")).collect();
    assert_eq!(run(&pool, same, 7), 7, "others do not need it");
    for (n, handle) in (1..).zip(handles) {
        assert_eq!(handle.result().expect("a result"), 2 * n);
    }
    assert_eq!(call(pool.submit_with(name, ())), "a counter");
    assert_eq!(call(pool.submit_with(|counter: &mut Counter, n: u64| counter.calls * n, 3)), 300);
}

/// The pool knows before it sends anything.
pub(crate) fn a_context_of_another_type_is_refused_and_both_are_named(subject: &Subject) {
    let pool = counting(subject, 1).build().expect("a pool");
    let wrong = |error: SubmitError| match error {
        SubmitError::OtherContext(error) => error,
        other => panic!("{other:?}"),
    };
    let check = |error: OtherContext| {
        assert!(error.wanted == "alloc::string::String" && error.found.ends_with("Counter"), "{error}");
        let text = error.to_string();
        assert!([error.task, error.wanted, error.found].into_iter().all(|name| text.contains(name)), "{text}");
    };
    check(wrong(pool.submit_with(|text: &mut String, _: u64| text.len(), 1).expect_err("refused")));
    let takes_text = |_: &mut String, n: u64| n;
    let mapped: Vec<_> = pool.map_with(takes_text, 0..3).collect();
    match &mapped[..] {
        [Err(TaskError::Refused(error))] => check(wrong(error.clone())),
        other => panic!("{other:?}"),
    }
    check(wrong(pool.map_with(takes_text, 0..3).start().expect_err("refused")));
    assert_eq!(pool.workers(), 0, "nothing was sent");
    match counting(subject, 1).worker_exit(drop::<String>).build() {
        Err(BuildError::OtherContext(error)) => check(error),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn without_an_initializer_the_context_is_nothing(subject: &Subject) {
    let without = subject.pool(1);
    let with_nothing = subject.builder().max_workers(1).initializer(drop::<u8>, 1).build().expect("a pool");
    for pool in [without, with_nothing] {
        assert_eq!(call(pool.submit_with(|(): &mut (), n: u64| n, 7)), 7);
        match pool.submit_with(count, 1) {
            Err(SubmitError::OtherContext(error)) => assert_eq!(error.found, "()"),
            other => panic!("{other:?}"),
        }
    }
}

/// What state it is in is the user's affair.
pub(crate) fn a_call_that_panics_leaves_the_context_as_it_is(subject: &Subject) {
    let pool = counting(subject, 1).build().expect("a pool");
    let failed = pool.submit_with(count_and_panic, 2).expect("accepted").result();
    assert!(matches!(failed, Err(TaskError::Panicked(_))), "{failed:?}");
    assert_eq!(call(pool.submit_with(count_and_panic, 1)), 2, "the first one counts");
}

pub(crate) fn a_worker_that_takes_anothers_place_makes_its_own_context(subject: &Subject) {
    let pool = counting(subject, 1).max_tasks_per_child(4).build().expect("a pool");
    let counts: Vec<_> = (0..8).map(|_| call(pool.submit_with(count, 1))).collect();
    assert_eq!(counts, [1, 2, 3, 4, 1, 2, 3, 4]);
    let pool = counting(subject, 1).build().expect("a pool");
    assert_eq!(call(pool.submit_with(count, 5)), 5);
    let lost = submit(&pool, exit, 3).result();
    assert!(matches!(lost, Err(TaskError::WorkerLost(_))), "{lost:?}");
    assert_eq!(call(pool.submit_with(count, 1)), 1);
}

pub(crate) fn a_map_has_the_context_and_each_error_in_its_place(subject: &Subject) {
    for chunksize in [1, 7, 100] {
        let pool = counting(subject, 1).build().expect("a pool");
        let results: Vec<_> = pool.map_with(count_and_panic, 0..100).chunksize(chunksize).collect();
        assert_eq!(results.len(), 100);
        for (n, result) in (0..).zip(results) {
            match result {
                Ok(calls) => assert_eq!((calls, n % 2), (n + 1, 1), "those that panicked have counted as well"),
                Err(error) => assert!(n % 2 == 0 && matches!(error, TaskError::Panicked(_)), "{n}: {error:?}"),
            }
        }
    }
}

pub(crate) fn calls_with_a_context_may_be_limited_and_killed(subject: &Subject) {
    let pool = counting(subject, 1).build().expect("a pool");
    let wait = |_: &mut Counter, port: u16| wait_at(port);
    let gate = Gate::new();
    let options = CallOptions::new().time_limit(Duration::from_millis(50));
    let limited = pool.with(options).submit_with(wait, gate.port()).expect("accepted");
    assert!(matches!(limited.result(), Err(TaskError::TimedOut(_))));
    let killed = pool.submit_with(wait, gate.port()).expect("accepted");
    let _visitors = gate.arrivals(2);
    assert!(killed.kill());
    assert!(matches!(killed.result(), Err(TaskError::Killed(_))));
    assert_eq!(call(pool.submit_with(count, 1)), 1);
}

/// A context that knows where to leave its traces.
struct Diary {
    path: String,
    calls: u64,
}

fn open_diary(path: String) -> Result<Diary, String> {
    Ok(Diary { path, calls: 0 })
}

fn close_diary(diary: Diary) {
    leave_trace((diary.path, diary.calls));
}

fn write_diary(diary: &mut Diary, n: u64) -> u64 {
    diary.calls += 1;
    n
}

fn wait_with_diary(_: &mut Diary, port: u16) {
    wait_at(port);
}

fn diaries(subject: &Subject, max_workers: usize) -> Builder {
    let builder = subject.builder().max_workers(max_workers).initializer(open_diary, file(&subject.dir));
    builder.worker_exit(close_diary)
}

pub(crate) fn the_exit_hook_runs_last_in_each_worker_that_is_told_to_end(subject: &Subject) {
    let pool = diaries(subject, 3).max_tasks_per_child(4).build().expect("a pool");
    let results: Result<Vec<_>, _> = pool.map_with(write_diary, 0..41).chunksize(1).collect();
    assert_eq!(results.expect("results"), (0..41).collect::<Vec<_>>());
    drop(pool);
    let calls = traces(&file(&subject.dir));
    assert_eq!(calls.iter().sum::<u64>(), 41, "{calls:?}");
    assert!(calls.len() >= 11 && calls.iter().all(|calls| *calls <= 4), "{calls:?}");
    // Where there is no initializer, there is a hook all the same.
    let (path, builder) = (file(&subject.dir), subject.builder().max_workers(2));
    let pool = builder.worker_exit(|()| panic!("for nobody to hear")).build().expect("a pool");
    all_there(&pool);
    drop(pool);
    assert_eq!(traces(&path), calls);
}

pub(crate) fn the_exit_hook_runs_in_no_worker_that_is_killed_or_exits(subject: &Subject) {
    let (pool, gate) = (diaries(subject, 1).build().expect("a pool"), Gate::new());
    let killed = pool.submit_with(wait_with_diary, gate.port()).expect("accepted");
    let visitor = gate.arrival();
    assert!(killed.kill());
    killed.wait();
    drop(visitor);
    assert!(submit(&pool, exit, 0).result().is_err());
    call(pool.submit_with(write_diary, 1));
    pool.kill_workers();
    drop(pool);
    assert_eq!(traces(&file(&subject.dir)), []);
}

/// For exit hooks: the way to a gate.
struct Way(u16);

fn wait_there(way: Way) {
    wait_at(way.0);
}

fn waiting(subject: &Subject, gate: &Gate) -> Builder {
    let builder = subject.builder().max_workers(1).initializer(|port| Ok::<_, String>(Way(port)), gate.port());
    builder.worker_exit(wait_there)
}

pub(crate) fn an_exit_hook_has_a_time_of_its_own(subject: &Subject) {
    let (gate, stop_grace) = (Gate::new(), Duration::from_millis(500));
    let patient = waiting(subject, &gate).stop_grace(stop_grace).exit_grace(Duration::from_secs(60));
    let pool = patient.build().expect("a pool");
    run(&pool, same, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| drop(pool));
        let visitor = gate.arrival();
        assert!(!visitor.is_gone_within(stop_grace * 2), "it is killed before its time is up");
        visitor.pass();
    });
}

pub(crate) fn an_exit_hook_that_hangs_is_killed(subject: &Subject) {
    let (gate, exit_grace) = (Gate::new(), Duration::from_secs(1));
    let pool = waiting(subject, &gate).exit_grace(exit_grace).max_tasks_per_child(2).build().expect("a pool");
    // One is replaced while its predecessor hangs, and that holds up nothing but itself.
    for n in 0..4 {
        assert_eq!(run(&pool, same, n), n);
    }
    let start = Instant::now();
    drop(pool);
    assert!(start.elapsed() >= exit_grace / 2, "the last one has hung");
    let visitors = gate.arrivals(2);
    assert!(visitors.iter().all(|visitor| visitor.is_gone_within(Duration::from_secs(10))));
}

/// Leaves a trace when it is dropped, and panics.
struct Last(String);

impl Drop for Last {
    fn drop(&mut self) {
        leave_trace((self.0.clone(), 1));
        panic!("to no avail");
    }
}

pub(crate) fn a_context_is_dropped_when_its_worker_is_told_to_end(subject: &Subject) {
    let (path, gate) = (file(&subject.dir), Gate::new());
    let builder = subject.builder().max_workers(2);
    let pool = builder.initializer(|path| Ok::<_, String>(Last(path)), path.clone()).build().expect("a pool");
    all_there(&pool);
    let killed = submit(&pool, wait_at, gate.port());
    let _visitor = gate.arrival();
    assert!(killed.kill());
    killed.wait();
    assert_eq!(traces(&path), [], "not where the worker is killed");
    run(&pool, same, 1);
    let others = pool.workers() as u64;
    drop(pool);
    eventually("the last one is dropped", || traces(&path).len() as u64 >= others.min(1));
    assert!(!traces(&path).is_empty() && traces(&path).len() <= 2);
}

/// In the worker, in whatever thread; and where it comes from.
fn id_of_the_worker((): ()) -> Option<(u64, u64)> {
    let in_a_thread = std::thread::spawn(|| task::worker_id().map(|id| id.0));
    Some((task::worker_id()?.0, in_a_thread.join().ok()??))
}

pub(crate) fn a_call_knows_its_worker(subject: &Subject) {
    assert_eq!(task::worker_id(), None, "this is none");
    let builder = subject.builder().max_workers(1).max_tasks_per_child(2);
    let know_it = |()| task::worker_id().map(|_| ()).ok_or("the initializer does not know its worker");
    let pool: Executor = builder.initializer(know_it, ()).build().expect("a pool");
    for turn in 0..3 {
        let Some((id, in_a_thread)) = run(&pool, id_of_the_worker, ()) else { panic!("it is a worker") };
        assert_eq!(id, in_a_thread);
        let panicked = submit(&pool, |()| -> u64 { panic!("on purpose") }, ()).result();
        match panicked {
            Err(TaskError::Panicked(panicked)) => assert_eq!(panicked.worker, WorkerId(id), "{turn}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(task::worker_id(), None);
}
