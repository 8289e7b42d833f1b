//! `test_wait.py`.

use process_pool::{ReturnWhen, wait};
use xtests::calls::submit;
use xtests::gate::{Gate, PATIENCE, wait_at};
use xtests::runner::Subject;

/// issue14406: a hundred calls that end while several threads begin to wait for them.
pub(crate) fn pending_calls_race(subject: &Subject) {
    let pool = subject.pool(2);
    for _ in 0..10 {
        let gate = Gate::new();
        let handles: Vec<_> = (0..100).map(|_| submit(&pool, wait_at, gate.port())).collect();
        let visitors = gate.arrivals(2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let waited = wait(&handles, ReturnWhen::AllCompleted, Some(PATIENCE));
                    assert_eq!((waited.done.len(), waited.not_done.len()), (100, 0));
                });
            }
            // Everybody may pass from now on.
            drop((gate, visitors));
        });
        assert!(handles.into_iter().all(|handle| handle.result().is_ok()));
    }
}
