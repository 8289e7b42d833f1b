//! Calls that may not take as long as they like: a decoder that hangs on some of its inputs, and a search that is
//! called off. `cargo run --release --example limits`; it checks what it says, and ends by itself.

use std::time::{Duration, Instant};

use process_pool::error::TimeLimit;
use process_pool::{CallOptions, Executor, TaskError, TaskHandle};

/// Somebody else's decoder: it never comes back from an odd input.
fn decode(input: u64) -> u64 {
    loop {
        if input.is_multiple_of(2) {
            return input / 2;
        }
        std::hint::spin_loop();
    }
}

/// Takes for ever, as far as its caller is concerned.
fn search(from: u64) -> u64 {
    let mut n = from;
    while n.wrapping_mul(n) != 2 {
        n = n.wrapping_add(2);
    }
    n
}

fn wait_until_running(handle: &TaskHandle<u64>) {
    while !handle.running() {
        std::thread::yield_now();
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    process_pool::init();
    let executor = Executor::builder().max_workers(2).build()?;

    let limit = Duration::from_millis(100);
    let bounded = executor.with(CallOptions::new().time_limit(limit));
    let start = Instant::now();
    let decoded = (0..6).map(|input| bounded.submit(decode, input)).collect::<Result<Vec<_>, _>>()?;
    for (input, handle) in (0..).zip(decoded) {
        match handle.result() {
            Ok(output) => {
                println!("{input} is decoded: {output}");
                assert_eq!(input, output * 2);
            }
            Err(TaskError::TimedOut(error)) => {
                println!("{input} is not: {error}");
                assert!(!input.is_multiple_of(2) && error.limit == TimeLimit::Run(limit));
            }
            Err(error) => return Err(error.into()),
        }
    }
    // Three of them hang, on two workers.
    assert!(start.elapsed() >= limit * 2);

    // A search that nobody waits for any more; what runs beside it, or waits behind it, does not notice its end.
    let hopeless = executor.submit(search, 2)?;
    let others = (0..100).map(|n| executor.submit(decode, n * 2)).collect::<Result<Vec<_>, _>>()?;
    wait_until_running(&hopeless);
    assert!(hopeless.kill());
    let error = hopeless.result().expect_err("nobody finds that");
    println!("the search has no result: {error}");
    assert!(matches!(error, TaskError::Killed(_)));
    let sum: u64 = others.into_iter().map(TaskHandle::result).sum::<Result<_, _>>()?;
    println!("a hundred calls beside it have theirs: {sum}");
    assert_eq!(sum, (0..100).sum());

    // An answer that comes too late is of no use: the call is not even begun.
    let busy = [bounded.submit(decode, 1)?, bounded.submit(decode, 3)?];
    busy.iter().for_each(wait_until_running);
    let late = executor.with(CallOptions::new().total_limit(Duration::from_millis(20))).submit(decode, 8)?;
    let error = late.result().expect_err("both workers hang");
    println!("too late: {error}");
    assert!(matches!(error, TaskError::TimedOut(error) if error.worker.is_none()));
    assert!(busy.into_iter().all(|handle| matches!(handle.result(), Err(TaskError::TimedOut(_)))));
    Ok(())
}
