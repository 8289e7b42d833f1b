//! Exec with real processes: the worker program is this test program itself.
//!
//! The same file is run in four ways: as the runner (by `cargo test`), as one case in a process of its own (by
//! the runner, under a watchdog, so that nothing can hang and no case sees another's descriptors), as a worker,
//! and as a bystander that a case needs (a program that inherited the marker, one that starts workers of its own).

mod cases;
mod harness;
mod jobs;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(unix)]
mod unix;

use pool_core::spawner::{Arrival, Entry};
use pool_spawn_exec::ExecEntry;

fn main() {
    match ExecEntry.arrive() {
        Arrival::Worker { ticket, last_words } => jobs::run(ticket, last_words),
        Arrival::Unusable(why) => {
            eprintln!("unusable: {why}");
            std::process::exit(97);
        }
        Arrival::NotAWorker => {}
    }
    if let Ok(role) = std::env::var(harness::ROLE) {
        return jobs::play(&role);
    }
    let all = [
        cases::all(),
        #[cfg(unix)]
        unix::all(),
        #[cfg(target_os = "linux")]
        linux::all(),
    ];
    harness::main(&all.concat());
}
