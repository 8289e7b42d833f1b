//! `test_process_pool.py`: what is about processes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use process_pool::{Bytes, Executor, OnWorkerLoss, TaskError, TaskHandle};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xtests::calls::{exit, pid, run, same, submit};
use xtests::context::USUAL_TRANSPORT;
use xtests::gate::{Gate, wait_at};
use xtests::processes::eventually;
use xtests::runner::{Subject, skip};

use crate::tools::path;

/// CPython allows 61 on Windows, as many as one thread can wait for there.
pub(crate) fn max_workers_too_large(subject: &Subject) {
    let (workers, gate) = (70, Gate::new());
    let patience = Duration::from_secs(120);
    let pool = subject.builder().max_workers(workers).start_deadline(patience).build().expect("a pool");
    let handles: Vec<_> = (0..workers).map(|_| submit(&pool, wait_at, gate.port())).collect();
    let visitors = gate.arrivals(workers);
    let pids: BTreeSet<_> = visitors.iter().map(|visitor| visitor.pid).collect();
    assert_eq!(pids.len(), workers, "all at the same time");
    drop(visitors);
    assert!(handles.into_iter().all(|handle| handle.result().is_ok()));
}

/// gh-84559: there it depends on the platform and the release; here it is the same with every set of features.
pub(crate) fn the_default_context(_: &Subject) {
    let pool = Executor::builder().max_workers(1).build().expect("a pool");
    let usual = format!("exec+{USUAL_TRANSPORT}");
    assert_eq!((pool.context(), run(&pool, same, 1)), (usual.as_str(), 1));
}

/// S44, gh-109047: there the manager's thread died of it, and everybody waited for ever.
pub(crate) fn terminate_broken_leaves_a_cancelled_future_alone(subject: &Subject) {
    let builder = subject.builder().max_workers(1).on_worker_loss(OnWorkerLoss::Break);
    let (pool, gate) = (builder.build().expect("a pool"), Gate::new());
    let fatal = submit(
        &pool,
        |port: u16| {
            wait_at(port);
            exit(3);
        },
        gate.port(),
    );
    let visitor = gate.arrival();
    let queued: Vec<_> = (0..6).map(|n| submit(&pool, same, n)).collect();
    assert!(queued.iter().step_by(2).all(TaskHandle::cancel));
    visitor.pass();
    assert!(matches!(fatal.result(), Err(TaskError::Broken(_))));
    for (n, handle) in queued.into_iter().enumerate() {
        match handle.result() {
            Err(TaskError::Cancelled) => assert!(n.is_multiple_of(2)),
            Err(TaskError::Broken(_)) => assert!(!n.is_multiple_of(2)),
            other => panic!("{n}: {other:?}"),
        }
    }
}

/// D10, gh-101267: there one exception was shared, and every raise made it longer.
pub(crate) fn broken_futures_have_errors_of_their_own(subject: &Subject) {
    let builder = subject.builder().max_workers(1).on_worker_loss(OnWorkerLoss::Break);
    let pool = builder.build().expect("a pool");
    let handles: Vec<_> = [99, 1, 2].map(|code| submit(&pool, exit, code)).into();
    handles.iter().for_each(TaskHandle::wait);
    let errors: Vec<_> = handles.iter().map(|handle| handle.error().expect("broken")).collect();
    let text = errors[0].to_string();
    assert!(text.contains("exit code 99"), "{text}");
    for (n, error) in errors.iter().enumerate() {
        assert!(matches!(error, TaskError::Broken(_)), "{error:?}");
        assert_eq!(error.to_string(), text);
        assert!(errors[..n].iter().all(|other| !std::ptr::eq(*other, *error)));
    }
}

/// A value that others can still change.
struct Shared(Arc<AtomicU64>);

impl Serialize for Shared {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.load(Ordering::SeqCst).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(|n| Self(Arc::new(n.into())))
    }
}

/// S13, D15: there it is a race with the thread that pickles.
pub(crate) fn what_is_changed_after_submit_is_not_seen(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let long = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    let value = Arc::new(AtomicU64::new(0));
    let handles: Vec<_> = (0..100)
        .map(|n| {
            value.store(n, Ordering::SeqCst);
            submit(&pool, |Shared(value)| value.load(Ordering::SeqCst), Shared(Arc::clone(&value)))
        })
        .collect();
    value.store(1000, Ordering::SeqCst);
    visitor.pass();
    for (n, handle) in (0..).zip(handles) {
        assert_eq!(handle.result().expect("a result"), n);
    }
    long.result().expect("a result");
}

/// S7, S19: there, as many calls run as there are workers, and one more is beyond reach, with as many again as run.
pub(crate) fn the_call_queue_bound_is_all_that_cancel_cannot_reach(subject: &Subject) {
    let revocable = subject.caps().revocable.is_some();
    for bound in [1, 2] {
        let builder = subject.builder().max_workers(3).call_queue_bound(bound);
        let (pool, gate) = (builder.build().expect("a pool"), Gate::new());
        let all: Vec<_> = (0..3).map(|_| submit(&pool, wait_at, gate.port())).collect();
        drop(gate.arrivals(3));
        assert!(all.into_iter().all(|handle| handle.result().is_ok()));
        // All workers are there, and know calls that take no time: many could be sent ahead.
        assert_eq!(pool.map(same, 0..500).filter(Result::is_ok).count(), 500);
        let long: Vec<_> = (0..3).map(|_| submit(&pool, wait_at, gate.port())).collect();
        // Until then those at the end of the queue may be behind what is taken for a short call, or go past that.
        let visitors = gate.arrivals(3);
        let queued: Vec<_> = (0..50).map(|n| submit(&pool, same, n)).collect();
        let reached: Vec<_> = queued.iter().map(TaskHandle::cancel).collect();
        let out_of_reach = reached.iter().filter(|reached| !**reached).count();
        println!("{out_of_reach} beyond reach, of at most {bound}");
        assert!(out_of_reach <= if revocable { 0 } else { bound }, "{reached:?}");
        drop(visitors);
        assert!(long.into_iter().all(|handle| handle.result().is_ok()));
        for (reached, handle) in reached.into_iter().zip(queued) {
            assert_eq!(handle.result().is_err(), reached);
        }
    }
}

/// More than an allocator would keep.
const BIG: usize = 48 << 20;

fn big(n: u8) -> Bytes {
    Bytes::from(vec![n; BIG])
}

/// How many bytes of memory a process has in use.
fn resident(pid: u32) -> usize {
    if !cfg!(target_os = "linux") {
        skip("the system does not tell how much memory a process uses");
    }
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("the process lives");
    // Pages may be larger; then what is freed is more.
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}

/// S24, D46. The handles are kept.
pub(crate) fn arguments_of_cancelled_and_of_settled_calls_are_freed(subject: &Subject) {
    let own = || resident(std::process::id());
    let (pool, gate) = (subject.pool(1), Gate::new());
    let long = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    // None of the large ones is sent before these.
    let small: Vec<_> = (0..100).map(|n| submit(&pool, same, n)).collect();
    let before = own();
    let length = |bytes: Bytes| bytes.len();
    let cancelled: Vec<_> = (0..4).map(|n| submit(&pool, length, big(n))).collect();
    assert!(own() > before + 3 * BIG, "they are there");
    assert!(cancelled.iter().all(TaskHandle::cancel));
    assert!(own() < before + BIG, "{} bytes are left of the cancelled", own().saturating_sub(before));
    let done: Vec<_> = (0..3).map(|n| submit(&pool, length, big(n))).collect();
    visitor.pass();
    done.iter().for_each(TaskHandle::wait);
    eventually("those that were sent are gone", || own() < before + BIG);
    assert!(done.into_iter().all(|handle| handle.result().is_ok_and(|length| length == BIG)));
    assert!(small.into_iter().all(|handle| handle.result().is_ok()));
    long.result().expect("a result");
    drop(cancelled);
}

/// S31, bpo-35715.
pub(crate) fn an_idle_worker_has_given_back_the_memory_of_its_last_call(subject: &Subject) {
    let pool = subject.pool(1);
    let worker = run(&pool, pid, ());
    let before = resident(worker);
    let back = run(&pool, |bytes: Bytes| bytes, big(7));
    assert_eq!(back.len(), BIG);
    eventually("the worker is as small as before", || resident(worker) < before + BIG / 2);
    assert_eq!(run(&pool, pid, ()), worker);
}

/// gh-83856: there since 3.13. Here a worker that `fork` made leaves without: it has the parent's handlers too.
pub(crate) fn atexit_handlers_run_in_workers(subject: &Subject) {
    #[cfg(unix)]
    {
        let farewell = path(&subject.dir, "farewell");
        let pool = subject.pool(1);
        let worker = run(&pool, crate::sys::say_farewell_at_exit, farewell.clone());
        assert!(!std::path::Path::new(&farewell).exists(), "not before the end");
        drop(pool);
        let said = std::fs::read_to_string(farewell).ok();
        assert_eq!(said, (subject.start_method() != "fork").then(|| worker.to_string()));
    }
    #[cfg(not(unix))]
    skip(&format!("{} is not written: no handler is registered on this system", path(&subject.dir, "farewell")));
}

/// gh-125886, D40: Ctrl-C goes to the terminal's group of processes, and no worker is in it.
pub(crate) fn workers_are_in_groups_of_their_own(subject: &Subject) {
    #[cfg(unix)]
    {
        let group = |()| rustix::process::getpgrp().as_raw_nonzero().get().cast_unsigned();
        let pool = subject.pool(1);
        // So it is not this process's, which may be one of another namespace, and have no number here.
        assert_eq!(run(&pool, group, ()), run(&pool, pid, ()));
    }
    #[cfg(not(unix))]
    skip(&format!("{}: the system does not tell a process its group", subject.context));
}
