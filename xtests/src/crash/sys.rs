//! What harm takes: calls that have no safe wrapper, and other processes by their number.

#[cfg(unix)]
pub(super) use unix::{close_all, go_on, kill, kill_self, leave_heir, stop, trespass};
#[cfg(windows)]
pub(super) use windows::{close_all, go_on, kill, kill_self, leave_heir, stop, trespass};

#[cfg(unix)]
mod unix {
    use rustix::process::{Pid, Signal, getpid, kill_process};

    fn signal(pid: u32, signal: Signal) -> Result<(), String> {
        kill_process(process(pid), signal).map_err(|error| format!("no signal reaches {pid}: {error}"))
    }

    fn process(pid: u32) -> Pid {
        i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id")
    }

    /// Kills a worker that nobody has waited for.
    pub(crate) fn kill(pid: u32) -> Result<(), String> {
        signal(pid, Signal::KILL)
    }

    pub(crate) fn stop(pid: u32) -> Result<(), String> {
        signal(pid, Signal::STOP)
    }

    pub(crate) fn go_on(pid: u32) -> Result<(), String> {
        signal(pid, Signal::CONT)
    }

    pub(crate) fn kill_self() {
        let _ = kill_process(getpid(), Signal::KILL);
    }

    pub(crate) fn trespass() {
        let nowhere = std::ptr::without_provenance_mut::<u8>(8);
        // SAFETY: none; it must not work, and the kernel sees to that.
        unsafe { nowhere.write_volatile(1) };
    }

    pub(crate) fn close_all() {
        // Not `close_range`, which musl lacks; nobody here has more open.
        for fd in 3..1024 {
            // SAFETY: what breaks by it in this process is what the event is about.
            unsafe { libc::close(fd) };
        }
    }

    /// Leaves a process with all that this one has open; its id.
    pub(crate) fn leave_heir() -> u32 {
        // SAFETY: the child calls nothing but what is safe to call in a signal handler.
        let heir = unsafe { libc::fork() };
        if heir == 0 {
            // SAFETY: takes no memory. A daemon is not in the group that ends with the worker.
            unsafe { libc::setsid() };
            // SAFETY: takes no memory.
            unsafe { libc::alarm(30) };
            loop {
                // SAFETY: takes no memory. The alarm ends the process, if nobody does before.
                unsafe { libc::pause() };
            }
        }
        // Not before it has left the group.
        let heir = heir.cast_unsigned();
        crate::processes::eventually("it has a session", || crate::processes::leads_a_session(heir));
        heir
    }
}

#[cfg(windows)]
mod windows {
    use windows_sys::Win32::Foundation::CloseHandle;
    use windows_sys::Win32::System::Threading::{
        GetCurrentProcess, OpenProcess, PROCESS_TERMINATE, TerminateProcess,
    };

    /// Kills a worker whose handle the pool has, so that its number is its own.
    pub(crate) fn kill(pid: u32) -> Result<(), String> {
        // SAFETY: takes no memory.
        let process = unsafe { OpenProcess(PROCESS_TERMINATE, 0, pid) };
        if process.is_null() {
            return Err(format!("{pid} cannot be opened: {}", std::io::Error::last_os_error()));
        }
        // SAFETY: the handle is open.
        let killed = unsafe { TerminateProcess(process, 1) };
        let error = std::io::Error::last_os_error();
        // SAFETY: the handle is open, and used no more.
        unsafe { CloseHandle(process) };
        if killed == 0 { Err(format!("{pid} cannot be killed: {error}")) } else { Ok(()) }
    }

    pub(crate) fn kill_self() {
        // SAFETY: it has no preconditions.
        let this = unsafe { GetCurrentProcess() };
        // SAFETY: the handle stands for this process and needs no closing.
        unsafe { TerminateProcess(this, 1) };
    }

    pub(crate) fn trespass() {
        let nowhere = std::ptr::without_provenance_mut::<u8>(8);
        // SAFETY: none; it must not work, and the system sees to that.
        unsafe { nowhere.write_volatile(1) };
    }

    pub(crate) fn stop(_: u32) -> Result<(), String> {
        unreachable!("such events are unfit here")
    }

    pub(crate) fn go_on(_: u32) -> Result<(), String> {
        unreachable!("such events are unfit here")
    }

    pub(crate) fn close_all() {
        unreachable!("such events are unfit here")
    }

    pub(crate) fn leave_heir() -> u32 {
        unreachable!("such events are unfit here")
    }
}

/// Makes this process the one that orphans among its descendants go to: not every system has somebody who waits for
/// them. They are waited for by [`bury`].
pub(super) fn adopt() {
    if crate::processes::is_emulated() {
        crate::runner::skip("the emulator does not let a process take in orphans");
    }
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("any process may");
}

/// Waits for all of them, which are about to end; nobody else is a child of this process.
pub(super) fn bury() -> Result<(), String> {
    #[cfg(target_os = "linux")]
    {
        use std::time::{Duration, Instant};

        let deadline = Instant::now() + Duration::from_secs(5);
        // Until there is no child.
        while let Ok(child) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
            if child.is_none() && Instant::now() > deadline {
                return Err("a process is left".to_owned());
            }
        }
    }
    Ok(())
}

/// A control group that takes but so much memory, until dropped.
pub(super) struct Group {
    path: std::path::PathBuf,
}

impl Group {
    /// Puts the process into a group of so many bytes.
    ///
    /// # Errors
    /// Why that cannot be had: it takes root's rights, and a system that lends its control groups.
    pub(super) fn of_little_memory(pid: u32, bytes: u64) -> Result<Self, String> {
        let root = std::path::Path::new("/sys/fs/cgroup");
        let first = root.join("memory");
        // With version 1 the memory controller has a tree of its own.
        let (root, limit) = if first.join("memory.limit_in_bytes").exists() {
            (first.as_path(), "memory.limit_in_bytes")
        } else {
            let lent = std::fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
            if !lent.split_whitespace().any(|controller| controller == "memory") {
                return Err("the system lends no memory group".to_owned());
            }
            (root, "memory.max")
        };
        let refused = |error: std::io::Error| format!("no memory group: {error}");
        let group = Self { path: root.join(format!("process-pool-{pid}")) };
        std::fs::create_dir(&group.path).map_err(refused)?;
        let write = |file, text: String| std::fs::write(group.path.join(file), text);
        write(limit, bytes.to_string()).map_err(refused)?;
        // Not every system swaps.
        let _ = write("memory.swap.max", "0".to_owned());
        write("cgroup.procs", pid.to_string()).map_err(refused)?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The worker is reaped by now, or the group stays until the next start of the system.
        let _ = std::fs::remove_dir(&self.path);
    }
}
