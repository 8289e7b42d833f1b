//! Pools of threads of this process, with the same kind of handle: what a pool of processes is held against.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;

type Job = Box<dyn FnOnce() + Send>;

/// A handle: a place for the result, and who waits for it.
pub(crate) struct Slot<R>(Arc<(Mutex<Option<R>>, Condvar)>);

impl<R: Send + 'static> Slot<R> {
    fn new() -> Self {
        Self(Arc::default())
    }

    /// A job that fills this slot.
    fn job<A: Send + 'static>(&self, f: fn(A) -> R, argument: A) -> impl FnOnce() + Send + 'static {
        let slot = Arc::clone(&self.0);
        move || {
            let result = f(argument);
            *slot.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            slot.1.notify_one();
        }
    }

    pub(crate) fn result(self) -> R {
        let mut value = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match value.take() {
                Some(result) => return result,
                None => value = self.0.1.wait(value).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Threads that take jobs from one channel of crossbeam's.
pub(crate) struct Threads {
    jobs: Option<Sender<Job>>,
    workers: Vec<JoinHandle<()>>,
}

impl Threads {
    pub(crate) fn new(workers: usize) -> Self {
        let (jobs, theirs) = crossbeam_channel::unbounded::<Job>();
        let worker = |_| {
            let theirs = theirs.clone();
            std::thread::spawn(move || theirs.into_iter().for_each(|job| job()))
        };
        Self { jobs: Some(jobs), workers: (0..workers).map(worker).collect() }
    }

    pub(crate) fn submit<A: Send + 'static, R: Send + 'static>(&self, f: fn(A) -> R, argument: A) -> Slot<R> {
        let slot = Slot::new();
        let jobs = self.jobs.as_ref().expect("invariant: taken in drop only");
        jobs.send(Box::new(slot.job(f, argument))).expect("invariant: the workers outlive the sender");
        slot
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        drop(self.jobs.take());
        for worker in self.workers.drain(..) {
            // A job that panicked has been reported already.
            let _ = worker.join();
        }
    }
}

/// Rayon's pool.
pub(crate) struct Rayon(pub(crate) rayon::ThreadPool);

impl Rayon {
    pub(crate) fn new(workers: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        rayon::ThreadPoolBuilder::new().num_threads(workers).build().map(Self)
    }

    pub(crate) fn submit<A: Send + 'static, R: Send + 'static>(&self, f: fn(A) -> R, argument: A) -> Slot<R> {
        let slot = Slot::new();
        self.0.spawn_fifo(slot.job(f, argument));
        slot
    }
}
