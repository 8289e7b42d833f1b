//! A program whose `main` treats `init()` as `HOSTILE_MAIN` says, and tells on its standard output what came of
//! it. Its workers are started without arguments but with its environment, so they act alike.

use std::time::Duration;

use pool_core::error::{BreakReason, StartError};
use pool_core::spawner::{Entry, SpawnError};
use pool_spawn_exec::ExecEntry;
use process_pool::carry::Pipe;
use process_pool::spawn::Exec;
use process_pool::{BuildError, Builder, Context, Executor, RestartLimit, TaskError, init};

fn main() {
    let how = std::env::var("HOSTILE_MAIN").unwrap_or_default();
    let is_worker = ExecEntry.is_worker();
    match how.as_str() {
        "never" => {
            refused(Executor::new(), |error| matches!(error, SpawnError::InitNotCalled));
            refused(exec_and_pipe(Exec::new()).build(), |error| matches!(error, SpawnError::InitNotCalled));
            no_child();
        }
        "late" => {
            let before = Executor::new();
            // A worker gets here too: its `main` is the same.
            refused(before, |error| matches!(error, SpawnError::InitNotCalled));
            init();
            works();
        }
        "inside" => {
            if is_worker {
                let inside = |error: &SpawnError| matches!(error, SpawnError::InsideWorker);
                refused(exec_and_pipe(Exec::new()).build(), inside);
                refused(exec_and_pipe(Exec::program(std::env::current_exe().expect("a path"))).build(), inside);
                // The default context is known by its names, and names are known from `init()` only.
                refused(Executor::new(), |error| matches!(error, SpawnError::InitNotCalled));
                std::process::exit(42);
            }
            init();
            breaks(Duration::from_secs(10));
        }
        "branch" => {
            if !is_worker {
                init();
            }
            match Executor::new() {
                Ok(_) => breaks(Duration::from_secs(10)),
                Err(_) => std::process::exit(7),
            }
        }
        "blocks" => {
            if is_worker {
                loop {
                    std::thread::park();
                }
            }
            init();
            breaks(Duration::from_millis(500));
        }
        "panics" => {
            assert!(!is_worker, "before init()");
            init();
            breaks(Duration::from_secs(10));
        }
        "twice" => {
            init();
            init();
            works();
        }
        "sizes" => {
            init();
            sizes();
        }
        "thread" => {
            std::thread::spawn(init).join().expect("it returns in the parent");
            works();
        }
        how => panic!("not a way to treat init(): {how:?}"),
    }
}

fn exec_and_pipe(exec: Exec) -> Builder {
    Executor::builder().context(Context::new(exec, Pipe::new()))
}

fn refused(built: Result<Executor, BuildError>, is_right: fn(&SpawnError) -> bool) {
    match built {
        Err(BuildError::Spawn(error)) if is_right(&error) => println!("refused: {error}"),
        other => panic!("{other:?}"),
    }
}

fn no_child() {
    #[cfg(unix)]
    {
        let waited = rustix::process::wait(rustix::process::WaitOptions::NOHANG).map(drop);
        assert_eq!(waited, Err(rustix::io::Errno::CHILD), "a child was started");
        println!("no child");
    }
}

fn works() {
    let pool = Executor::new().expect("a pool");
    assert_eq!(pool.submit(|n: u32| n + 1, 41).expect("taken").result().expect("a result"), 42);
    println!("works");
}

/// How many workers a pool gets unasked, and when asked for seven.
fn sizes() {
    match Executor::new() {
        Ok(pool) => println!("default: {}", pool.max_workers()),
        Err(error @ BuildError::Variable { name: "PROCESS_POOL_WORKERS", .. }) => println!("refused: {error}"),
        Err(error) => panic!("{error:?}"),
    }
    println!("asked for: {}", Executor::builder().max_workers(7).build().expect("a pool").max_workers());
}

/// Two calls, and what they and the pool say in the end.
fn breaks(deadline: Duration) {
    let limit = RestartLimit { failures: 2, backoff_min: Duration::ZERO, backoff_max: Duration::ZERO };
    let pool = Executor::builder().restart_limit(limit).start_deadline(deadline);
    let pool = pool.max_workers(1).build().expect("a pool");
    let handles = [1, 2].map(|n| pool.submit(|n: u32| n, n).expect("taken"));
    for handle in handles {
        match handle.result() {
            Err(TaskError::Broken(broken)) => println!("broken: {broken}"),
            other => panic!("{other:?}"),
        }
    }
    let reason = pool.broken().expect("broken").reason;
    match &*reason {
        BreakReason::TooManyFailures { failures: 2, last: StartError::Ended { exit, .. } } => {
            println!("too many: {exit:?}");
        }
        BreakReason::NoWorkerInTime { deadline, last: StartError::TimedOut(_) } => {
            println!("in time: {deadline:?}");
        }
        other => panic!("{other:?}"),
    }
}
