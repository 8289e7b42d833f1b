//! A pool over a transport that process-pool does not know: TCP, with a lease.
//!
//! ```text
//! cargo run -p tcp-transport --example tcp
//! ```

use std::time::{Duration, Instant};

use process_pool::spawn::Exec;
use process_pool::{Context, Executor};
use tcp_transport::Tcp;

fn collatz_steps(start: u64) -> (u64, u32, u32) {
    let (mut n, mut steps) = (start, 0);
    while n != 1 {
        n = if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 };
        steps += 1;
    }
    (start, steps, std::process::id())
}

/// Stops the process that it runs in, as a debugger would, or a machine that swaps.
fn stops(name: String) -> String {
    println!("process {} stops", std::process::id());
    let _ = std::process::Command::new("kill").args(["-STOP", &std::process::id().to_string()]).status();
    format!("hello, {name}")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    process_pool::worker_main()
        .transport(tcp_transport::TCP) // Known by its name now, here and in the workers.
        .run();

    let pool = Executor::builder().context("exec+tcp".parse::<Context>()?).max_workers(2).build()?;
    println!("a pool of {} workers over {}", pool.max_workers(), pool.context());
    for steps in pool.map(collatz_steps, [27, 97, 871, 6171, 77031, 837799]) {
        let (start, steps, worker) = steps?;
        println!("{start} takes {steps} steps to 1, says process {worker}");
    }

    if cfg!(unix) {
        let lease = Duration::from_secs(1);
        let context = Context::new(Exec::new(), Tcp { lease, ..Tcp::default() });
        let pool = Executor::builder().context(context).max_workers(1).build()?;
        println!("a pool whose workers may be silent for {lease:?}");
        let start = Instant::now();
        let stopped = pool.submit(stops, "you".to_owned())?;
        let next = pool.submit(collatz_steps, 27)?;
        match stopped.result() {
            Ok(greeting) => println!("it went on in time: {greeting}"),
            Err(error) => println!("after {:.1} s: {error}", start.elapsed().as_secs_f64()),
        }
        let (_, _, worker) = next.result()?;
        println!("process {worker} has taken its place");
    }
    Ok(())
}
