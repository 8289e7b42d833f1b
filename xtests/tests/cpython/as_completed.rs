//! `test_as_completed.py`.

use std::time::{Duration, Instant};

use process_pool::as_completed;
use xtests::calls::submit;
use xtests::gate::{Gate, wait_at};
use xtests::runner::Subject;

use crate::tools::Counted;

/// What was yielded is the caller's alone.
pub(crate) fn free_reference_yielded_future(subject: &Subject) {
    let pool = subject.pool(2);
    let handles: Vec<_> = (0..5).map(|n| submit(&pool, Counted::new, n)).collect();
    let mut completed = as_completed(handles, None);
    for left in (0..5).rev() {
        let handle = completed.next().expect("another").expect("no timeout was set");
        // This decodes the result, and leaves it in the handle.
        assert!(handle.error().is_none());
        assert_eq!(Counted::alive(), 1);
        drop(handle);
        assert_eq!(Counted::alive(), 0);
        assert_eq!(completed.size_hint().1, Some(left));
    }
    assert!(completed.next().is_none());
}

/// S70: time that passes before the first look at it counts.
pub(crate) fn the_timeout_counts_from_the_call(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let (one, other) = (submit(&pool, wait_at, gate.port()), submit(&pool, wait_at, gate.port()));
    let timeout = Duration::from_secs(1);
    let start = Instant::now();
    let mut completed = as_completed([one], Some(timeout));
    assert!(!other.wait_timeout(timeout));
    assert!(completed.next().expect("an error").is_err());
    assert!(start.elapsed() < 2 * timeout, "{:?}", start.elapsed());
    drop(gate);
}
