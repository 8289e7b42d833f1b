//! `test_deadlock.py`: whatever a call does to its worker, nobody waits for ever.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use process_pool::carry::Pipe;
use process_pool::spawn::Exec;
use process_pool::spawner::{OnExit, SpawnError, Spawner, SpawnerCaps, Worker};
use process_pool::transport::{Connector, Link, LinkEvents, Ticket, Transport};
use process_pool::worker::WorkerEntry;
use process_pool::{Bytes, Context, Executor, RestartLimit, Shutdown, TaskError};
use xtests::calls::{run, same, submit};
use xtests::gate::{Gate, PATIENCE, wait_at};
use xtests::processes::eventually;
use xtests::runner::{Subject, kill_if_there, skip};

/// Far more than a pipe holds.
const LARGE: usize = 8 << 20;

fn gives((port, n): (u16, u8)) -> Bytes {
    wait_at(port);
    Bytes::from(vec![n; LARGE])
}

fn is_right(bytes: &Bytes, n: u8) -> bool {
    bytes.len() == LARGE && bytes.first() == Some(&n) && bytes[1..] == bytes[..LARGE - 1]
}

/// How long a worker takes from the gate to the last byte of its answer here.
fn usual(pool: &Executor) -> Duration {
    let gate = Gate::new();
    let large = submit(pool, gives, (gate.port(), 1));
    gate.arrival().pass();
    let start = Instant::now();
    large.wait();
    let taken = start.elapsed();
    assert!(is_right(&large.result().expect("a result"), 1));
    taken
}

/// Kills the worker so long after it was let through the gate. Whether its answer was whole.
fn round(pool: &Executor, n: u8, patience: Duration, before: impl FnOnce()) -> bool {
    let gate = Gate::new();
    let large = submit(pool, gives, (gate.port(), n));
    let next = submit(pool, same, n.into());
    let visitor = gate.arrival();
    let worker = visitor.pid;
    before();
    visitor.pass();
    // The moment is what is tried out here, so it is waited for by the clock.
    let start = Instant::now();
    while start.elapsed() < patience {
        std::hint::spin_loop();
    }
    kill_if_there(worker);
    let is_whole = match large.result() {
        Ok(bytes) => {
            assert!(is_right(&bytes, n), "half a result is none");
            true
        }
        Err(TaskError::WorkerLost(lost)) => {
            assert_eq!(lost.pid, Some(worker));
            false
        }
        Err(error) => panic!("{error:?}"),
    };
    match next.result() {
        Ok(result) => assert_eq!(result, n.into()),
        Err(TaskError::WorkerLost(_)) => assert!(is_whole, "one death costs one call"),
        Err(error) => panic!("{error:?}"),
    }
    // Or the next call may be sent to it, where nobody can take it back.
    eventually("its end is known", || !pool.worker_pids().contains(&worker));
    is_whole
}

/// D6, D13; CPython: `test_crash_big_data`, of a result. The kill meets every stage of the answer.
pub(crate) fn crash_during_a_large_result(subject: &Subject) {
    let pool = subject.pool(1);
    let usual = usual(&pool);
    let whole = (0..40).filter(|n| round(&pool, *n, usual * u32::from(*n) / 20, || {})).count();
    println!("{whole} of 40 were whole; usually it takes {usual:?}");
    assert_eq!(run(&pool, same, 5), 5);
    assert!(pool.broken().is_none());
}

/// The same while a shutdown waits for it: CPython's `test_shutdown_deadlock`.
pub(crate) fn crash_during_a_large_result_after_shutdown(subject: &Subject) {
    let usual = usual(&subject.pool(1));
    for n in 1..6 {
        let pool = subject.pool(1);
        let shut_down = || drop(pool.shutdown(Shutdown { wait: false, ..Shutdown::default() }));
        round(&pool, n, usual * u32::from(n) / 4, shut_down);
    }
}

/// Backends that do not go by their contract, so many times.
#[derive(Debug)]
struct Panicky<T> {
    inner: T,
    left: AtomicUsize,
}

impl<T> Panicky<T> {
    fn new(inner: T, panics: usize) -> Self {
        Self { inner, left: panics.into() }
    }

    fn may_panic(&self) {
        let take = |left: usize| left.checked_sub(1);
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
            panic!("in a backend (this text is expected)");
        }
    }
}

impl Spawner for Panicky<Exec> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn caps(&self) -> SpawnerCaps {
        self.inner.caps()
    }

    fn prepare(&self, entry: WorkerEntry) -> Result<(), SpawnError> {
        self.inner.prepare(entry)
    }

    fn spawn(&self, ticket: Ticket, on_exit: OnExit) -> Result<Box<dyn Worker>, SpawnError> {
        self.may_panic();
        self.inner.spawn(ticket, on_exit)
    }
}

impl Transport for Panicky<Pipe> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn frame_max(&self) -> usize {
        Transport::frame_max(&self.inner)
    }

    fn connector(&self) -> Box<dyn Connector> {
        self.inner.connector()
    }

    fn open(&self, events: Arc<dyn LinkEvents>) -> io::Result<(Box<dyn Link>, Ticket)> {
        self.may_panic();
        self.inner.open(events)
    }
}

/// D12: an error in a thread that everybody depends on. With a backend of the user's own, which panics.
pub(crate) fn a_start_that_panics_is_a_failed_start(subject: &Subject) {
    if subject.context != "exec+pipe" {
        skip("about the pool, not the context: done with exec+pipe");
    }
    for (panics, breaks) in [(2, false), (3, true)] {
        for context in [
            Context::new(Panicky::new(Exec::new(), panics), Pipe::new()),
            Context::new(Exec::new(), Panicky::new(Pipe::new(), panics)),
        ] {
            let pauses = (Duration::from_millis(1), Duration::from_millis(5));
            let limit = RestartLimit { failures: 3, backoff_min: pauses.0, backoff_max: pauses.1 };
            let builder = Executor::builder().context(context).max_workers(1).restart_limit(limit);
            let pool = builder.build().expect("a pool");
            let handles: Vec<_> = (0..4).filter_map(|n| pool.submit(same, n).ok()).collect();
            assert!(!handles.is_empty());
            for (n, handle) in (0..).zip(handles) {
                match handle.result_timeout(PATIENCE).expect("nobody waits for ever") {
                    Ok(result) => assert!(result == n && !breaks),
                    Err(TaskError::Broken(broken)) => {
                        assert!(breaks && broken.to_string().contains("in a backend"), "{broken}");
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert_eq!(pool.broken().is_some(), breaks);
        }
    }
}
