//! Calls that many cases make, and what comes of them.
//!
//! A worker finds them as it finds any function: it is the same program.

use std::fmt::Debug;

use process_pool::error::WorkerLost;
use process_pool::{Executor, Function, TaskError, TaskHandle};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// For calls: nothing.
pub fn same(n: u64) -> u64 {
    n
}

/// For calls: the process they run in.
pub fn pid((): ()) -> u32 {
    std::process::id()
}

/// For calls: the end of the worker.
pub fn exit(code: i32) {
    std::process::exit(code)
}

/// Submits, and is sure of it.
///
/// # Panics
/// If the call is not accepted.
#[track_caller]
pub fn submit<F, A, R>(pool: &Executor, f: F, argument: A) -> TaskHandle<R>
where
    F: Function<A, R>,
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
{
    pool.submit(f, argument).expect("accepted")
}

/// Runs one call to its end.
///
/// # Panics
/// If it has no result.
#[track_caller]
pub fn run<F, A, R>(pool: &Executor, f: F, argument: A) -> R
where
    F: Function<A, R>,
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
{
    submit(pool, f, argument).result().expect("a result")
}

/// The report of a lost worker.
///
/// # Panics
/// If that is not what came of the call.
#[track_caller]
pub fn lost<R: Debug>(result: Result<R, TaskError>) -> WorkerLost {
    match result {
        Err(TaskError::WorkerLost(lost)) => *lost,
        other => panic!("the worker is lost: {other:?}"),
    }
}
