//! `test_init.py`: initializers.

use std::fmt;

use process_pool::error::BreakReason;
use process_pool::{Shutdown, TaskError};
use xtests::calls::{same, submit};
use xtests::runner::Subject;

/// An error that fails to say what it is.
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("at a loss for words")
    }
}

fn fails(quietly: bool) -> Result<(), Unspeakable> {
    if quietly { Ok(()) } else { Err(Unspeakable) }
}

/// D12: an error on the way of an error.
pub(crate) fn an_error_that_cannot_be_told_breaks_the_pool_all_the_same(subject: &Subject) {
    let pool = subject.builder().max_workers(2).initializer(fails, false).build().expect("a pool");
    let handles: Vec<_> = (0..4).filter_map(|n| pool.submit(same, n).ok()).collect();
    for handle in handles {
        match handle.result() {
            Err(TaskError::Broken(broken)) => {
                assert!(matches!(&*broken.reason, BreakReason::Initializer(_)), "{broken}");
                assert!(broken.to_string().contains("at a loss for words"), "{broken}");
            }
            other => panic!("{other:?}"),
        }
    }
    let pool = subject.builder().max_workers(1).initializer(fails, true).build().expect("a pool");
    assert_eq!(submit(&pool, same, 1).result().expect("a result"), 1);
}

/// gh-104090: that nothing is left is what the runner looks at after the case; here, that much would add up.
pub(crate) fn failing_initializer_resources(subject: &Subject) {
    let refuse = |()| -> Result<(), String> { Err("no".to_owned()) };
    for n in 0..30 {
        let pool = subject.builder().max_workers(2).initializer(refuse, ()).build().expect("a pool");
        let handle = pool.submit(same, n);
        pool.shutdown(Shutdown::default());
        assert_eq!((pool.workers(), pool.pending()), (0, 0));
        assert!(handle.is_ok_and(|handle| matches!(handle.result(), Err(TaskError::Broken(_)))));
    }
}
