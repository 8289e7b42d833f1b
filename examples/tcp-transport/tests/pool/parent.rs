//! No worker outlives its parent.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use process_pool::{Context, Executor};
use xtests::cases;
use xtests::gate::{Gate, wait_at};
use xtests::runner::{Case, Subject};

use crate::kit::{eventually, is_gone, settled};

pub(crate) const CASES: &[Case] = cases![no_worker_outlives_a_killed_parent];

/// In a parent's environment: the port of a gate where its calls wait.
pub(crate) const PORT: &str = "TCP_PARENT";

/// A parent with two workers and a call for each.
pub(crate) fn main() {
    let port: u16 = std::env::var(PORT).expect("a port").parse().expect("a number");
    let pool = Executor::builder().context("exec+tcp".parse::<Context>().expect("known")).max_workers(2);
    let pool = pool.build().expect("a pool");
    let calls = [(); 2].map(|()| pool.submit(wait_at, port).expect("taken"));
    calls.iter().for_each(|call| settled(call).expect("the second is never passed"));
}

fn no_worker_outlives_a_killed_parent(_: &Subject) {
    let gate = Gate::new();
    let mut parent = Command::new(std::env::current_exe().expect("a path"));
    parent.env(PORT, gate.port().to_string()).stdin(Stdio::null());
    let mut parent = parent.spawn().expect("it starts");
    let mut visitors = gate.arrivals(2);
    let pids = [visitors[0].pid, visitors[1].pid];
    // One is idle then, the other goes on waiting.
    visitors.remove(0).pass();
    assert!(!pids.iter().any(|pid| is_gone(*pid)));
    parent.kill().expect("it can be killed");
    parent.wait().expect("it can be waited for");
    let start = Instant::now();
    eventually("they are gone", || pids.iter().all(|pid| is_gone(*pid)));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}
