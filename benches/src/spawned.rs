//! `procspawn::Pool`.

use std::time::Instant;

use procspawn::{JoinHandle, Pool};

use crate::{Figures, WORKERS};

const ROUND_TRIPS: u64 = 3_000;
const CALLS: u64 = 10_000;
/// Each of its pending calls holds three descriptors.
const OUTSTANDING: usize = 250;

fn noop(n: u64) -> u64 {
    n
}

pub(crate) fn run() -> Result<Figures, String> {
    measure().map_err(|error| error.to_string())
}

fn measure() -> Result<Figures, Box<dyn std::error::Error>> {
    let pool = Pool::new(WORKERS)?;
    for _ in 0..100 {
        procspawn::spawn!(in pool, (1u64 => n) || noop(n)).join()?;
    }
    let start = Instant::now();
    for n in 0..ROUND_TRIPS {
        assert_eq!(procspawn::spawn!(in pool, (n) || noop(n)).join()?, n);
    }
    let round_trip_us = start.elapsed().as_secs_f64() * 1e6 / ROUND_TRIPS as f64;

    let start = Instant::now();
    let mut pending: std::collections::VecDeque<JoinHandle<u64>> = std::collections::VecDeque::new();
    for n in 0..CALLS {
        if pending.len() == OUTSTANDING
            && let Some(handle) = pending.pop_front()
        {
            handle.join()?;
        }
        pending.push_back(procspawn::spawn!(in pool, (n) || noop(n)));
    }
    pending.into_iter().try_for_each(|handle| handle.join().map(drop))?;
    let calls_per_s = CALLS as f64 / start.elapsed().as_secs_f64();
    pool.shutdown();
    Ok(Figures { round_trip_us, calls_per_s })
}
