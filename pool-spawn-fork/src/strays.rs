//! What dead workers have left: processes that they had started, whatever group or session those have gone to.
//!
//! On Linux a server is a *subreaper*, and so is each worker: what a worker's processes orphan becomes that worker's
//! child, and what a worker leaves when it ends becomes the server's. So a child of the server's is a worker, or a stray:
//! nobody's but a dead worker's.
//!
//! A program that has started processes before its server began is spared that: what those leave could not be told from
//! strays. Elsewhere there are no subreapers. In both cases no strays are known.

/// Whether there may be strays.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    #[cfg(target_os = "linux")]
    are_known: bool,
}

/// Has what this process's own processes leave become its children.
pub(crate) fn adopt() {
    #[cfg(target_os = "linux")]
    // A kernel that refuses knows of no subreapers; then what leaves its worker's group is out of reach.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, waitid};

    use super::{Strays, adopt};

    impl Strays {
        /// To be called when there is no worker yet.
        pub(crate) fn watch() -> Self {
            let are_known = children().is_empty();
            if are_known {
                adopt();
            }
            Self { are_known }
        }

        /// Kills all there are; whether there are any. What one of them leaves will be a stray in its turn.
        pub(crate) fn kill(&self, is_worker: impl Fn(Pid) -> bool) -> bool {
            if !self.are_known {
                return false;
            }
            let mut strays = children();
            strays.retain(|child| !is_worker(*child));
            for stray in &strays {
                // Not reaped, so the number is its own. It may refuse if it has changed its rights.
                let _ = kill_process(*stray, Signal::KILL);
            }
            !strays.is_empty()
        }
    }

    /// The children of this process, which has one thread. None are found where there is no `/proc`.
    fn children() -> Vec<Pid> {
        let own = getpid().as_raw_pid();
        let pid = |name: &str| name.parse().ok().and_then(Pid::from_raw);
        let mut found: Vec<Pid> = match fs::read_to_string(format!("/proc/self/task/{own}/children")) {
            Ok(list) => list.split_ascii_whitespace().filter_map(pid).collect(),
            // Some kernels do not tell, and a `/proc` of another namespace has other numbers: whoever it may be.
            Err(_) => {
                let all = fs::read_dir("/proc").into_iter().flatten().flatten();
                all.filter_map(|entry| entry.file_name().to_str().and_then(pid)).collect()
            }
        };
        // Nobody is taken for a child whom the kernel does not let this process wait for.
        found.retain(|pid| waitid(WaitId::Pid(*pid), LOOK).is_ok());
        found
    }

    /// Without reaping, and without waiting.
    const LOOK: WaitIdOptions = WaitIdOptions::EXITED.union(WaitIdOptions::NOWAIT).union(WaitIdOptions::NOHANG);
}

#[cfg(not(target_os = "linux"))]
impl Strays {
    pub(crate) fn watch() -> Self {
        Self::default()
    }

    pub(crate) fn kill(&self, _: impl Fn(rustix::process::Pid) -> bool) -> bool {
        false
    }
}
