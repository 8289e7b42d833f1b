//! What the cases work with: a spawner to judge, and its workers.

use std::fmt;
use std::io::PipeReader;
use std::sync::Arc;
use std::time::Duration;

use pool_core::spawner::{Entry, SpawnError, Spawner};
use pool_core::transport::Handle;
use pool_core::worker::WorkerEntry;

use super::jobs;
use super::tools::{self, Started};
use crate::judge::{Judged, Terms};

/// A spawner that is to be judged.
pub struct Candidate {
    terms: Terms,
    make: Box<dyn Fn() -> Arc<dyn Spawner> + Send + Sync>,
    pub(super) entry: Option<Box<dyn Entry>>,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("name", &self.terms.name).finish_non_exhaustive()
    }
}

impl Candidate {
    /// Judges the spawners that this makes; `name` is what the cases are called after.
    pub fn new<S: Spawner + 'static>(name: &str, make: impl Fn() -> S + Send + Sync + 'static) -> Self {
        Self {
            terms: Terms::new(name, Duration::from_secs(20), Duration::from_secs(60)),
            make: Box::new(move || Arc::new(make())),
            entry: None,
        }
    }

    /// The same, whose workers begin with `main` and find out by this that they are workers.
    #[must_use]
    pub fn entry(self, entry: impl Entry + 'static) -> Self {
        Self { entry: Some(Box::new(entry)), ..self }
    }

    /// The same, judged quickly. For spawners that are known to break a law.
    #[must_use]
    pub fn in_brief(self) -> Self {
        Self { terms: self.terms.in_brief(), ..self }
    }

    /// What its cases are called after.
    pub(crate) fn name(&self) -> &str {
        &self.terms.name
    }
}

impl Judged for Candidate {
    fn terms(&self) -> &Terms {
        &self.terms
    }
}

/// What a case gets.
pub(super) type Bench<'a> = crate::judge::Bench<'a, Candidate>;

impl Bench<'_> {
    /// The spawner, ready. To be called first thing in a case: some take only a process without threads.
    pub(super) fn spawner(&self) -> Arc<dyn Spawner> {
        // Nobody arrives here: this only notes that `init()` was called.
        pool_core::WorkerMain::new().run();
        let spawner = (self.candidate.make)();
        spawner.prepare(WorkerEntry::of(jobs::work)).expect("it can start workers");
        spawner
    }

    /// Starts a worker that does `job`.
    pub(super) fn start(
        &self,
        spawner: &dyn Spawner,
        job: &str,
        bytes: &[u8],
        handles: Vec<Handle>,
    ) -> Result<Started, SpawnError> {
        tools::start(spawner, self.patience(), job, bytes, handles)
    }

    /// Starts a worker with one end of a pipe as its first handle.
    #[track_caller]
    pub(super) fn start_with_pipe(&self, spawner: &dyn Spawner, job: &str, bytes: &[u8]) -> (Started, PipeReader) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        (self.start(spawner, job, bytes, vec![writer.into()]).expect("started"), reader)
    }

    /// Starts a worker that has said it is up.
    #[track_caller]
    pub(super) fn start_up(&self, spawner: &dyn Spawner, job: &str) -> (Started, PipeReader) {
        let (started, mut reader) = self.start_with_pipe(spawner, job, b"");
        assert_eq!(tools::read_some(&mut reader, 2), "up");
        (started, reader)
    }
}
