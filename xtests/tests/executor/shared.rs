//! Values that calls share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use process_pool::{Bytes, Codec, Shared, SubmitError, TaskError, TaskHandle};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xtests::calls::{exit, lost, pid, run, same, submit};
use xtests::processes::eventually;
use xtests::runner::Subject;

use crate::tools::{Act, Whim, all_there, file, leave_trace, traces};

/// Counts how often it is encoded and decoded, and leaves a trace where it is dropped.
struct Model {
    path: String,
    weights: Vec<u64>,
}

static ENCODED: AtomicU64 = AtomicU64::new(0);
static DECODED: AtomicU64 = AtomicU64::new(0);

impl Serialize for Model {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ENCODED.fetch_add(1, Ordering::Relaxed);
        (&self.path, &self.weights).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DECODED.fetch_add(1, Ordering::Relaxed);
        Deserialize::deserialize(deserializer).map(|(path, weights)| Self { path, weights })
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        leave_trace((self.path.clone(), std::process::id().into()));
    }
}

fn model(subject: &Subject) -> Shared<Model> {
    Shared::new(Model { path: file(&subject.dir), weights: (0..10_000).collect() })
}

/// The worker, how often it has decoded the model, and what it is to find there.
fn look((model, at): (Shared<Model>, usize)) -> (u32, u64, u64) {
    (std::process::id(), DECODED.load(Ordering::Relaxed), model.weights[at])
}

pub(crate) fn a_shared_value_travels_once_to_each_worker(subject: &Subject) {
    let (pool, model) = (subject.pool(2), model(subject));
    let before = ENCODED.load(Ordering::Relaxed);
    let workers = all_there(&pool);
    let calls: Vec<_> = (0..200).map(|at| submit(&pool, look, (model.clone(), at))).collect();
    for (at, call) in (0..).zip(calls) {
        let (worker, decoded, weight) = call.result().expect("a result");
        assert!(workers.contains(&worker));
        assert_eq!((decoded, weight), (1, at));
    }
    assert_eq!(ENCODED.load(Ordering::Relaxed) - before, 1);
    // Twice in one argument is one value.
    let both = |(one, other): (Shared<Model>, Shared<Model>)| std::ptr::eq(&*one, &*other);
    assert!(run(&pool, both, (model.clone(), model)));
}

pub(crate) fn workers_let_go_of_what_nobody_shares_any_more(subject: &Subject) {
    let (pool, model) = (subject.pool(2), model(subject));
    let path = model.path.clone();
    let workers = all_there(&pool);
    let calls: Vec<_> = (0..100).map(|at| submit(&pool, look, (model.clone(), at))).collect();
    let mut have: Vec<u32> = calls.into_iter().map(|call| call.result().expect("a result").0).collect();
    assert_eq!(traces(&path), [], "it is shared");
    drop(model);
    have.sort_unstable();
    have.dedup();
    assert!(have.iter().all(|worker| workers.contains(worker)));
    have.push(std::process::id());
    eventually("all have let go of it", || {
        let mut gone = traces(&path);
        gone.sort_unstable();
        let mut expected: Vec<u64> = have.iter().map(|pid| u64::from(*pid)).collect();
        expected.sort_unstable();
        gone == expected
    });
    assert_eq!(all_there(&pool).len(), 2);
}

pub(crate) fn a_worker_that_takes_anothers_place_gets_it_too(subject: &Subject) {
    let (pool, model) = (subject.pool(1), model(subject));
    for _ in 0..3 {
        assert_eq!(run(&pool, look, (model.clone(), 77)).1, 1);
        lost(submit(&pool, |(_, code): (Shared<Model>, i32)| exit(code), (model.clone(), 3)).result());
    }
    assert_eq!(run(&pool, look, (model, 78)).2, 78);
}

/// A call that waits holds what it refers to.
pub(crate) fn what_a_waiting_call_refers_to_is_there_when_it_starts(subject: &Subject) {
    let pool = subject.pool(1);
    let calls: Vec<_> = (0..50).map(|at| submit(&pool, look, (model(subject), at))).collect();
    for (at, call) in (0..).zip(calls) {
        // Each is another one.
        assert_eq!(call.result().expect("a result").1, at + 1);
    }
}

pub(crate) fn elsewhere_a_shared_value_travels_as_what_it_holds(subject: &Subject) {
    let pool = subject.pool(1);
    let give = |n: u64| Shared::new(vec![n; 3]);
    assert_eq!(*run(&pool, give, 7), [7; 3]);
    // As a result it is what came as an argument; and inside of another one.
    let back = |(value, _): (Shared<Vec<u64>>, ())| value;
    assert_eq!(*run(&pool, back, (Shared::new(vec![1, 2]), ())), [1, 2]);
    let inner = |value: Shared<Vec<Shared<String>>>| value.iter().map(|text| text.len()).sum::<usize>();
    assert_eq!(run(&pool, inner, Shared::new(vec![Shared::new("ab".to_owned()), Shared::new("c".to_owned())])), 3);
    let take = |value: Shared<u64>| assert_eq!(*value, 9);
    let pool = subject.builder().initializer(take, Shared::new(9)).build().expect("a pool");
    assert_eq!(run(&pool, same, 1), 1);
}

pub(crate) fn a_shared_blob_and_a_shared_value_of_several_pools(subject: &Subject) {
    let blob = Shared::new((Bytes::from(vec![7; 3 << 20]), "name".to_owned()));
    let sum = |(blob, n): (Shared<(Bytes, String)>, u8)| (blob.0.iter().all(|byte| *byte == 7), blob.1.len(), n);
    for codec in Codec::available() {
        let pool = subject.builder().max_workers(2).codec(*codec).build().expect("a pool");
        let calls: Vec<_> = (0..20).map(|n| submit(&pool, sum, (blob.clone(), n))).collect();
        for (n, call) in (0..).zip(calls) {
            assert_eq!(call.result().expect("a result"), (true, 4, n), "{codec}");
        }
    }
}

pub(crate) fn a_shared_value_that_cannot_travel_fails_its_calls_only(subject: &Subject) {
    let pool = subject.builder_of_frames(1 << 16).max_workers(1).build().expect("a pool");
    let take = |_: Shared<Whim>| ();
    let whim = |encoding, decoding| Shared::new(Whim { encoding, decoding });
    match pool.submit(take, whim(Act::Refuse, Act::Behave)) {
        Err(SubmitError::Codec(error)) => assert!(error.to_string().contains("shared"), "{error}"),
        other => panic!("{other:?}"),
    }
    let bad = whim(Act::Behave, Act::Refuse);
    for _ in 0..2 {
        match submit(&pool, take, bad.clone()).result() {
            Err(TaskError::Codec(error)) => assert!(error.to_string().contains("shared"), "{error}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(submit(&pool, take, whim(Act::Behave, Act::Panic)).result(), Err(TaskError::Panicked(_))));
    lost(submit(&pool, take, whim(Act::Behave, Act::Exit)).result());
    match pool.submit(|_: Shared<Bytes>| (), Shared::new(Bytes::from(vec![0; 1 << 16]))) {
        Err(SubmitError::TooLarge { size, max, .. }) => assert!(size > max),
        other => panic!("{other:?}"),
    }
    let calls: Vec<TaskHandle<u32>> = (0..3).map(|_| submit(&pool, pid, ())).collect();
    assert!(calls.into_iter().all(|call| call.result().is_ok()));
}

pub(crate) fn a_map_takes_a_shared_value_to_each_worker_once(subject: &Subject) {
    let (pool, model) = (subject.pool(2), model(subject));
    let before = ENCODED.load(Ordering::Relaxed);
    for (at, found) in (0..).zip(pool.map(look, (0..10_000).map(|at| (model.clone(), at)))) {
        let (_, decoded, weight) = found.expect("a result");
        assert_eq!((decoded, weight), (1, at));
    }
    assert_eq!(ENCODED.load(Ordering::Relaxed) - before, 1);
}

/// What comes back of a blob; of some nothing does.
fn turned((n, blob): (usize, Bytes)) -> (usize, Bytes, Bytes) {
    assert!(n % 11 != 3, "on purpose");
    (n, blob.iter().rev().copied().collect(), blob.slice(blob.len() / 2..))
}

fn blob(n: usize) -> Bytes {
    let len = [0, 10, 15_000, 16_384, 100_000, 700_000][n % 6];
    (0..len).map(|at| (at * 31 + n) as u8).collect()
}

pub(crate) fn a_map_carries_blobs_of_every_size_past_failures_and_panics(subject: &Subject) {
    let pool = subject.pool(2);
    for chunksize in [None, Some(1), Some(7)] {
        let inputs = (0..60).map(|n| {
            // Caught by the loop below; the inputs before it stay.
            assert!(n % 25 != 24, "no input");
            (n, blob(n))
        });
        let mut map = pool.map(turned, inputs);
        if let Some(chunksize) = chunksize {
            map = map.chunksize(chunksize);
        }
        let mut expected = (0..60).filter(|n| n % 25 != 24);
        let mut panics = 0;
        loop {
            match catch_unwind(AssertUnwindSafe(|| map.next())) {
                Err(_) => panics += 1,
                Ok(None) => break,
                Ok(Some(result)) => {
                    let n = expected.next().expect("no more results than inputs");
                    match result {
                        Ok((number, back, half)) => {
                            let blob = blob(n);
                            assert!(n % 11 != 3 && number == n, "{n} {number}");
                            assert!(back.iter().eq(blob.iter().rev()) && *half == blob[blob.len() / 2..], "{n}");
                        }
                        Err(TaskError::Panicked(_)) => assert_eq!(n % 11, 3),
                        Err(error) => panic!("{n}: {error}"),
                    }
                }
            }
        }
        assert_eq!((expected.next(), panics), (None, 2), "{chunksize:?}");
    }
}
