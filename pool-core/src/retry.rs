//! Which calls are made again when they fail: [`Retry`].

use std::any::type_name;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::call::{ReplyBytes, discard};
use crate::codec::Codec;
use crate::error::TaskError;
use crate::machine::Attempts;

/// Which calls are made again when they fail, how often and when: for
/// [`CallOptions::retry`](crate::CallOptions::retry).
///
/// A call with a retry policy runs *at least* once, not at most once: what it did before it failed it does again. Only
/// ask for it where that does no harm.
///
/// A call is made again with the same argument, by any worker, and settled once it has a result that will do, or has
/// failed for good, with its last error then. Its [`time_limit`](crate::CallOptions::time_limit) holds for each attempt,
/// its [`total_limit`](crate::CallOptions::total_limit) for all of them with the rests between. It can be cancelled
/// while it rests, and killed at any time. A pool that is shut down finishes it, rests included, unless it cancels what
/// has not started.
#[derive(Clone)]
pub struct Retry {
    attempts: Attempts,
    errors: Option<fn(&TaskError) -> bool>,
    results: Option<Arc<Results>>,
}

/// Which results will not do.
struct Results {
    type_name: &'static str,
    refuses: Box<Refuses>,
}

type Refuses = dyn Fn(&ReplyBytes, Codec) -> bool + Send + Sync;

impl Retry {
    /// A call whose worker is lost is made again, at most so often, after rests of 10 ms, 20 ms and so on up to a second;
    /// and not once it has taken three workers with it.
    pub fn new(times: u32) -> Self {
        let attempts = Attempts {
            again: times,
            losses_max: 3,
            over_time: false,
            pause_min: Duration::from_millis(10),
            pause_max: Duration::from_secs(1),
        };
        Self { attempts, errors: None, results: None }
    }

    /// The rest before the first further attempt, and the longest: each is twice the one before. Zero is none.
    pub fn rests(mut self, first: Duration, longest: Duration) -> Self {
        (self.attempts.pause_min, self.attempts.pause_max) = (first, longest);
        self
    }

    /// A call that took so many workers with it is not made again, however many attempts are left: it is likely what ends
    /// them. Its [`WorkerLost`](crate::error::WorkerLost) tells how many those were. 0 is taken as 1: no lost call is made again.
    pub fn losses_max(mut self, workers: u32) -> Self {
        self.attempts.losses_max = workers;
        self
    }

    /// Also makes calls again that have run for longer than their [`time_limit`](crate::CallOptions::time_limit).
    pub fn on_time_limit(mut self) -> Self {
        self.attempts.over_time = true;
        self
    }

    /// Also makes calls again that failed in their worker, by a panic say, if `is_one` says so of the error. It is asked
    /// in a thread of the pool's, or one that waits for a call, and should not take long; if it panics that is a no.
    pub fn on_error(mut self, is_one: fn(&TaskError) -> bool) -> Self {
        self.errors = Some(is_one);
        self
    }

    /// Also makes calls again that have returned an `R`, if `is_one` says so of that value: an `Err` that will pass, say.
    /// Asked where [`on_error`](Self::on_error) is, for which the result is decoded once more. Calls whose results are of
    /// another type than `R` it does not concern.
    pub fn on_result<R: DeserializeOwned + 'static>(mut self, is_one: fn(&R) -> bool) -> Self {
        // What cannot be decoded is for its handle to tell.
        let refuses = move |reply: &ReplyBytes, codec: Codec| {
            reply.decode_copy::<R>(codec).is_ok_and(|result| is_one(&result))
        };
        self.results = Some(Arc::new(Results { type_name: type_name::<R>(), refuses: Box::new(refuses) }));
        self
    }

    pub(crate) fn attempts(&self) -> Attempts {
        self.attempts
    }

    /// The same, for a call whose result is an `R`.
    pub(crate) fn of<R>(&self) -> Self {
        let results = self.results.clone().filter(|results| results.type_name == type_name::<R>());
        Self { results, ..self.clone() }
    }

    /// Whether it depends on what a worker answers.
    pub(crate) fn looks_at_answers(&self) -> bool {
        self.errors.is_some() || self.results.is_some()
    }

    pub(crate) fn refuses_error(&self, error: &TaskError) -> bool {
        self.errors.is_some_and(|is_one| contained(|| is_one(error)))
    }

    pub(crate) fn refuses_result(&self, reply: &ReplyBytes, codec: Codec) -> bool {
        self.results.as_ref().is_some_and(|results| contained(|| (results.refuses)(reply, codec)))
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("attempts", &self.attempts).finish_non_exhaustive()
    }
}

/// Asks the user's code.
fn contained(ask: impl FnOnce() -> bool) -> bool {
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|payload| {
        discard(payload);
        false
    })
}
