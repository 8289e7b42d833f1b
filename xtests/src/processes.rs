//! Processes by their numbers, as the system tells of them; and patience with what nobody tells of.

use std::time::{Duration, Instant};

use crate::gate::PATIENCE;

/// Looks again and again until it is so: for what no event tells.
///
/// # Panics
/// If it does not come to be within [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    eventually_within(PATIENCE, what, is_so);
}

/// The same, with another patience.
///
/// # Panics
/// If it does not come to be within `limit`.
#[track_caller]
pub fn eventually_within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain waited until {what}");
        // Whoever is to make it so may need this core.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the program runs under Wine, and not on Windows itself: what Wine cannot honour is skipped, with this as the
/// reason.
pub fn is_wine() -> bool {
    crate::sys::is_wine()
}

/// Whether another program plays the processor for this one, with threads of its own in this process: those are no
/// program's to end, and so nothing here can be forked.
pub fn is_emulated() -> bool {
    // The emulator has the system's answers for `/proc/self` and for the process's number say what is emulated.
    std::fs::read_link("/proc/thread-self/exe")
        .is_ok_and(|program| program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("qemu-")))
}

/// Whether to leave out what an emulator does not honour, which is printed.
pub fn emulator_lacks(what: &str) -> bool {
    let lacks = is_emulated();
    if lacks {
        println!("skipped: under the emulator {what}");
    }
    lacks
}

/// What a process holds of what a system has only so many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its descriptors, on Windows its handles.
    pub descriptors: usize,
    /// Its threads. Not counted on Unix but Linux.
    pub threads: usize,
}

impl Held {
    /// What this process holds now.
    pub fn here() -> Self {
        #[cfg(windows)]
        return Self { descriptors: crate::sys::handles(), threads: crate::sys::threads() };
        #[cfg(target_os = "linux")]
        return Self::of(std::process::id());
        #[cfg(all(unix, not(target_os = "linux")))]
        Self { descriptors: std::fs::read_dir("/dev/fd").map_or(0, Iterator::count), threads: 0 }
    }

    /// What a process holds now; nothing, if there is none.
    #[cfg(target_os = "linux")]
    pub fn of(pid: u32) -> Self {
        let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
        Self { descriptors: count("fd"), threads: count("task") }
    }
}

/// The state of a process: a letter, as in `ps`. `None` if there is no such process, or this is not Linux.
pub fn state(pid: u32) -> Option<char> {
    fields(pid)?.chars().next()
}

/// Who has started a process, or has inherited it. `None` if there is no such process, or this is not Linux.
pub fn parent_of(pid: u32) -> Option<u32> {
    fields(pid)?.split(' ').nth(1)?.parse().ok()
}

/// Whether it leads a session of its own.
///
/// On Linux not by `getsid`: for a session that another namespace of processes leads it gives 0, which is no
/// process id, and `rustix` panics at that.
#[cfg(unix)]
pub fn leads_a_session(pid: u32) -> bool {
    #[cfg(target_os = "linux")]
    let session: Option<u32> = fields(pid).and_then(|fields| fields.split(' ').nth(3)?.parse().ok());
    #[cfg(not(target_os = "linux"))]
    let session = {
        let process = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::getsid(process).ok().map(|leader| leader.as_raw_nonzero().get().cast_unsigned())
    };
    session == Some(pid)
}

/// Whether it runs, or could. Who waits for an orphan, and when, is not the pool's to decide.
///
/// On Windows only if it has this program: a number may be somebody else's by now.
pub fn is_there(pid: u32) -> bool {
    match state(pid) {
        Some('Z' | 'X') => false,
        Some(_) => true,
        None => is_known(pid),
    }
}

/// What the system says of a process after its name, which is in parentheses and may hold anything.
///
/// Under Wine there are such files too, of other processes than those that a program there has the numbers of.
fn fields(pid: u32) -> Option<String> {
    if cfg!(windows) {
        return None;
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.to_owned())
}

/// Where there are no states: whether a signal would reach it.
#[cfg(all(unix, not(target_os = "linux")))]
fn is_known(pid: u32) -> bool {
    use rustix::process::{Pid, test_kill_process};

    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| test_kill_process(pid).is_ok())
}

#[cfg(windows)]
fn is_known(pid: u32) -> bool {
    crate::sys::runs_this_program(pid)
}

#[cfg(target_os = "linux")]
fn is_known(_: u32) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_leads_a_session_from_when_it_has_one_of_its_own() {
        let mut child = Command::new("setsid").arg("cat").stdin(Stdio::piped()).spawn().expect("it starts");
        eventually("it has a session", || leads_a_session(child.id()));
        drop(child.stdin.take());
        child.wait().expect("waited for");
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("it starts");
        eventually("it waits for input", || state(child.id()) == Some('S'));
        assert!(!leads_a_session(child.id()));
        drop(child.stdin.take());
        child.wait().expect("waited for");
        assert!(!leads_a_session(child.id()));
    }

    #[test]
    fn a_process_is_there_until_it_has_ended() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("it starts");
        let pid = child.id();
        assert!(is_there(pid));
        assert_eq!(parent_of(pid), Some(std::process::id()));
        eventually("it waits for input", || state(pid) == Some('S'));
        drop(child.stdin.take());
        // Nobody has waited for it, but it can do nothing any more.
        eventually("it has ended", || state(pid) == Some('Z'));
        assert!(!is_there(pid));
        child.wait().expect("waited for");
        assert_eq!((state(pid), parent_of(pid)), (None, None));
        assert!(!is_there(pid));
    }
}
