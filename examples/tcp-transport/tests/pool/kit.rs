//! What several cases need.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use process_pool::spawner::Spawner;
use process_pool::{Builder, Context, Executor, TaskError, TaskHandle};
use tcp_transport::Tcp;
use xtests::gate::wait_at;

/// Longer than anything here takes on a busy machine, and shorter than the watchdog's limit.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A pool's builder over a transport with this lease.
pub(crate) fn builder(start_method: impl Spawner + 'static, lease: Duration) -> Builder {
    Executor::builder().context(Context::new(start_method, Tcp { lease, ..Tcp::default() }))
}

/// The result, or a failure that says so instead of a hang.
#[track_caller]
pub(crate) fn settled<R>(handle: &TaskHandle<R>) -> Result<R, TaskError> {
    handle.result_timeout(PATIENCE).expect("the call is settled in time")
}

#[track_caller]
pub(crate) fn lost<R: std::fmt::Debug>(result: Result<R, TaskError>) -> process_pool::error::WorkerLost {
    match result {
        Err(TaskError::WorkerLost(lost)) => *lost,
        other => panic!("the worker is lost: {other:?}"),
    }
}

/// The file of a case, as an argument for calls.
pub(crate) fn file(dir: &Path) -> String {
    dir.join("traces").to_str().expect("a path that is text").to_owned()
}

/// For calls: one line for each time that it runs, then a wait at the gate, if there is one; the process.
pub(crate) fn trace((path, number, gate): (String, u64, Option<u16>)) -> u32 {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the case's file");
    file.write_all(format!("{number}\n").as_bytes()).expect("written");
    gate.into_iter().for_each(wait_at);
    std::process::id()
}

/// How often each call has run: the numbers, sorted.
pub(crate) fn traces(path: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut numbers: Vec<_> = text.lines().map(|line| line.parse().expect("a number")).collect();
    numbers.sort_unstable();
    numbers
}

/// Looks again and again until it is so. For what no event tells: other processes.
#[track_caller]
pub(crate) fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came to be: {what}");
        std::thread::yield_now();
    }
}

/// The state of a process: a letter, as in `ps`.
#[cfg(target_os = "linux")]
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it is in parentheses and may hold anything.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether it has ended.
#[cfg(target_os = "linux")]
pub(crate) fn is_gone(pid: u32) -> bool {
    matches!(state(pid), None | Some('Z' | 'X'))
}
