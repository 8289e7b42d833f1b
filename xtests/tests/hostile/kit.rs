//! What the cases share: pools, patience, and taking results apart.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use process_pool::carry::Pipe;
use process_pool::error::{BreakReason, CodecError, Exit, Panicked};
use process_pool::spawn::Exec;
use process_pool::{BrokenPool, Builder, Context, Executor, RestartLimit, SubmitError, TaskError, TaskHandle};

/// Longer than anything here takes on a busy machine, and shorter than the watchdog's limit.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// So soon that nobody can have waited for a deadline of the pool's own.
pub(crate) const PROMPTLY: Duration = Duration::from_secs(4);

/// How a worker ends that the pool has killed.
pub(crate) const KILLED: Exit = Exit::KILLED;

/// Whether the pipe's parent knows which of the calls it has sent were started. Where it does not, every call
/// that was sent to a lost worker is lost with it.
pub(crate) const CLAIMS: bool = cfg!(any(target_os = "linux", windows));

/// Gives up early, and pauses briefly before it does.
pub(crate) fn impatient(builder: Builder) -> Builder {
    let pauses = (Duration::from_millis(1), Duration::from_millis(5));
    let limit = RestartLimit { failures: 2, backoff_min: pauses.0, backoff_max: pauses.1 };
    builder.max_workers(2).restart_limit(limit)
}

/// Workers of another program.
pub(crate) fn program(exec: Exec) -> Context {
    Context::new(exec, Pipe::new())
}

/// The result, or a failure that says so instead of a hang.
#[track_caller]
pub(crate) fn settled<R>(handle: &TaskHandle<R>) -> Result<R, TaskError> {
    handle.result_timeout(PATIENCE).expect("the call is settled in time")
}

/// Calls `f` and waits for what comes of it.
#[track_caller]
pub(crate) fn call<F, A, R>(pool: &Executor, f: F, argument: A) -> Result<R, TaskError>
where
    F: process_pool::Function<A, R>,
    A: serde::Serialize + serde::de::DeserializeOwned + 'static,
    R: serde::Serialize + serde::de::DeserializeOwned + 'static,
{
    settled(&pool.submit(f, argument).expect("taken"))
}

/// The pool runs calls as if nothing had happened.
#[track_caller]
pub(crate) fn is_usable(pool: &Executor) {
    assert!(pool.broken().is_none(), "{:?}", pool.broken());
    let handles: Vec<_> = (0..8).map(|n: u64| pool.submit(|n: u64| n * n, n).expect("taken")).collect();
    for (n, handle) in handles.iter().enumerate() {
        assert_eq!(settled(handle).expect("a result"), (n * n) as u64);
    }
}

#[track_caller]
pub(crate) fn panicked<R: Debug>(result: Result<R, TaskError>) -> Panicked {
    match result {
        Err(TaskError::Panicked(panicked)) => *panicked,
        other => panic!("it panicked: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn not_carried<R: Debug>(result: Result<R, TaskError>) -> CodecError {
    match result {
        Err(TaskError::Codec(error)) => *error,
        other => panic!("it could not be carried: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn broken<R: Debug>(result: Result<R, TaskError>) -> BrokenPool {
    match result {
        Err(TaskError::Broken(broken)) => broken,
        other => panic!("the pool is broken: {other:?}"),
    }
}

/// Every call fails with the pool, later ones are refused, both with the same reason, all of it soon; and the
/// pool leaves no worker.
#[track_caller]
pub(crate) fn breaks<R: Debug>(
    pool: Executor,
    calls: Vec<TaskHandle<R>>,
    is_right: impl Fn(&BreakReason) -> bool,
) {
    let start = Instant::now();
    for handle in &calls {
        let reason = broken(settled(handle)).reason;
        assert!(is_right(&reason), "{reason:?}");
    }
    let known = pool.broken().expect("it says so").reason;
    assert!(is_right(&known), "{known:?}");
    match pool.submit(|n: u8| n, 1) {
        Err(SubmitError::Broken(broken)) => assert!(is_right(&broken.reason), "{:?}", broken.reason),
        other => panic!("a broken pool takes nothing: {other:?}"),
    }
    drop(pool);
    assert!(start.elapsed() < PROMPTLY, "{:?}", start.elapsed());
}

/// Writes an executable file.
#[cfg(unix)]
pub(crate) fn write_program(path: &std::path::Path, text: &str) {
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
}
