//! `test_future.py`.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Wake, Waker};

use process_pool::{Executor, SubmitError, TaskError, TaskHandle};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xtests::calls::{run, same, submit};
use xtests::gate::{Gate, PATIENCE, wait_at};
use xtests::runner::Subject;

/// Somebody waits for the result when another thread cancels the call.
pub(crate) fn result_with_cancel(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let long = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    for _ in 0..50 {
        let handle = submit(&pool, same, 1);
        let barrier = Barrier::new(3);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    barrier.wait();
                    handle.wait();
                    assert!(matches!(handle.error(), Some(TaskError::Cancelled)));
                });
            }
            barrier.wait();
            assert!(handle.cancel());
        });
        assert!(matches!(handle.result(), Err(TaskError::Cancelled)));
    }
    visitor.pass();
    long.result().expect("a result");
}

static POOL: Mutex<Option<Arc<Executor>>> = Mutex::new(None);

/// A call within another one's encoding or decoding; none in a worker, which has no pool.
fn in_between(n: u64) -> u64 {
    let pool = POOL.lock().expect("no panic").clone();
    pool.map_or(n, |pool| run(&pool, |n: u64| n + 1, n))
}

/// A value that makes calls when it is encoded, and when it is decoded.
struct Busy(u64);

impl Serialize for Busy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        in_between(self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Busy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(|n| Self(in_between(n)))
    }
}

/// D22, gh-121649: a submit within a submit, as a finalizer or an encoder makes it.
pub(crate) fn submit_while_a_value_is_encoded_or_decoded(subject: &Subject) {
    let pool = Arc::new(subject.pool(1));
    *POOL.lock().expect("no panic") = Some(Arc::clone(&pool));
    let Busy(n) = run(&pool, |busy: Busy| busy, Busy(40));
    assert_eq!(n, 42, "one call for the argument, one for the result");
    let all: Vec<_> = pool.map(|busy: Busy| busy, (0..6).map(Busy)).chunksize(2).collect();
    let all: Vec<_> = all.into_iter().map(|busy| busy.expect("a result").0).collect();
    assert_eq!(all, [2, 3, 4, 5, 6, 7]);
    *POOL.lock().expect("no panic") = None;
}

/// Submits a call when it is woken, and tells what became of that.
struct Submits(Arc<Executor>, mpsc::Sender<Result<TaskHandle<u64>, SubmitError>>);

impl Wake for Submits {
    fn wake(self: Arc<Self>) {
        self.1.send(self.0.submit(same, 7)).expect("the case listens");
    }
}

/// D22: a waker is run in the middle of things, and may start some.
pub(crate) fn submit_in_a_waker(subject: &Subject) {
    let pool = subject.builder().max_workers(1).call_queue_bound(1).build().expect("a pool");
    let (pool, gate) = (Arc::new(pool), Gate::new());
    for how in ["result", "cancel"] {
        let long = submit(&pool, wait_at, gate.port());
        let visitor = gate.arrival();
        // May be sent ahead, and be beyond reach; the one after it is not.
        let between = submit(&pool, same, 0);
        let mut handle = submit(&pool, same, 1);
        let (sender, submitted) = mpsc::channel();
        let waker = Waker::from(Arc::new(Submits(Arc::clone(&pool), sender)));
        assert!(Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        if how == "cancel" {
            assert!(handle.cancel());
        }
        visitor.pass();
        let next = submitted.recv_timeout(PATIENCE).expect("the waker is woken").expect("accepted");
        assert!(matches!(next.result_timeout(PATIENCE), Some(Ok(7))));
        assert_eq!(handle.result().is_ok(), how == "result");
        long.result().expect("a result");
        between.result().expect("a result");
    }
}
