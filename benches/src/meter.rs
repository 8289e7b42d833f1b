//! What a measurement costs besides time: processor time, context switches, memory. Linux tells; elsewhere
//! nothing.

use std::time::Instant;

use crate::Result;
use crate::table::Figures;

/// What this process and all its descendants have used until now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) cpu_us: f64,
    pub(crate) switches: f64,
}

/// Time and usage of one stretch of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub(crate) seconds: f64,
    usage: Option<Usage>,
}

impl Stretch {
    /// Runs `work`. What it takes to look at the system is outside of the time.
    pub(crate) fn of(work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let before = system::usage();
        let start = Instant::now();
        work()?;
        let seconds = start.elapsed().as_secs_f64();
        let usage = before.zip(system::usage()).map(|(before, after)| Usage {
            cpu_us: after.cpu_us - before.cpu_us,
            switches: after.switches - before.switches,
        });
        Ok(Self { seconds, usage })
    }

    /// The figure `case`: so much of something per second; and what one of the calls that this took has cost.
    pub(crate) fn rate(&self, figures: &mut Figures, case: &str, amount: f64, calls: usize) {
        figures.push(case, amount / self.seconds);
        self.costs(figures, case, calls);
    }

    /// What one of so many calls cost.
    pub(crate) fn costs(&self, figures: &mut Figures, case: &str, calls: usize) {
        if let Some(usage) = self.usage {
            figures.push(&format!("{case}.cpu"), usage.cpu_us / calls as f64);
            figures.push(&format!("{case}.switches"), usage.switches / calls as f64);
        }
    }
}

pub(crate) use system::{busy_seconds, load, processor, system_name, used_by_children};

/// How many seconds of processor time one second brings, to two threads that do nothing but count: 2, if this
/// machine really has two processors just now. (A virtual one sometimes has not.)
pub(crate) fn two_processors() -> f64 {
    const STEPS: u64 = 30_000_000;
    let count = || {
        let start = Instant::now();
        let sum = (0..STEPS).fold(0, |sum: u64, n| std::hint::black_box(sum.wrapping_mul(31) ^ n));
        std::hint::black_box(sum);
        start.elapsed().as_secs_f64()
    };
    let one = count();
    let start = Instant::now();
    let other = std::thread::spawn(count);
    count();
    // A thread that only counts does not panic.
    let _ = other.join();
    2.0 * one / start.elapsed().as_secs_f64()
}

#[cfg(target_os = "linux")]
pub(crate) mod system {
    //! By `/proc` and `getrusage`.

    use std::collections::{HashMap, HashSet};
    use std::fs::read_to_string;
    use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
    use std::thread::JoinHandle;
    use std::time::Duration;

    use super::Usage;
    use crate::sys;

    /// Of this process by `getrusage`, which counts threads that have ended, too; of its descendants by what each
    /// thread's `schedstat` and `status` say.
    pub(crate) fn usage() -> Option<Usage> {
        let own = sys::used(sys::Whose::Own);
        let mut sum = Usage { cpu_us: own.cpu_us, switches: own.switches };
        for pid in descendants(std::process::id()) {
            let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for task in tasks.flatten() {
                let path = task.path();
                let on_cpu = read_to_string(path.join("schedstat")).ok()?;
                sum.cpu_us += on_cpu.split(' ').next()?.parse::<f64>().ok()? / 1e3;
                let status = read_to_string(path.join("status")).ok()?;
                sum.switches += field(&status, "voluntary_ctxt_switches:").unwrap_or(0.0)
                    + field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0.0);
            }
        }
        Some(sum)
    }

    fn field(status: &str, name: &str) -> Option<f64> {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// The processes that `root` started, and those they started.
    pub(crate) fn descendants(root: u32) -> Vec<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let Ok(stat) = read_to_string(entry.path().join("stat")) else { continue };
            // Behind the name, which may hold anything: its state, and its parent.
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
            children.entry(parent.unwrap_or(0)).or_default().push(pid);
        }
        let (mut found, mut next) = (Vec::new(), vec![root]);
        while let Some(pid) = next.pop() {
            let theirs = children.remove(&pid).unwrap_or_default();
            found.extend(&theirs);
            next.extend(theirs);
        }
        found
    }

    /// Resident memory, in bytes: what is the process's alone, and what it shares.
    #[derive(Clone, Copy, Debug, Default)]
    pub(crate) struct Rss {
        pub(crate) anon: f64,
        pub(crate) shmem: f64,
    }

    pub(crate) fn rss(pid: u32) -> Rss {
        let status = read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let bytes = |name| field(&status, name).unwrap_or(0.0) * 1024.0;
        Rss { anon: bytes("RssAnon:"), shmem: bytes("RssShmem:") }
    }

    /// How many descriptors this process has open.
    pub(crate) fn descriptors() -> f64 {
        std::fs::read_dir("/proc/self/fd").map_or(0.0, |fds| fds.count() as f64)
    }

    /// Looks every millisecond how much memory this process and each of those below it have.
    pub(crate) struct Peak {
        stop: Sender<()>,
        thread: JoinHandle<(Rss, Rss)>,
    }

    impl Peak {
        pub(crate) fn watch() -> Self {
            let (stop, stopped) = channel();
            let own = std::process::id();
            let workers: HashSet<u32> = descendants(own).into_iter().collect();
            let look = move || {
                let (mut parent, mut worker) = (Rss::default(), Rss::default());
                loop {
                    raise(&mut parent, rss(own));
                    workers.iter().for_each(|pid| raise(&mut worker, rss(*pid)));
                    if stopped.recv_timeout(Duration::from_millis(1)) != Err(RecvTimeoutError::Timeout) {
                        return (parent, worker);
                    }
                }
            };
            Self { stop, thread: std::thread::spawn(look) }
        }

        /// The most that this process had, and the most that any worker had.
        pub(crate) fn end(self) -> (Rss, Rss) {
            drop(self.stop);
            self.thread.join().unwrap_or_default()
        }
    }

    fn raise(most: &mut Rss, now: Rss) {
        most.anon = most.anon.max(now.anon);
        most.shmem = most.shmem.max(now.shmem);
    }

    /// The seconds that all processors together have been busy since the system started.
    pub(crate) fn busy_seconds() -> Option<f64> {
        let stat = read_to_string("/proc/stat").ok()?;
        let ticks: Vec<f64> = stat.lines().next()?.split_whitespace().skip(1).flat_map(str::parse).collect();
        // user, nice, system, (idle, iowait,) irq, softirq; in hundredths on every Linux.
        Some([0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum::<f64>() / 100.0)
    }

    /// The seconds of processor time that children of this process used which have ended.
    pub(crate) fn used_by_children() -> f64 {
        sys::used(sys::Whose::Children).cpu_us / 1e6
    }

    /// The system's name and version.
    pub(crate) fn system_name() -> String {
        let version = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        format!("Linux {}", version.trim())
    }

    /// What kind the processors are, in brackets, and whether they are virtual; nothing where it is not told.
    pub(crate) fn processor() -> String {
        let info = read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name| {
            let line = info.lines().find(|line| line.starts_with(name));
            line.and_then(|line| Some(line.split_once(':')?.1.trim()))
        };
        let is_virtual = field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
        let said = [field("model name"), is_virtual.then_some("virtual")];
        match said.into_iter().flatten().collect::<Vec<_>>()[..] {
            [] => String::new(),
            ref said => format!(" ({})", said.join(", ")),
        }
    }

    /// The load average of the last minute.
    pub(crate) fn load() -> String {
        let text = read_to_string("/proc/loadavg").unwrap_or_default();
        text.split(' ').next().unwrap_or("unknown").to_owned()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    //! Not told here.

    use super::Usage;

    pub(crate) fn usage() -> Option<Usage> {
        None
    }

    pub(crate) fn busy_seconds() -> Option<f64> {
        None
    }

    pub(crate) fn used_by_children() -> f64 {
        0.0
    }

    pub(crate) fn system_name() -> String {
        std::env::consts::OS.to_owned()
    }

    pub(crate) fn processor() -> String {
        String::new()
    }

    pub(crate) fn load() -> String {
        "unknown".to_owned()
    }
}
