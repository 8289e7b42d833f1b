//! What the pools are given to do, and the pools: each workload is written once, for all of them.

use std::time::{Duration, Instant};

use process_pool::{Bytes, Executor, TaskHandle};
use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(target_os = "linux")]
use crate::gate::{busy, hold};
use crate::threads::{Rayon, Slot, Threads};
use crate::{Result, ours};

pub(crate) fn noop(n: u64) -> u64 {
    n
}

pub(crate) fn echo(bytes: Bytes) -> Bytes {
    bytes
}

/// A chunk made by hand, for pools that make none.
pub(crate) fn chunk(items: Vec<u64>) -> Vec<u64> {
    items.into_iter().map(noop).collect()
}

/// How many primes there are from `start` to before `end`, by trial division.
pub(crate) fn primes((start, end): (u64, u64)) -> u64 {
    let is_prime = |n: &u64| {
        *n > 1 && (2..).take_while(|factor| factor * factor <= *n).all(|factor| !n.is_multiple_of(factor))
    };
    (start..end).filter(is_prime).count() as u64
}

/// Takes so many µs: short ones of computing, long ones (1 ms and more) of waiting for something else, so that
/// they take as long on a loaded machine.
pub(crate) fn work(us: u64) -> u64 {
    let time = Duration::from_micros(us);
    let start = Instant::now();
    if us >= 1000 {
        std::thread::sleep(time);
    }
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
    us
}

/// What a handle can bring.
pub(crate) trait Carried: Serialize + DeserializeOwned + Send + 'static {}
impl<T: Serialize + DeserializeOwned + Send + 'static> Carried for T {}

macro_rules! pools {
    ($($(#[$on:meta])* $call:ident($argument:ty) -> $result:ty;)*) => {
        /// A pool with handles.
        pub(crate) trait Pool: Sized {
            type Handle<R: Carried>;
            /// How many calls may be pending; procspawn holds three descriptors for each.
            const PENDING_MAX: usize = usize::MAX;

            fn new(workers: usize, subject: &str) -> Result<Self>;
            fn result<R: Carried>(handle: Self::Handle<R>) -> Result<R>;
            $($(#[$on])* fn $call(&self, argument: $argument) -> Result<Self::Handle<$result>>;)*
        }

        impl Pool for Executor {
            type Handle<R: Carried> = TaskHandle<R>;

            fn new(workers: usize, subject: &str) -> Result<Self> {
                Ok(Executor::builder().max_workers(workers).context(ours::context(subject)?).build()?)
            }

            fn result<R: Carried>(handle: TaskHandle<R>) -> Result<R> {
                Ok(handle.result()?)
            }

            $($(#[$on])* fn $call(&self, argument: $argument) -> Result<TaskHandle<$result>> {
                Ok(self.submit($call, argument)?)
            })*
        }

        #[cfg(unix)]
        impl Pool for procspawn::Pool {
            type Handle<R: Carried> = procspawn::JoinHandle<R>;
            const PENDING_MAX: usize = 250;

            fn new(workers: usize, _: &str) -> Result<Self> {
                Ok(procspawn::Pool::new(workers)?)
            }

            fn result<R: Carried>(handle: procspawn::JoinHandle<R>) -> Result<R> {
                Ok(handle.join()?)
            }

            $($(#[$on])* fn $call(&self, argument: $argument) -> Result<procspawn::JoinHandle<$result>> {
                Ok(self.spawn(argument, $call))
            })*
        }

        impl Pool for Threads {
            type Handle<R: Carried> = Slot<R>;

            fn new(workers: usize, _: &str) -> Result<Self> {
                Ok(Threads::new(workers))
            }

            fn result<R: Carried>(handle: Slot<R>) -> Result<R> {
                Ok(handle.result())
            }

            $($(#[$on])* fn $call(&self, argument: $argument) -> Result<Slot<$result>> {
                Ok(self.submit($call, argument))
            })*
        }

        impl Pool for Rayon {
            type Handle<R: Carried> = Slot<R>;

            fn new(workers: usize, _: &str) -> Result<Self> {
                Ok(Rayon::new(workers)?)
            }

            fn result<R: Carried>(handle: Slot<R>) -> Result<R> {
                Ok(handle.result())
            }

            $($(#[$on])* fn $call(&self, argument: $argument) -> Result<Slot<$result>> {
                Ok(self.submit($call, argument))
            })*
        }
    };
}

pools! {
    noop(u64) -> u64;
    echo(Bytes) -> Bytes;
    chunk(Vec<u64>) -> Vec<u64>;
    primes((u64, u64)) -> u64;
    work(u64) -> u64;
    #[cfg(target_os = "linux")]
    hold(String) -> u64;
    #[cfg(target_os = "linux")]
    busy(String) -> u64;
}

/// Runs `$measure::<P>(…)` for the pool `P` that the subject is; `None` if it is none.
macro_rules! with_pool {
    ($subject:expr, $measure:ident($($argument:expr),*)) => {
        match $subject {
            "threads/crossbeam" => Some($measure::<$crate::threads::Threads>($($argument),*)),
            "threads/rayon" => Some($measure::<$crate::threads::Rayon>($($argument),*)),
            #[cfg(unix)]
            "procspawn" => Some($measure::<procspawn::Pool>($($argument),*)),
            name if name.starts_with("ours/") => Some($measure::<process_pool::Executor>($($argument),*)),
            _ => None,
        }
    };
}
pub(crate) use with_pool;

/// All workers are up, and have their memory, before the clock runs.
pub(crate) fn warm<P: Pool>(pool: &P, calls: usize) -> Result<()> {
    let handles = (0..calls.min(P::PENDING_MAX)).map(|n| pool.noop(n as u64)).collect::<Result<Vec<_>>>()?;
    handles.into_iter().try_for_each(|handle| P::result(handle).map(drop))
}
