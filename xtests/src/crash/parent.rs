//! This program, started again as a parent that dies; and workers that stop before they are any.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use pool_core::Executor;

use super::Held;
use crate::gate::wait_at;
#[cfg(unix)]
use crate::trial::DIR;

/// Set for such a parent: the context's name, and the port of the gate where its calls wait.
const PARENT: &str = "XTESTS_CRASH_PARENT";

/// In the case's folder: the first worker that finds it stops before it becomes one.
const STOP: &str = "stop-the-first";

/// How many calls of such a parent come to its gate.
pub(super) const WORKERS: usize = 2;

/// What workers of a program with events do before they are any. To be called before `init()`.
pub fn attend() {
    #[cfg(unix)]
    {
        // A fork server must not stop, only what it forks.
        if std::env::var("PROCESS_POOL_WORKER").is_ok_and(|mark| mark.starts_with("exec/")) {
            stop_if_first();
        }
        process_pool::spawn::after_fork(stop_if_first);
    }
}

#[cfg(unix)]
fn stop_if_first() {
    use rustix::process::{Signal, getpid, kill_process};

    let folder = std::env::var_os(DIR).unwrap_or_default();
    // Who removes it is the first.
    if std::fs::remove_file(Path::new(&folder).join(STOP)).is_ok() {
        let _ = kill_process(getpid(), Signal::STOP);
    }
}

/// Has the next worker stop before it becomes one.
pub(super) fn stop_the_next(folder: &Path) -> Held<()> {
    std::fs::write(folder.join(STOP), "").map_err(|error| error.to_string())
}

/// Whether no worker has stopped yet.
pub(super) fn is_to_stop(folder: &Path) -> bool {
    folder.join(STOP).exists()
}

/// Becomes the parent of an event, if this process was started as one. To be called after `init()`.
pub fn become_parent() {
    let Ok(wanted) = std::env::var(PARENT) else { return };
    let (context, port) = wanted.split_once(' ').expect("a context and a port");
    let port: u16 = port.parse().expect("a port");
    let builder = Executor::builder().context(crate::context::named(context));
    let pool = builder.max_workers(WORKERS).build().expect("a pool");
    let calls = [(); WORKERS].map(|()| pool.submit(wait_at, port).expect("taken"));
    calls.iter().for_each(pool_core::TaskHandle::wait);
    loop {
        std::thread::park();
    }
}

/// Starts a parent whose calls wait at the gate of this port.
pub(super) fn start(context: &str, port: u16) -> Held<Child> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.env(PARENT, format!("{context} {port}")).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().map_err(|error| format!("no parent: {error}"))
}
