//! When it is worth it to spin before sleeping.
//!
//! To wake a process that sleeps on another core costs tens of microseconds, a call may take one. So who waits for an
//! answer looks for it for a while before it sleeps: but only while a core is free for that, and while looking has
//! paid off lately.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

/// Successes that count; so many failures in a row use up the credit by halves.
const LUCK_MAX: u32 = 16;
/// Without luck, one in so many waits is spent looking, to find out whether it has changed.
const PROBE: u32 = 64;

/// What a reactor knows about spinning.
#[derive(Debug)]
pub(crate) struct Spin {
    limit: Duration,
    /// Those that this process may use.
    cores: usize,
    /// Links with calls under way, whose workers so use a core each.
    busy: AtomicUsize,
    luck: AtomicU32,
    waits: AtomicU32,
}

impl Spin {
    pub(crate) fn new(limit: Duration) -> Self {
        let cores = pool_core::transport::cores();
        Self { limit, cores, busy: AtomicUsize::new(0), luck: AtomicU32::new(LUCK_MAX), waits: AtomicU32::new(0) }
    }

    /// A link has got its first call.
    pub(crate) fn begin(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    /// A link has none left.
    pub(crate) fn end(&self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether there is a core for a thread that looks, beside the workers that are busy.
    fn has_core(&self) -> bool {
        self.busy.load(Ordering::Relaxed) < self.cores
    }

    /// For how long a worker may look for its next call. It has just become busy, and will be idle then.
    pub(crate) fn for_worker(&self) -> Duration {
        if self.has_core() { self.limit } else { Duration::ZERO }
    }

    /// For how long to look now.
    pub(crate) fn for_driver(&self) -> Option<Duration> {
        if self.limit.is_zero() || !self.has_core() {
            return None;
        }
        let is_lucky = self.luck.load(Ordering::Relaxed) > 0;
        let is_probe = || self.waits.fetch_add(1, Ordering::Relaxed).is_multiple_of(PROBE);
        (is_lucky || is_probe()).then_some(self.limit)
    }

    /// Whether it was worth it.
    pub(crate) fn learn(&self, has_paid: bool) {
        let luck = self.luck.load(Ordering::Relaxed);
        let luck = if has_paid { (luck + 1).min(LUCK_MAX) } else { luck / 2 };
        self.luck.store(luck, Ordering::Relaxed);
    }
}
