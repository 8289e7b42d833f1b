//! What a case must not leave behind: child processes, threads, descriptors, shared memory. (Temporary files are
//! the runner's to look for: it gives each case a directory for them.)
//!
//! Linux only: elsewhere the system does not tell so easily, and the runner says so.

use std::time::{Duration, Instant};

/// In the environment of a case and so of all that it starts: tells its processes from others'.
pub(crate) const MARKER: &str = "XTESTS_CASE";

/// Threads end a little after whoever waited for their last word.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

/// What a process has.
#[derive(Debug)]
pub(crate) struct Inventory {
    threads: Vec<String>,
    descriptors: Vec<String>,
    processes: Vec<String>,
    /// Memory that is shared with others.
    shared: Vec<String>,
}

impl Inventory {
    /// Whether it can be taken on this platform.
    pub(crate) fn is_possible() -> bool {
        cfg!(target_os = "linux")
    }

    /// Takes it of this process, now; `None` where that cannot be done.
    pub(crate) fn take() -> Option<Self> {
        let mut inventory = Self {
            threads: sys::threads()?,
            descriptors: sys::descriptors()?,
            processes: sys::processes()?,
            shared: sys::shared_memory()?,
        };
        inventory.threads.sort_unstable();
        inventory.descriptors.sort_unstable();
        Some(inventory)
    }

    /// How many processes there are beside this one.
    #[cfg(target_os = "linux")]
    pub(crate) fn processes(&self) -> usize {
        self.processes.len()
    }

    /// How many threads there are.
    #[cfg(target_os = "linux")]
    pub(crate) fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Looks until nothing is there that was not there before, or says what is.
    pub(crate) fn check(&self) -> Result<(), String> {
        let deadline = Instant::now() + SETTLES_WITHIN;
        loop {
            let Some(now) = Self::take() else { return Ok(()) };
            let same_size = |now: &[String], before: &[String]| now.len() == before.len();
            if same_size(&now.threads, &self.threads)
                && same_size(&now.descriptors, &self.descriptors)
                && same_size(&now.shared, &self.shared)
                && same_size(&now.processes, &self.processes)
            {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.difference(&now));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn difference(&self, now: &Self) -> String {
        format!(
            "the case left something behind\n processes: {:?}\n threads before: {:?}\n threads now:    {:?}\n \
             descriptors before: {:?}\n descriptors now:    {:?}\n shared memory before: {:?}\n \
             shared memory now:    {:?}",
            now.processes, self.threads, now.threads, self.descriptors, now.descriptors, self.shared, now.shared
        )
    }
}

/// This process and what descends from it, and what their threads wait for, where the system tells.
pub(crate) fn who_is_there() -> Vec<String> {
    let mut all = vec![sys::describe(std::process::id())];
    all.extend(sys::processes().into_iter().flatten());
    all
}

#[cfg(target_os = "linux")]
pub(crate) mod sys {
    use std::fs;

    use super::MARKER;
    use crate::processes;

    /// The names of this process's threads.
    pub(crate) fn threads() -> Option<Vec<String>> {
        threads_of(std::process::id())
    }

    fn threads_of(pid: u32) -> Option<Vec<String>> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let comm = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
        Some(tasks.flatten().filter_map(comm).map(|name| name.trim().to_owned()).collect())
    }

    /// What this process's descriptors refer to.
    pub(crate) fn descriptors() -> Option<Vec<String>> {
        let fds = fs::read_dir("/proc/self/fd").ok()?;
        // One of them is the directory that is being read; it is there each time.
        let target = |fd: fs::DirEntry| {
            let target =
                fs::read_link(fd.path()).map_or_else(|error| error.to_string(), |to| to.display().to_string());
            format!("{} {target}", fd.file_name().display())
        };
        Some(fds.flatten().map(target).collect())
    }

    /// What this process has mapped that others may have too.
    pub(crate) fn shared_memory() -> Option<Vec<String>> {
        let maps = fs::read_to_string("/proc/self/maps").ok()?;
        let is_shared = |line: &&str| line.split(' ').nth(1).is_some_and(|rights| rights.ends_with('s'));
        Some(maps.lines().filter(is_shared).map(str::to_owned).collect())
    }

    /// This process's children, dead ones included, and whatever else descends from its case.
    pub(crate) fn processes() -> Option<Vec<String>> {
        let marker = std::env::var(MARKER).ok()?;
        let own = std::process::id();
        let mut found = Vec::new();
        for (pid, parent) in all()? {
            if pid != own && (parent == own || has_marker(pid, &marker)) {
                found.push(describe(pid));
            }
        }
        Some(found)
    }

    /// The processes of the case that runs under this marker, but for those that are dead and not reaped.
    pub(crate) fn processes_of(marker: &str) -> Vec<u32> {
        all().unwrap_or_default().into_iter().map(|(pid, _)| pid).filter(|pid| has_marker(*pid, marker)).collect()
    }

    /// What the process is, and what its threads are waiting for.
    pub(crate) fn describe(pid: u32) -> String {
        let state = processes::state(pid).unwrap_or('?');
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
        let threads: Vec<_> = fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|task| {
                let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
                let syscall = read("syscall");
                let syscall = syscall.split_whitespace().next().unwrap_or("?").to_owned();
                format!("{}: {} in system call {syscall}", read("comm").trim(), read("wchan"))
            })
            .collect();
        format!("{pid} (state {state}, {}) {threads:?}", command.trim())
    }

    /// Every process and its parent.
    fn all() -> Option<Vec<(u32, u32)>> {
        let entries = fs::read_dir("/proc").ok()?.flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        Some(pids.filter_map(|pid| Some((pid, processes::parent_of(pid)?))).collect())
    }

    fn has_marker(pid: u32, marker: &str) -> bool {
        let wanted = format!("{MARKER}={marker}");
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    }

    /// Kills a process that belongs to this process's case, if there is one of this number.
    pub(crate) fn kill_if_there(pid: u32) -> bool {
        use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

        let Ok(marker) = std::env::var(MARKER) else { return false };
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        // Opened first: if the number changes hands before the look at it, the signal finds nobody.
        let Some(process) = number.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return false };
        has_marker(pid, &marker) && pidfd_send_signal(process, Signal::KILL).is_ok()
    }

    /// Ends what a killed case has left.
    pub(crate) fn kill(pid: u32) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
            // It may have ended meanwhile, which is as well.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) mod sys {
    pub(crate) fn threads() -> Option<Vec<String>> {
        None
    }

    pub(crate) fn descriptors() -> Option<Vec<String>> {
        None
    }

    pub(crate) fn processes() -> Option<Vec<String>> {
        None
    }

    pub(crate) fn shared_memory() -> Option<Vec<String>> {
        None
    }

    pub(crate) fn processes_of(_marker: &str) -> Vec<u32> {
        Vec::new()
    }

    pub(crate) fn describe(pid: u32) -> String {
        pid.to_string()
    }

    /// Kills a child of this process: while nobody has waited for it, its number is its own.
    #[cfg(unix)]
    pub(crate) fn kill_if_there(pid: u32) -> bool {
        use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), look).is_ok() && kill_process(pid, Signal::KILL).is_ok()
    }

    /// Kills a descendant of this process.
    #[cfg(windows)]
    pub(crate) fn kill_if_there(pid: u32) -> bool {
        crate::sys::kill_descendant(pid)
    }

    pub(crate) fn kill(_pid: u32) {}
}
