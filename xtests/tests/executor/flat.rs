//! What a program holds: as much after many calls, pools and crashes as after one of each, on every system.

use process_pool::Executor;
use xtests::calls::{exit, lost, run, same, submit};
use xtests::processes::{Held, eventually};
use xtests::runner::Subject;

use crate::tools::all_there;

pub(crate) fn calls_pools_and_crashes_leave_nothing(subject: &Subject) {
    let pool = subject.pool(2);
    let works = |pool: &Executor, range: std::ops::Range<u64>| {
        let results = pool.map(same, range.clone()).collect::<Result<Vec<_>, _>>().expect("results");
        assert_eq!(results, range.collect::<Vec<_>>());
    };
    let one_more = || assert_eq!(run(&subject.pool(1), same, 7), 7);
    // What is made once, and stays.
    works(&pool, 0..100);
    one_more();
    lost(submit(&pool, exit, 1).result());
    all_there(&pool);
    let before = settled();
    assert!(before.descriptors > 3, "the system tells: {before:?}");
    let flat = |what: &str| {
        eventually(&format!("there is as much as before {what}: {before:?}, not {:?}", Held::here()), || {
            let now = Held::here();
            now.descriptors <= before.descriptors && now.threads <= before.threads
        });
    };
    works(&pool, 0..10_000);
    flat("10,000 calls");
    (0..200).for_each(|_| one_more());
    flat("200 pools");
    (0..200).for_each(|n| drop(lost(submit(&pool, exit, n % 100).result())));
    all_there(&pool);
    flat("200 crashes");
}

/// What is held when no more is given back: threads end a little after whoever waited for their last word.
fn settled() -> Held {
    let mut least = Held::here();
    let mut quiet = 0;
    eventually("it stays as it is", || {
        let now = Held::here();
        quiet = if now == least { quiet + 1 } else { 0 };
        least = now;
        quiet == 200
    });
    least
}
