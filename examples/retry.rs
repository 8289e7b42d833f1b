//! Calls that are made again when they fail: a library that crashes now and then, a service that is busy at times, and an
//! input that ends every worker it is given to. `cargo run --release --example retry`; it checks what it says, and ends by
//! itself.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use process_pool::{CallOptions, Executor, Retry, TaskError};

/// Which attempt this is. Each leaves a byte in a file: a call that is made again knows nothing of the one before.
fn attempt(notes: &Path) -> std::io::Result<u64> {
    let mut file = OpenOptions::new().create(true).append(true).open(notes)?;
    file.write_all(b".")?;
    Ok(file.metadata()?.len())
}

/// Somebody else's library: crashes at the first attempt.
fn fragile(notes: PathBuf) -> u64 {
    match attempt(&notes).expect("a file that can be written") {
        1 => std::process::abort(),
        attempt => attempt,
    }
}

/// A service: busy at first.
fn busy(notes: PathBuf) -> Result<u64, String> {
    match attempt(&notes).map_err(|error| error.to_string())? {
        1 | 2 => Err("busy".to_owned()),
        attempt => Ok(attempt),
    }
}

/// An input that no worker survives.
fn poison(notes: PathBuf) {
    let _ = attempt(&notes);
    std::process::abort();
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    process_pool::init();
    let folder = std::env::temp_dir().join(format!("retry-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let shown = show(&folder);
    std::fs::remove_dir_all(&folder)?;
    shown
}

fn show(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let executor = Executor::builder().max_workers(2).build()?;
    let rest = Duration::from_millis(5);
    let retry = Retry::new(4).rests(rest, 4 * rest);

    // By default a call runs once at most: its worker's end is an error.
    let error = executor.submit(fragile, folder.join("once"))?.result().expect_err("it crashes");
    println!("without a policy: {error}");
    assert!(matches!(error, TaskError::WorkerLost(_)));

    let patient = executor.with(CallOptions::new().retry(retry.clone()));
    let attempts = patient.submit(fragile, folder.join("again"))?.result()?;
    println!("with one: there is a result at attempt {attempts}");
    assert_eq!(attempts, 2);

    // An `Err` is a result like any other, unless the policy says that it will pass.
    let until_ok = retry.clone().on_result(|result: &Result<u64, String>| result.is_err());
    let persistent = executor.with(CallOptions::new().retry(until_ok));
    let attempts = persistent.submit(busy, folder.join("busy"))?.result()??;
    println!("the service is busy no more at attempt {attempts}");
    assert_eq!(attempts, 3);

    // What ends all its workers is given up before it has ended many; calls beside it do not notice.
    let poisoned = folder.join("poison");
    let careful = executor.with(CallOptions::new().retry(retry.losses_max(2)));
    let hopeless = careful.submit(poison, poisoned.clone())?;
    let others = (0..100).map(|n| executor.submit(u64::count_ones, n)).collect::<Result<Vec<_>, _>>()?;
    let error = hopeless.result().expect_err("it crashes each time");
    println!("poison: {error}");
    assert!(matches!(error, TaskError::WorkerLost(lost) if lost.workers == 2));
    assert_eq!(std::fs::metadata(poisoned)?.len(), 2);
    for (n, handle) in (0_u64..).zip(others) {
        assert_eq!(handle.result()?, n.count_ones());
    }
    Ok(())
}
