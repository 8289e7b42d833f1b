//! A thread that waits in the operating system, and can be called back from there.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::sys;

/// Lets one thread block in reads or writes until [`stop`](Self::stop).
#[derive(Debug, Default)]
pub(crate) struct Blocking {
    thread: OnceLock<JoinHandle<()>>,
    is_stopped: AtomicBool,
    /// The thread is in, or just before, or just after, a call that may wait.
    waits: AtomicBool,
}

impl Blocking {
    /// Names the thread. Until then, `stop` cannot call it back.
    pub(crate) fn is_done_by(&self, thread: JoinHandle<()>) {
        self.thread.set(thread).expect("invariant: only `open` calls this, once");
    }

    /// Makes a call that may wait, in the one thread; `None` once stopped. Its own failure may also mean that.
    pub(crate) fn call<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        // In this order: either `stop` sees `waits`, or we see `is_stopped`.
        self.waits.store(true, Ordering::SeqCst);
        let result = if self.is_stopped() { None } else { Some(call()) };
        self.waits.store(false, Ordering::SeqCst);
        if self.is_stopped() { None } else { result }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    /// Calls the thread back, and keeps it from waiting again.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        let Some(thread) = self.thread.get() else { return };
        // `cancel` fails while the thread is on its way into or out of the call: a few instructions.
        while self.waits.load(Ordering::SeqCst) && !sys::cancel(thread) {
            thread::yield_now();
        }
    }
}
