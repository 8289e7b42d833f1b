//! What several cases need.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use process_pool::{Executor, TaskError, TaskHandle};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use xtests::gate::PATIENCE;

/// For calls: nothing.
pub(crate) fn same(n: u64) -> u64 {
    n
}

/// For calls: the process they run in.
pub(crate) fn pid((): ()) -> u32 {
    std::process::id()
}

/// For calls: the end of the worker.
pub(crate) fn exit(code: i32) {
    std::process::exit(code)
}

/// Submits, and is sure of it.
#[track_caller]
pub(crate) fn submit<F, A, R>(pool: &Executor, f: F, argument: A) -> TaskHandle<R>
where
    F: process_pool::Function<A, R>,
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
{
    pool.submit(f, argument).expect("accepted")
}

/// Runs one call to its end.
#[track_caller]
pub(crate) fn run<F, A, R>(pool: &Executor, f: F, argument: A) -> R
where
    F: process_pool::Function<A, R>,
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
{
    submit(pool, f, argument).result().expect("a result")
}

/// The report of a lost worker.
#[track_caller]
pub(crate) fn lost<R>(result: Result<R, TaskError>) -> process_pool::error::WorkerLost {
    match result {
        Err(TaskError::WorkerLost(lost)) => *lost,
        Err(error) => panic!("another error: {error:?}"),
        Ok(_) => panic!("a result instead of a loss"),
    }
}

/// Looks again and again until it holds; for what happens without anybody's being told.
#[track_caller]
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "in vain waited until {what}");
        std::thread::yield_now();
    }
}

/// A path of the case, as an argument for calls.
pub(crate) fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().expect("a path that is text").to_owned()
}

static ALIVE: AtomicI64 = AtomicI64::new(0);

/// Counts how many of it there are in this process.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Counted(pub(crate) u64);

impl Counted {
    pub(crate) fn new(n: u64) -> Self {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Self(n)
    }

    /// How many there are.
    pub(crate) fn alive() -> i64 {
        ALIVE.load(Ordering::SeqCst)
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self::new)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}
