//! Workers: how many there are, when they start, when they are replaced; initializers; pools in pools.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use process_pool::carry::{Ipc, Pipe, Shm};
use process_pool::context::ContextError;
use process_pool::error::{BreakReason, Exit, StartError};
use process_pool::spawn::{Exec, Fork, ForkServer};
use process_pool::spawner::{OnExit, Signal, SpawnError, Spawner, SpawnerCaps, Worker};
use process_pool::transport::{Connector, Link, LinkEvents, Ticket, Transport};
use process_pool::worker::WorkerEntry;
use process_pool::{
    BrokenPool, BuildError, Context, Executor, RestartLimit, Shutdown, SubmitError, TaskError, TaskHandle,
};
use xtests::calls::{exit, lost, pid, run, same, submit};
use xtests::context::USUAL_TRANSPORT;
use xtests::gate::{Gate, wait_at};
use xtests::runner::{Subject, skip};

use crate::tools::{Act, Whim, file, kill, leave_trace, traces};

/// `mp_context`, by name.
pub(crate) fn contexts_are_chosen_by_name(subject: &Subject) {
    assert!(process_pool::available().contains(&subject.context));
    let start_method = subject.start_method();
    let pool = Executor::builder().context(start_method.parse::<Context>().expect("known")).build();
    assert_eq!(pool.expect("a pool").context(), format!("{start_method}+{USUAL_TRANSPORT}"));
    assert_eq!(subject.pool(1).context(), subject.context);
    for (unknown, what) in [("abacus", "start method"), ("exec+pigeon", "transport"), ("", "start method")] {
        match unknown.parse::<Context>() {
            Err(ContextError::Unknown { what: found, .. }) => assert_eq!(found, what),
            other => panic!("{other:?}"),
        }
    }
}

/// By name and by value: what this system has, and what it has not and why.
pub(crate) fn what_a_system_lacks_is_told_before_a_pool_is_built(subject: &Subject) {
    named_context(&subject.context).supported().expect("it is here");
    assert!(Context::default().supported().is_ok());
    // As the message says, too.
    let refused = |context: fn() -> Context, says: &str| {
        let told = context().supported().expect_err("it is not here").to_string();
        assert!(told.contains(says), "{told}");
        let built = Executor::builder().context(context()).build().expect_err("not built").to_string();
        assert_eq!(built, told);
    };
    for name in ["fork", "forkserver"].map(|method| format!("{method}+pipe")) {
        match named_context(&name).supported() {
            Ok(()) => assert!(cfg!(unix) && process_pool::available().contains(&name)),
            Err(BuildError::Context(ContextError::NotHere { what, instead, .. })) => {
                assert!(cfg!(not(unix)) && (what, instead) == ("start method", "exec"));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    if cfg!(not(unix)) {
        refused(|| named_context("fork+pipe"), "there is no start method `fork` on this system: use `exec`");
        refused(|| Context::new(Fork::new(), Pipe::new()), "there is no start method `fork` on this system");
        refused(|| Context::new(ForkServer::new(), Pipe::new()), "no start method `forkserver` on this system");
    }
    if !Shm::is_supported() {
        refused(|| Context::new(Exec::new(), Shm::new()), "the transport `shm` does not work on this system");
        assert!(!process_pool::available().contains(&"exec+shm".to_owned()));
    }
    // One of the user's own, which is nowhere at home.
    refused(
        || Context::new(Exec::new(), Nowhere(Pipe::new())),
        "the transport `nowhere` does not work on this system: somewhere else",
    );
}

fn named_context(name: &str) -> Context {
    name.parse().expect("known")
}

#[derive(Debug)]
struct Nowhere(Pipe);

impl Transport for Nowhere {
    fn name(&self) -> &str {
        "nowhere"
    }

    fn frame_max(&self) -> usize {
        Transport::frame_max(&self.0)
    }

    fn connector(&self) -> Box<dyn Connector> {
        self.0.connector()
    }

    fn supported(&self) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "somewhere else"))
    }

    fn open(&self, _: Arc<dyn LinkEvents>) -> io::Result<(Box<dyn Link>, Ticket)> {
        panic!("it was refused before")
    }
}

/// `mp_context`, by value.
pub(crate) fn contexts_are_chosen_by_value(subject: &Subject) {
    let context = match subject.start_method() {
        #[cfg(unix)]
        "fork" => Context::new(Fork::new(), Pipe::new()),
        #[cfg(unix)]
        "forkserver" => Context::new(ForkServer::new(), Pipe::new()),
        _ => Context::new(Exec::new(), Pipe::new()),
    };
    let context = match subject.transport() {
        "ipc" => context.transport(Ipc::new()),
        "shm" => context.transport(Shm::new()),
        _ => context,
    };
    let pool = Executor::builder().context(context).max_workers(1).build().expect("a pool");
    assert_eq!(pool.context(), subject.context);
    assert_eq!(run(&pool, same, 3), 3);
    // Fork alone is for programs without threads, which this one is no more.
    let again = Executor::builder().context(subject.context.parse::<Context>().expect("known")).build();
    match again {
        Err(BuildError::Spawn(error)) if subject.start_method() == "fork" => {
            assert!(error.to_string().contains("threads"), "{error}");
        }
        again => assert_eq!(again.expect("a pool").context(), subject.context),
    }
}

/// A program that never called `init()` is told so before anything is started.
pub(crate) fn a_program_without_init_gets_an_error(_: &Subject) {
    let program = std::env::current_exe().expect("a path");
    let output = std::process::Command::new(program).env(crate::NO_INIT, "1").output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success() && text.contains("init()"), "{text}");
}

/// CPython: `test_max_workers_negative`, of zero.
pub(crate) fn sizes_of_zero_are_refused(subject: &Subject) {
    let zero = |result: Result<Executor, BuildError>| match result {
        Err(BuildError::Zero(name)) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(zero(subject.builder().max_workers(0).build()), "max_workers");
    assert_eq!(zero(subject.builder().max_tasks_per_child(0).build()), "max_tasks_per_child");
    assert_eq!(zero(subject.builder().call_queue_bound(0).build()), "call_queue_bound");
    let restart_limit = RestartLimit { failures: 0, ..RestartLimit::default() };
    assert_eq!(zero(subject.builder().restart_limit(restart_limit).build()), "restart_limit.failures");
}

/// CPython: `test_default_workers`.
pub(crate) fn there_are_as_many_workers_as_cores_by_default(subject: &Subject) {
    let pool = subject.builder().build().expect("a pool");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    assert_eq!(pool.max_workers(), cores);
}

/// S6.
pub(crate) fn no_worker_starts_before_the_first_call(subject: &Subject) {
    let pool = subject.pool(4);
    assert_eq!((pool.workers(), pool.worker_pids().len()), (0, 0));
    run(&pool, same, 1);
    assert_eq!(pool.workers(), 1);
}

/// CPython: `test_idle_process_reuse_one`, `test_idle_process_reuse_multiple`.
pub(crate) fn an_idle_worker_is_used_again(subject: &Subject) {
    let (pool, gate) = (subject.pool(4), Gate::new());
    let pids: BTreeSet<_> = (0..20).map(|_| run(&pool, pid, ())).collect();
    assert_eq!((pids.len(), pool.workers()), (1, 1));
    let pair: Vec<_> = (0..2).map(|_| submit(&pool, wait_at, gate.port())).collect();
    let visitors = gate.arrivals(2);
    assert_eq!(pool.workers(), 2);
    drop(visitors);
    assert!(pair.into_iter().all(|handle| handle.result().is_ok()));
    for _ in 0..20 {
        let pair = [submit(&pool, same, 1), submit(&pool, same, 2)];
        assert!(pair.into_iter().all(|handle| handle.result().is_ok()));
    }
    assert_eq!(pool.workers(), 2);
}

/// Returns from a start when it is told to, and whether with a worker: that is at a call by then, or has done one.
#[derive(Debug)]
struct Late(Exec, Mutex<Receiver<bool>>);

impl Late {
    fn pool(subject: &Subject) -> (Executor, Sender<bool>) {
        if subject.context != "exec+pipe" {
            skip("about the pool, not the context: done with exec+pipe");
        }
        let (go, told) = channel();
        let context = Context::new(Self(Exec::new(), Mutex::new(told)), Pipe::new());
        (Executor::builder().context(context).max_workers(1).build().expect("a pool"), go)
    }
}

impl Spawner for Late {
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
        let worker = self.0.spawn(ticket, on_exit)?;
        // Later starts are as any other.
        if self.1.lock().expect("nobody panics").recv().unwrap_or(true) {
            return Ok(worker);
        }
        worker.signal(Signal::Kill).expect("it is there");
        Err(SpawnError::from_io("keep a worker", std::io::ErrorKind::ConnectionReset.into()))
    }
}

/// On a loaded machine a worker may be up, and done with a call, before the call that starts it has returned.
pub(crate) fn a_worker_that_is_quicker_than_its_start_is_known(subject: &Subject) {
    let (pool, go) = Late::pool(subject);
    let worker = run(&pool, pid, ());
    let (done, asked) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Who does not wait has asked by then.
            let _ = asked.recv_timeout(Duration::from_millis(50));
            go.send(true).expect("the start is not over");
        });
        let pids = pool.worker_pids();
        let _ = done.send(());
        assert_eq!(pids, [worker]);
    });
}

/// A fork server may be killed just then, say. The call was lost for ever, and with it the pool's end.
pub(crate) fn a_start_that_fails_when_its_worker_is_at_a_call_costs_that_call(subject: &Subject) {
    let (pool, go) = Late::pool(subject);
    let gate = Gate::new();
    let at_it = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    let next = submit(&pool, same, 2);
    go.send(false).expect("the start is not over");
    drop(go);
    let lost = lost(at_it.result());
    assert!(lost.why.as_deref().is_some_and(|why| why.contains("keep a worker")), "{lost}");
    assert_eq!(next.result().expect("the next is done by another"), 2);
    drop((pool, visitor));
}

/// CPython: `test_saturation`: fifteen calls for each worker, all of which wait.
pub(crate) fn there_are_never_more_workers_than_allowed(subject: &Subject) {
    let (pool, gate) = (subject.pool(3), Gate::new());
    let handles: Vec<_> = (0..45).map(|_| submit(&pool, wait_at, gate.port())).collect();
    let mut visitors = gate.arrivals(3);
    assert_eq!(pool.workers(), 3);
    assert_eq!(pool.worker_pids().len(), 3);
    let mut pids = BTreeSet::new();
    let mut passed = 0;
    while let Some(visitor) = visitors.pop() {
        pids.insert(visitor.pid);
        visitor.pass();
        passed += 1;
        // One goes, one comes: never are there four.
        if passed + visitors.len() < 45 {
            visitors.push(gate.arrival());
        }
        assert!(pool.workers() <= 3);
    }
    assert_eq!((pids.len(), passed), (3, 45));
    assert!(handles.into_iter().all(|handle| handle.result().is_ok()));
}

/// A wait of Windows' is for 64 handles at most, of CPython's for 63 processes.
pub(crate) fn seventy_workers_work_and_end_at_once(subject: &Subject) {
    const MANY: usize = 70;
    let (pool, gate) = (subject.pool(MANY), Gate::new());
    let mut handles: Vec<_> = (0..MANY).map(|_| submit(&pool, wait_at, gate.port())).collect();
    let visitors = gate.arrivals(MANY);
    let pids: BTreeSet<_> = visitors.iter().map(|visitor| visitor.pid).collect();
    assert_eq!(pids.len(), MANY);
    assert_eq!(pids, pool.worker_pids().into_iter().collect());
    // The ends of the last are seen as those of the first.
    pids.iter().for_each(|pid| kill(*pid));
    let dead: BTreeSet<_> = handles.drain(..).map(|handle| lost(handle.result()).pid).collect();
    assert_eq!(dead, pids.into_iter().map(Some).collect());
    drop(visitors);
    assert_eq!(run(&pool, same, 7), 7);
}

/// CPython: `test_max_tasks_per_child`.
pub(crate) fn a_worker_is_replaced_after_its_last_call(subject: &Subject) {
    let pool = subject.builder().max_workers(1).max_tasks_per_child(3).build().expect("a pool");
    let pids: Vec<_> = (0..9).map(|_| run(&pool, pid, ())).collect();
    assert!(pids.chunks(3).all(|three| three.iter().all(|pid| *pid == three[0])), "{pids:?}");
    assert_eq!(pids.into_iter().collect::<BTreeSet<_>>().len(), 3);
}

/// CPython: `test_max_tasks_per_child_pending_tasks_gh115634`.
pub(crate) fn a_backlog_is_done_by_replaced_workers(subject: &Subject) {
    for (workers, tasks, calls) in [(1, 2, 6), (2, 2, 8), (2, 1, 9), (2, 7, 60)] {
        let pool = subject.builder().max_workers(workers).max_tasks_per_child(tasks).build().expect("a pool");
        let handles: Vec<_> = (0..calls).map(|_| submit(&pool, pid, ())).collect();
        let mut uses = std::collections::BTreeMap::<u32, usize>::new();
        for handle in handles {
            *uses.entry(handle.result().expect("a result")).or_default() += 1;
        }
        assert!(uses.values().all(|uses| *uses <= tasks), "{uses:?}");
    }
}

/// Cancelled calls do not wear a worker out.
pub(crate) fn a_cancelled_call_does_not_count_against_its_worker(subject: &Subject) {
    let (pool, gate) =
        (subject.builder().max_workers(1).max_tasks_per_child(3).build().expect("a pool"), Gate::new());
    let long = submit(&pool, wait_at, gate.port());
    let queued: Vec<_> = (0..10).map(|n| submit(&pool, same, n)).collect();
    let visitor = gate.arrival();
    assert!(queued.iter().all(TaskHandle::cancel));
    let after = [submit(&pool, pid, ()), submit(&pool, pid, ())];
    let worker = visitor.pid;
    visitor.pass();
    long.result().expect("a result");
    assert!(after.into_iter().all(|handle| handle.result().is_ok_and(|pid| pid == worker)));
    assert_ne!(run(&pool, pid, ()), worker);
}

static INITIALIZED: AtomicU64 = AtomicU64::new(0);

fn initialize(n: u64) {
    INITIALIZED.fetch_add(n, Ordering::SeqCst);
}

fn initialized((): ()) -> u64 {
    INITIALIZED.load(Ordering::SeqCst)
}

/// CPython: `InitializerMixin.test_initializer`.
pub(crate) fn each_worker_is_initialized_once_before_its_first_call(subject: &Subject) {
    let builder = subject.builder().max_workers(2).max_tasks_per_child(2);
    let pool = builder.initializer(initialize, 41).build().expect("a pool");
    let seen: Vec<_> =
        pool.map(initialized, std::iter::repeat_n((), 20)).collect::<Result<_, _>>().expect("results");
    assert_eq!(seen, [41; 20]);
    assert_eq!(initialized(()), 0, "not in the parent");
}

fn fail_with(text: String) -> Result<(), String> {
    Err(text)
}

fn panic_with(text: String) {
    panic!("{text}");
}

/// The reason for which the calls of this pool fail; they all do.
#[track_caller]
fn broken(pool: &Executor) -> BrokenPool {
    let handles: Vec<_> = (0..4).filter_map(|n| pool.submit(same, n).ok()).collect();
    for handle in handles {
        assert!(matches!(handle.result(), Err(TaskError::Broken(_))));
    }
    assert!(matches!(pool.submit(same, 1), Err(SubmitError::Broken(_))));
    let reason = pool.broken().expect("it is broken");
    pool.shutdown(Shutdown::default());
    assert_eq!(pool.workers(), 0);
    reason
}

/// CPython: `FailingInitializerMixin.test_initializer`; D32: with the error's own words.
pub(crate) fn a_failed_initializer_breaks_the_pool_with_its_own_words(subject: &Subject) {
    let text = || "no such database".to_owned();
    let returned = subject.builder().max_workers(2).initializer(fail_with, text()).build().expect("a pool");
    let panicked = subject.builder().max_workers(2).initializer(panic_with, text()).build().expect("a pool");
    for (pool, name) in [(returned, "fail_with"), (panicked, "panic_with")] {
        let broken = broken(&pool);
        let BreakReason::Initializer(failed) = &*broken.reason else { panic!("{broken}") };
        assert!(failed.task.ends_with(name) && failed.message.contains("no such database"), "{failed}");
        assert!(broken.to_string().contains("no such database"), "{broken}");
    }
}

/// Its argument is data like any other.
pub(crate) fn an_initializers_argument_is_checked_where_it_fails(subject: &Subject) {
    let refused = subject.builder().initializer(|_: Whim| (), Whim::when_encoded(Act::Refuse)).build();
    assert!(matches!(refused, Err(BuildError::Codec(_))), "{refused:?}");
    let builder = subject.builder().max_workers(1);
    let pool = builder.initializer(|_: Whim| (), Whim::when_decoded(Act::Refuse)).build().expect("a pool");
    let broken = broken(&pool).to_string();
    assert!(broken.contains("cannot decode") && broken.contains("Whim"), "{broken}");
}

/// D8: an initializer that ends its worker is no endless loop.
pub(crate) fn an_initializer_that_ends_its_worker_breaks_the_pool_after_a_few(subject: &Subject) {
    let limit =
        RestartLimit { failures: 3, backoff_min: Duration::from_millis(1), backoff_max: Duration::from_millis(5) };
    let builder = subject.builder().max_workers(2).restart_limit(limit);
    let pool = builder.initializer(exit, 5).build().expect("a pool");
    let broken = broken(&pool);
    let BreakReason::TooManyFailures { failures: 3, last } = &*broken.reason else { panic!("{broken}") };
    assert!(matches!(last, StartError::Ended { exit: Exit::Code(5), .. }), "{last}");
}

/// mpire: `worker_init_timeout`. An initializer that does not end meets the start deadline.
pub(crate) fn an_initializer_that_hangs_breaks_the_pool_after_the_start_deadline(subject: &Subject) {
    let gate = Gate::new();
    let builder = subject.builder().max_workers(1).start_deadline(Duration::from_millis(300));
    let pool = builder.initializer(wait_at, gate.port()).build().expect("a pool");
    let broken = broken(&pool);
    assert!(matches!(&*broken.reason, BreakReason::NoWorkerInTime { .. }), "{broken}");
}

/// A pool that a task makes for itself.
fn squares_by_a_pool_of_its_own((context, n): (String, u64)) -> Vec<u64> {
    let pool =
        Executor::builder().context(xtests::context::named(&context)).max_workers(2).build().expect("a pool");
    pool.map(|n: u64| n * n, 0..n).collect::<Result<_, _>>().expect("results")
}

/// S34; pebble: `child_pool`.
pub(crate) fn a_call_can_have_a_pool(subject: &Subject) {
    let pool = subject.pool(2);
    let handles: Vec<_> =
        (0..6).map(|n| submit(&pool, squares_by_a_pool_of_its_own, (subject.context.clone(), n))).collect();
    for (n, handle) in (0..).zip(handles) {
        assert_eq!(handle.result().expect("a result"), (0..n).map(|n| n * n).collect::<Vec<u64>>());
    }
}

/// In each process another one.
static SHARED: LazyLock<Executor> =
    LazyLock::new(|| Executor::builder().max_workers(1).build().expect("a pool of the default context"));

fn add_one_in_the_shared_pool(n: u64) -> u64 {
    run(&SHARED, |n: u64| n + 1, n)
}

/// The worker's own static pool goes when the worker does, though nobody drops it.
pub(crate) fn a_call_can_use_a_pool_in_a_static(subject: &Subject) {
    let pool = subject.pool(2);
    let results = pool.map(add_one_in_the_shared_pool, 0..20).collect::<Result<Vec<_>, _>>().expect("results");
    assert_eq!(results, (1..21).collect::<Vec<_>>());
}

/// A pool in a static of this process: it can be ended by hand.
pub(crate) fn a_pool_in_a_static_is_shut_down_by_hand(_: &Subject) {
    assert_eq!(add_one_in_the_shared_pool(1), 2);
    SHARED.shutdown(Shutdown::default());
    assert!(matches!(SHARED.submit(same, 1), Err(SubmitError::ShutDown)));
}

/// D29, gh-124706. That nothing is left is what the runner looks at after each case.
pub(crate) fn two_hundred_pools_come_and_go(subject: &Subject) {
    for n in 0..200 {
        let pool = subject.pool(1);
        assert_eq!(run(&pool, same, n), n);
    }
}

/// Several pools at a time do not get in each other's way.
pub(crate) fn twenty_pools_live_side_by_side(subject: &Subject) {
    let pools: Vec<_> = (0..20).map(|_| subject.pool(1)).collect();
    let handles: Vec<_> = pools.iter().map(|pool| submit(pool, pid, ())).collect();
    let pids: BTreeSet<_> = handles.into_iter().map(|handle| handle.result().expect("a result")).collect();
    assert_eq!(pids.len(), 20);
}

/// An unused pool, and one that is dropped while its first workers start.
pub(crate) fn a_pool_that_is_dropped_at_once_leaves_nothing(subject: &Subject) {
    let path = file(&subject.dir);
    for n in 0..20 {
        drop(subject.pool(2));
        drop(submit(&subject.pool(2), leave_trace, (path.clone(), n)));
    }
    assert_eq!(traces(&path), (0..20).collect::<Vec<_>>(), "a drop finishes what was submitted");
}

pub(crate) fn a_lost_call_in_a_fresh_pool_names_its_worker(subject: &Subject) {
    let pool = subject.pool(1);
    let lost = lost(submit(&pool, exit, 9).result());
    assert_eq!((lost.exit, lost.worker.0), (Exit::Code(9), 0));
    assert!(lost.pid.is_some() && lost.task.ends_with("exit"));
}

#[cfg(target_os = "linux")]
fn switches(pid: u32, but: Option<u32>) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives").flatten();
    tasks
        .filter(|task| but.is_none_or(|but| task.file_name().to_str() != Some(but.to_string().as_str())))
        .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok())
        .filter_map(|status| {
            status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok())
        })
        .sum()
}

/// D23: an idle pool does not wake up. Time is what is measured here, so the case lets some pass.
#[cfg(target_os = "linux")]
pub(crate) fn an_idle_pool_sleeps(subject: &Subject) {
    let (pool, gate) = (subject.pool(2), Gate::new());
    let handles: Vec<_> = (0..2).map(|_| submit(&pool, wait_at, gate.port())).collect();
    drop(gate.arrivals(2));
    assert!(handles.into_iter().all(|handle| handle.result().is_ok()));
    let own = std::process::id();
    // All threads of this process but the one that looks.
    let look =
        || switches(own, Some(own)) + pool.worker_pids().into_iter().map(|pid| switches(pid, None)).sum::<u64>();
    for _ in 0..10 {
        let before = look();
        std::thread::sleep(Duration::from_millis(500));
        if look() == before {
            return;
        }
    }
    panic!("something wakes up again and again");
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn an_idle_pool_sleeps(_: &Subject) {
    xtests::runner::skip("the system does not tell how often a thread wakes up");
}
