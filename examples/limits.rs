//! Calls that may not take as long as they like: a decoder that hangs on some of its inputs, a search that is called
//! off, and one that stops by itself. `cargo run --release --example limits`; it checks what it says, and ends by itself.

use std::time::{Duration, Instant};

use process_pool::error::TimeLimit;
use process_pool::{Asked, CallOptions, Executor, TaskError, TaskHandle, task};

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

/// A search that looks whether somebody waits for it, and says how far it came.
fn search_while_wanted(from: u64) -> u64 {
    let mut n = from;
    while n.wrapping_mul(n) != 2 && !task::cancelled() {
        n = n.wrapping_add(2);
    }
    n
}

fn wait_until_running(handle: &TaskHandle<u64>) {
    while !handle.running() && !handle.done() {
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
    let busy = [executor.submit(search, 2)?, executor.submit(search, 4)?];
    busy.iter().for_each(wait_until_running);
    let late = executor.with(CallOptions::new().total_limit(Duration::from_millis(20))).submit(decode, 8)?;
    let error = late.result().expect_err("both workers are busy");
    println!("too late: {error}");
    assert!(matches!(error, TaskError::TimedOut(error) if error.worker.is_none()));
    assert!(busy.iter().all(TaskHandle::kill));
    assert!(busy.into_iter().all(|handle| matches!(handle.result(), Err(TaskError::Killed(_)))));

    // A call that looks keeps its worker, and has a result: when its time is up, or somebody asks it to stop.
    let soft = executor.with(CallOptions::new().soft_limit(Duration::from_millis(50)));
    let far = soft.submit(search_while_wanted, 2)?.result()?;
    println!("in 50 ms the search came up to {far}");
    let called_off = executor.submit(search_while_wanted, 2)?;
    wait_until_running(&called_off);
    assert_eq!(called_off.ask_to_stop(), Asked::Told);
    println!("called off, it came up to {}", called_off.result()?);

    // One that does not look is killed when its grace is over.
    let deaf = executor.submit(search, 2)?;
    wait_until_running(&deaf);
    let start = Instant::now();
    assert!(deaf.kill_after(Duration::from_millis(50)));
    let error = deaf.result().expect_err("it does not look");
    println!("after its grace: {error}");
    assert!(matches!(error, TaskError::Killed(_)) && start.elapsed() >= Duration::from_millis(50));
    Ok(())
}
