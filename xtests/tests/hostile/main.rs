//! The pool among enemies: programs that are no workers, workers that lie, calls that break their process,
//! systems that have run out of everything.
//!
//! Whatever they do, the one call or the pool fails with an error that says what happened, soon, and the rest
//! goes on.

use xtests::runner::Case;

mod kit;

mod entry;
mod life;
mod peers;
mod values;

#[cfg(unix)]
mod programs;
#[cfg(target_os = "linux")]
mod shortage;
#[cfg(target_os = "linux")]
mod sizes;
#[cfg(target_os = "linux")]
mod tasks;

/// In a worker's environment: the port of a gate where it waits before it becomes one.
const WAIT: &str = "HOSTILE_WAIT";

fn main() {
    if let Some(port) = std::env::var(WAIT).ok().and_then(|port| port.parse().ok()) {
        xtests::gate::wait_at(port);
    }
    process_pool::init();
    let once = |cases: &[Case], about| cases.iter().map(|case| case.only("exec+pipe", about)).collect::<Vec<_>>();
    let entry = once(entry::CASES, "`init()`");
    let peers = once(peers::CASES, "workers that lie over a pipe");
    let everywhere = [entry.as_slice(), life::CASES, &peers, values::CASES].concat();
    #[cfg(unix)]
    let everywhere = [everywhere, once(programs::CASES, "programs that `Exec` starts")].concat();
    #[cfg(target_os = "linux")]
    let everywhere = [everywhere.as_slice(), shortage::CASES, sizes::CASES, tasks::CASES].concat();
    xtests::runner::main(&everywhere);
}
