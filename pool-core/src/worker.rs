//! placeholder
use std::sync::atomic::{AtomicBool, Ordering};

static INIT_CALLED: AtomicBool = AtomicBool::new(false);

/// Whether [`WorkerMain::run`] was called in this process, so that the same program started again would
/// become a worker.
pub fn init_called() -> bool {
    INIT_CALLED.load(Ordering::Acquire)
}

/// Notes that it was.
pub fn note_init() {
    INIT_CALLED.store(true, Ordering::Release);
}
