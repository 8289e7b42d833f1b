//! Ctrl-C: a long computation that is called off, keeps what it has, and tidies up.
//! `cargo run --release --example interrupt`, and press Ctrl-C; twice if one is not enough. With `--alone` it does so
//! itself, checks what it says, and ends.

use std::sync::Arc;
use std::time::Duration;

use process_pool::{Executor, Shutdown, SubmitError, TaskError, as_completed};

/// Of the Collatz sequences that begin with `n` and the numbers after it: which is the longest, and its length.
fn longest_from(n: u64) -> (u64, u32) {
    let length = |start: u64| {
        let next = |n: &u64| (*n != 1).then(|| if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 });
        std::iter::successors(Some(start), next).count() as u32
    };
    let lengths = (n.max(1)..n + 100_000).map(|start| (start, length(start)));
    lengths.max_by_key(|(_, length)| *length).expect("there are some")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    process_pool::init();
    let is_alone = std::env::args().any(|arg| arg == "--alone");
    let executor = Arc::new(Executor::builder().stop_grace(Duration::from_secs(2)).build()?);
    // The handler stays until the end of the program; the pool should not have to.
    let weak = Arc::downgrade(&executor);
    ctrlc::set_handler(move || {
        if let Some(executor) = weak.upgrade() {
            executor.interrupt();
        }
    })?;

    let calls = (0..100_000).map(|n| executor.submit(longest_from, n * 100_000));
    let calls = calls.collect::<Result<Vec<_>, SubmitError>>()?;
    let (mut longest, mut done, mut cancelled, mut stopped) = ((1, 1), 0, 0, 0);
    for call in as_completed(calls, None) {
        match call?.result() {
            Ok(found) => {
                done += 1;
                longest = std::cmp::max_by_key(longest, found, |(_, length)| *length);
                if done % 10 == 0 {
                    println!("{done} done; the longest so far begins with {} and has {}", longest.0, longest.1);
                }
                if is_alone && done == 20 {
                    press_ctrl_c(&executor);
                }
            }
            Err(TaskError::Cancelled) => cancelled += 1,
            Err(TaskError::Stopped(error)) => {
                stopped += 1;
                println!("{error}");
            }
            Err(error) => return Err(error.into()),
        }
    }
    println!("{done} done, {stopped} stopped, {cancelled} cancelled; the longest: {longest:?}");
    let report = executor.shutdown(Shutdown::default());
    if is_alone {
        assert!(report.complete && done >= 20 && cancelled > 0);
        assert_eq!((done + stopped + cancelled, stopped), (100_000, report.lost));
        assert!(report.lost <= executor.max_workers() && report.cancelled == cancelled);
        assert!(matches!(executor.submit(longest_from, 1), Err(SubmitError::ShutDown)));
    }
    Ok(())
}

#[cfg(unix)]
fn press_ctrl_c(_: &Executor) {
    use rustix::process::{Signal, getpid, kill_process};
    kill_process(getpid(), Signal::INT).expect("it reaches itself");
}

/// Elsewhere it does what the handler would.
#[cfg(not(unix))]
fn press_ctrl_c(executor: &Executor) {
    executor.interrupt();
}
