//! What the program wants done in each forked worker.

use std::panic::catch_unwind;
use std::sync::{Mutex, MutexGuard, PoisonError};

static HOOKS: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

/// Has `hook` run in each worker that is forked from now on, before its first call.
///
/// Forked workers begin as copies of one process, so what was random there is the same in all of them: a random
/// number generator that was seeded before gives each worker the same numbers. That is what hooks are for: seed
/// again, rename the thread, open a log of one's own.
///
/// A hook counts if it is registered in the process that forks: for [`ForkServer`](crate::ForkServer) before
/// `init()`, in `main` or in what runs before it; for [`Fork`](crate::Fork) before the pool is built. Hooks run in
/// the order in which they were registered. One that panics ends its worker.
///
/// A hook must start no thread if a pool's settings change the environment: on Linux that is refused, elsewhere it is
/// not noticed, and unsound.
///
/// Start methods that do not fork run no hooks.
pub fn after_fork(hook: fn()) {
    lock().push(hook);
}

/// The hooks, held still, so that a process that is forked meanwhile finds them whole.
pub(crate) fn lock() -> MutexGuard<'static, Vec<fn()>> {
    HOOKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs all of them.
///
/// # Errors
/// If one panics; the rest is not run.
#[cfg_attr(not(unix), expect(dead_code, reason = "there are no forked workers"))]
pub(crate) fn run() -> Result<(), &'static str> {
    // A hook may register another, which then is for workers of this one.
    let hooks = lock().clone();
    hooks.into_iter().try_for_each(catch_unwind).map_err(|_| "an `after_fork` hook panicked")
}
