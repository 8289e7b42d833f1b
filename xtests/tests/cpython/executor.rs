//! `executor.py`: what holds for executors of every kind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use process_pool::TaskError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xtests::calls::run;
use xtests::runner::Subject;

use crate::tools::Counted;

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

/// The second of them panics: when it is encoded, or when it is decoded.
#[derive(Clone, Copy, Debug)]
enum Touchy {
    Encoding(u64),
    Decoding(u64),
}

impl Touchy {
    fn number(self) -> u64 {
        match self {
            Self::Encoding(n) | Self::Decoding(n) => n,
        }
    }

    fn touch(n: u64) -> u64 {
        assert!(n != 1, "touched (this text is expected)");
        n
    }
}

impl Serialize for Touchy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Encoding(n) => Self::touch(*n).serialize(serializer),
            Self::Decoding(n) => n.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Touchy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(|n| Self::Decoding(Self::touch(n)))
    }
}

/// What a map yields, and how many panics come out of it.
fn seen_and_panics<T>(mut map: impl Iterator<Item = Result<T, TaskError>>) -> (Vec<T>, usize) {
    let (mut seen, mut panics) = (Vec::new(), 0);
    loop {
        match catch_unwind(AssertUnwindSafe(|| map.next())) {
            Ok(Some(result)) => seen.push(result.expect("a result")),
            Ok(None) => return (seen, panics),
            Err(_) => panics += 1,
        }
    }
}

/// D43: a panic in the caller's own thread is no end of the map, costs the one item, and takes nothing from the bound.
pub(crate) fn map_goes_on_after_a_panic_of_its_caller(subject: &Subject) {
    let pool = subject.pool(2);
    let others = (vec![0, 2, 3, 4, 5, 6, 7], 1);
    for (buffersize, chunksize) in [(1, 1), (3, 3), (10, 1), (10, 4)] {
        let sizes = format!("{buffersize} in chunks of {chunksize}");
        let map = pool.map(Touchy::Decoding, 0..8).buffersize(buffersize).chunksize(chunksize);
        let map = map.map(|result| result.map(Touchy::number));
        assert_eq!(seen_and_panics(map), others, "decoded, {sizes}");
        let map =
            pool.map(Touchy::number, (0..8).map(Touchy::Encoding)).buffersize(buffersize).chunksize(chunksize);
        assert_eq!(seen_and_panics(map), others, "encoded, {sizes}");
        let map = pool.map(|n: u64| n, (0..8).map(Touchy::touch)).buffersize(buffersize).chunksize(chunksize);
        assert_eq!(seen_and_panics(map), others, "taken, {sizes}");
    }
}
