//! What a call can learn of itself: for functions that run in workers.
//!
//! A worker runs one call at a time, so what is said here is said of that one, in every thread of the process. A thread
//! that may outlive the call that started it takes a [`Token`] along, which stays that call's.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use crate::WorkerId;
use crate::transport::{Seq, StopRequests};

/// No worker has this number, and no call.
const NONE: u64 = u64::MAX;

/// The worker that this process is.
static WORKER: AtomicU64 = AtomicU64::new(NONE);

/// The call that it is at.
static CALL: AtomicU64 = AtomicU64::new(NONE);

/// What there is to know of that, beside.
static SURROUNDINGS: RwLock<Surroundings> = RwLock::new(Surroundings { requests: None, deadline: None });

struct Surroundings {
    requests: Option<Arc<dyn StopRequests>>,
    /// Of this call.
    deadline: Option<(Seq, Instant)>,
}

/// The worker that this process is, as its pool calls it; `None` in a process that is none.
///
/// It is the same in every thread of the process, from the initializer to the exit hook. A worker that takes another
/// one's place has an id of its own.
pub fn worker_id() -> Option<WorkerId> {
    let id = WORKER.load(Ordering::Relaxed);
    (id != NONE).then_some(WorkerId(id))
}

/// When the time of the present call is up, by this process's clock: of its
/// [soft limit](crate::CallOptions::soft_limit) or of one after which it is killed, whichever is first. `None` if it has
/// no limits, or there is no call.
///
/// It counts from the call's start here, a limit of the pool's from a little earlier. Of a
/// [`total_limit`](crate::CallOptions::total_limit) there is as much left as when the call was sent.
pub fn deadline() -> Option<Instant> {
    token()?.deadline()
}

/// Whether the present call should come to its end by itself: its [deadline] has passed, or somebody has
/// [asked](crate::TaskHandle::ask_to_stop) for that. False outside of calls.
///
/// What it returns then is its result as any other. It says nothing of the pool's end: of that a call learns by the signal
/// (`SIGTERM`), if at all.
pub fn cancelled() -> bool {
    token().is_some_and(|token| token.cancelled())
}

/// The present call, for its threads; `None` outside of calls.
pub fn token() -> Option<Token> {
    let call = CALL.load(Ordering::Acquire);
    if call == NONE {
        return None;
    }
    let surroundings = SURROUNDINGS.read().unwrap_or_else(PoisonError::into_inner);
    let deadline = surroundings.deadline.filter(|(of, _)| of.0 == call).map(|(_, at)| at);
    Some(Token { call: Seq(call), deadline, requests: surroundings.requests.clone()? })
}

/// A call, as its threads can ask after it. Cheap to clone.
#[derive(Clone)]
pub struct Token {
    call: Seq,
    deadline: Option<Instant>,
    requests: Arc<dyn StopRequests>,
}

impl Token {
    /// As the function of this name, for this call.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// As the function of this name, for this call; and true once the call is over, so that whoever works for it stops.
    ///
    /// A load of shared memory on the transports of Linux, beside a look at the clock if there is a deadline. On others it
    /// may be a system call, or a question to the pool's process.
    pub fn cancelled(&self) -> bool {
        CALL.load(Ordering::Acquire) != self.call.0
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
            || self.requests.is_asked(self.call)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// This process becomes a worker. (One that was forked by another worker was one already.)
pub(crate) fn become_worker(id: WorkerId, requests: Arc<dyn StopRequests>) {
    CALL.store(NONE, Ordering::Release);
    let mut surroundings = SURROUNDINGS.write().unwrap_or_else(PoisonError::into_inner);
    *surroundings = Surroundings { requests: Some(requests), deadline: None };
    WORKER.store(id.0, Ordering::Relaxed);
}

/// A call begins, and has so long.
pub(crate) fn begin(call: Seq, deadline: Option<Instant>) {
    if let Some(at) = deadline {
        SURROUNDINGS.write().unwrap_or_else(PoisonError::into_inner).deadline = Some((call, at));
    }
    CALL.store(call.0, Ordering::Release);
}

/// It is over.
pub(crate) fn end() {
    CALL.store(NONE, Ordering::Release);
}
