//! `executor.py`: what holds for executors of every kind.

use process_pool::TaskError;
use std::time::Duration;
use xtests::runner::Subject;

use crate::tools::{Counted, run};

/// Fails as a map does whose time is up.
fn times_out(n: u64) -> u64 {
    assert!(n != 1, "{}", TaskError::MapTimedOut(Duration::from_secs(60)));
    n
}

/// 3.16, gh-155852: a call's own timeout is that call's error, and not the map's.
pub(crate) fn map_timeout_from_callable(subject: &Subject) {
    let pool = subject.pool(2);
    for chunksize in [1, 3] {
        let map = pool.map(times_out, 0..3).timeout(Duration::from_secs(60)).chunksize(chunksize);
        match &map.collect::<Vec<_>>()[..] {
            [Ok(0), Err(TaskError::Panicked(panicked)), Ok(2)] => {
                assert!(panicked.message.contains("timeout of 60s"))
            }
            other => panic!("{other:?}"),
        }
    }
    // One that returns it has a result.
    let refuses = |n: u64| if n == 1 { Err("timed out".to_owned()) } else { Ok(n) };
    let results: Vec<_> = pool.map(refuses, 0..3).timeout(Duration::from_secs(60)).collect();
    assert!(matches!(&results[..], [Ok(Ok(0)), Ok(Err(_)), Ok(Ok(2))]), "{results:?}");
}

/// 3.14: in Rust, several inputs are one of tuples.
pub(crate) fn map_buffersize_on_multiple_infinite_iterables(subject: &Subject) {
    let pool = subject.pool(2);
    let taken = std::cell::Cell::new(0);
    let inputs = (0_u64..).zip([2_u32, 3].into_iter().cycle()).inspect(|_| taken.set(taken.get() + 1));
    let mut map = pool.map(|(base, exponent)| u64::pow(base, exponent), inputs).buffersize(2);
    let powers: Vec<_> = map.by_ref().take(5).map(|power| power.expect("a result")).collect();
    assert_eq!(powers, [0, 1, 4, 27, 16]);
    assert!((5..=6).contains(&taken.get()), "{} taken for five results, two at a time", taken.get());
}

/// Of a map's results there is the one that was yielded, and no other.
pub(crate) fn free_reference(subject: &Subject) {
    let pool = subject.pool(2);
    for (chunksize, ordered) in [(1, true), (1, false), (4, true), (4, false)] {
        let map = pool.map(Counted::new, 0..10).chunksize(chunksize);
        let map = if ordered { map } else { map.unordered() };
        let mut seen = 0;
        for result in map {
            let result = result.expect("a result");
            assert_eq!(Counted::alive(), 1, "chunks of {chunksize}, after {result:?}");
            seen += result.0;
        }
        assert_eq!((seen, Counted::alive()), (45, 0));
    }
    assert_eq!(run(&pool, |()| Counted::alive(), ()), 0, "nor in a worker");
}
