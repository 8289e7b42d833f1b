//! This library.

use std::time::Instant;

use process_pool::{Executor, TaskHandle};

use crate::{Figures, WORKERS};

const ROUND_TRIPS: u64 = 5_000;
const CALLS: u64 = 100_000;

fn noop(n: u64) -> u64 {
    n
}

pub(crate) fn run() -> Result<Figures, String> {
    measure().map_err(|error| error.to_string())
}

fn measure() -> Result<Figures, Box<dyn std::error::Error>> {
    let pool = Executor::builder().max_workers(WORKERS).build()?;
    // Both workers are up before the clock runs.
    let warm: Vec<TaskHandle<u64>> = (0..1000).map(|n| pool.submit(noop, n)).collect::<Result<_, _>>()?;
    warm.into_iter().try_for_each(|handle| handle.result().map(drop))?;

    let start = Instant::now();
    for n in 0..ROUND_TRIPS {
        assert_eq!(pool.submit(noop, n)?.result()?, n);
    }
    let round_trip_us = start.elapsed().as_secs_f64() * 1e6 / ROUND_TRIPS as f64;

    let start = Instant::now();
    let handles: Vec<_> = (0..CALLS).map(|n| pool.submit(noop, n)).collect::<Result<_, _>>()?;
    for (n, handle) in handles.into_iter().enumerate() {
        assert_eq!(handle.result()?, n as u64);
    }
    let calls_per_s = CALLS as f64 / start.elapsed().as_secs_f64();
    Ok(Figures { round_trip_us, calls_per_s })
}
