//! Programs with a pool, for cases about how a program ends: this one, run again.

use std::process::{Command, Output, Stdio};

use process_pool::{Executor, Shutdown};
use xtests::calls::{same, submit};
use xtests::gate::wait_at;
use xtests::runner::Subject;

/// Names the program to be.
pub(crate) const VARIABLE: &str = "XTESTS_PROGRAM";

const CONTEXT: &str = "XTESTS_CONTEXT";
const ARGUMENT: &str = "XTESTS_ARGUMENT";

/// This program as another one.
pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.env(VARIABLE, name).stdin(Stdio::null());
    command
}

/// The same, with a pool in the case's context, and an argument.
pub(crate) fn command_for(subject: &Subject, name: &str, argument: &str) -> Command {
    let mut command = command(name);
    command.env(CONTEXT, &subject.context).env(ARGUMENT, argument);
    command
}

/// What it has printed; it has to end well and say nothing else.
#[track_caller]
pub(crate) fn printed(output: Output) -> String {
    let Output { status, stdout, stderr } = output;
    assert!(status.success() && stderr.is_empty(), "{status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text")
}

pub(crate) fn run(name: &str) {
    match name {
        "says hello" => println!("hello"),
        "drops its pool" => drops_its_pool(),
        "shuts down without waiting" => shuts_down_without_waiting(),
        #[cfg(unix)]
        "submits at exit" => crate::sys::submit_at_exit(pool()),
        name => panic!("no such program: {name}"),
    }
}

fn pool() -> Executor {
    let context = std::env::var(CONTEXT).expect("the case says");
    Executor::builder().context(xtests::context::named(&context)).max_workers(2).build().expect("a pool")
}

fn argument() -> String {
    std::env::var(ARGUMENT).expect("the case says")
}

fn prints(text: String) {
    println!("{text}");
}

/// Calls that wait, and nobody who waits for them.
fn drops_its_pool() {
    let pool = pool();
    drop(submit(&pool, prints, argument()));
    for n in 0..20 {
        drop(submit(&pool, same, n));
    }
    drop(submit(&pool, prints, "the last".to_owned()));
}

fn shuts_down_without_waiting() {
    let pool = pool();
    let port = argument().parse().expect("a port");
    drop(submit(&pool, wait_at, port));
    drop(submit(&pool, prints, "done".to_owned()));
    pool.shutdown(Shutdown { wait: false, cancel_futures: false, timeout: None, grace: None });
}
