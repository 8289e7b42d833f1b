//! A pool whose workers are started by hand, in other terminals or under a debugger.
//!
//! ```text
//! cargo run --features attach --example attach      and then, elsewhere, the lines that it prints
//! cargo run --features attach --example attach -- --alone      starts them itself
//! ```

use std::env;
use std::process::Command;
use std::time::Duration;

use process_pool::carry::Pipe;
use process_pool::spawn::{Attach, Invitation};
use process_pool::{Context, Executor};

/// How many workers join.
const WORKERS: usize = 2;

/// How long the first call waits for somebody to type.
const PATIENCE: Duration = Duration::from_secs(3600);

fn collatz_steps(start: u64) -> (u64, u32, u32) {
    let (mut n, mut steps) = (start, 0);
    while n != 1 {
        n = if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 };
        steps += 1;
    }
    (start, steps, std::process::id())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    process_pool::init();

    let is_alone = env::args().nth(1).is_some_and(|arg| arg == "--alone");
    let attach = Attach::new()?;
    let invitations = attach.invitations();
    let pool = Executor::builder()
        .max_workers(WORKERS)
        .context(Context::new(attach, Pipe::new()))
        .start_deadline(PATIENCE)
        .build()?;

    let program = env::current_exe()?;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        let invitation = invitations.issue()?;
        if is_alone {
            workers.push(Command::new(&program).env(Invitation::VARIABLE, invitation.to_string()).spawn()?);
        } else {
            println!("{}={invitation} {}", Invitation::VARIABLE, program.display());
        }
    }
    for steps in pool.map(collatz_steps, [27, 97, 871, 6171, 77031, 837799]) {
        let (start, steps, worker) = steps?;
        println!("{start} takes {steps} steps to 1, says process {worker}");
    }
    drop(pool);
    for mut worker in workers {
        // One that was not needed before the pool had ended says so, and exits with 1.
        worker.wait()?;
    }
    Ok(())
}
