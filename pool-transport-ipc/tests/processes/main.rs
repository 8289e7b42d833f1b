//! The transport between real processes: alone, and carrying a pool.
//!
//! The same file is run in four ways: as the runner (by `cargo test`), as one case in a process of its own (by
//! the runner, under a watchdog, with a temporary directory that has to be empty afterwards), as a worker of a
//! pool, and as a bystander that a case needs.

mod bystanders;
mod harness;
#[cfg(target_os = "linux")]
mod linux;
mod pool;
#[cfg(target_os = "linux")]
mod sys;

use pool_core::WorkerMain;
use pool_core::context::{StartMethod, Way};
use pool_spawn_exec::{Exec, ExecEntry};
use pool_transport_ipc::Ipc;

fn main() {
    WorkerMain::new()
        .start_method(StartMethod {
            name: "exec",
            make: || Box::new(Exec::new()),
            entry: Some(Box::new(ExecEntry)),
        })
        .transport(Way { name: "ipc", make: || Box::new(Ipc::new()) })
        .run();
    if let Ok(role) = std::env::var(harness::ROLE) {
        return bystanders::play(&role);
    }
    let all = [
        pool::all(),
        bystanders::all(),
        #[cfg(target_os = "linux")]
        linux::all(),
    ];
    harness::main(&all.concat());
}
