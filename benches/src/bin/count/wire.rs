//! A call and its reply, encoded and decoded on both sides.

use std::hint::black_box;

use pool_core::Codec;
use pool_core::counted::there_and_back;
use pool_core::transport::Seq;
use serde::Serialize;
use serde::de::DeserializeOwned;

const WARM: usize = 20;

type Record = (String, Vec<u32>, Option<f64>, bool);

/// What pools are measured with.
pub(crate) fn numbers(times: usize) {
    echoes(times, |n: u64| n, &123_456_789);
}

/// What functions of programs take.
pub(crate) fn records(times: usize) {
    let record: Record = ("a path, say, or a name".to_owned(), (0..32).map(|n| n * n).collect(), Some(0.5), true);
    echoes(times, |record: Record| record, &record);
}

fn echoes<T, F>(times: usize, echo: F, value: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + 'static,
    F: Fn(T) -> T + Copy + Send + Sync + 'static,
{
    let mut room = Default::default();
    for n in 0..WARM + times {
        let result = there_and_back(Codec::Postcard, Seq(n as u64), echo, black_box(value), &mut room);
        assert!(result.as_ref() == Some(value), "it is an echo");
    }
}
