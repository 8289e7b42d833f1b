//! A started child: to signal it, to wait for it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use super::bootstrap;
use super::lifeline::Lifeline;
#[cfg(target_os = "linux")]
use super::parent_fds::ParentFd;
use crate::launch::{Ended, LaunchError};
use crate::parcel::{Parcel, Signal};

/// Starts `command` with `parcel` waiting on its standard input.
pub(crate) fn launch(mut command: Command, parcel: Parcel) -> Result<Running, LaunchError> {
    let (lifeline, stdin) = bootstrap::pack(parcel)?;
    // In a group of its own, a worker does not get the terminal's Ctrl-C: that is for the parent to decide on.
    command.stdin(Stdio::from(stdin)).process_group(0);
    let process = command.spawn().map_err(LaunchError::Spawn)?;
    let pid = Pid::from_child(&process);
    let target = Arc::new(Target::Guarded { pid, reaped: Mutex::new(false) });
    // `command` is dropped here, and with it our copy of the child's end.
    Ok(Running { process, lifeline, target })
}

/// A started child, for whoever wants to signal it. Dropping it does nothing to the child.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    target: Arc<Target>,
}

/// What a signal is aimed at, so that it never hits a process that has inherited the child's number.
#[derive(Debug)]
enum Target {
    /// The process itself.
    #[cfg(target_os = "linux")]
    Exact(ParentFd),
    /// Its number, which stays its own until somebody waits for it; that is done under this lock.
    Guarded { pid: Pid, reaped: Mutex<bool> },
}

impl Child {
    /// Its process id, for people to read.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Signals the child; nobody else, and with success, if it has ended already.
    ///
    /// # Errors
    /// If the operating system refuses: the child runs with other rights.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let signal = match signal {
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        let sent = match &*self.target {
            #[cfg(target_os = "linux")]
            Target::Exact(process) => rustix::process::pidfd_send_signal(process, signal),
            Target::Guarded { pid, reaped } => {
                let reaped = reaped.lock().unwrap_or_else(PoisonError::into_inner);
                if *reaped { Ok(()) } else { kill_process(*pid, signal) }
            }
        };
        match sent {
            Err(Errno::SRCH) => Ok(()),
            sent => Ok(sent?),
        }
    }
}

/// A started child, for whoever waits for it.
#[derive(Debug)]
pub(crate) struct Running {
    process: std::process::Child,
    lifeline: Lifeline,
    target: Arc<Target>,
}

impl Running {
    pub(crate) fn child(&self) -> Child {
        Child { pid: self.process.id(), target: Arc::clone(&self.target) }
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Ended {
        // First without reaping, for as long as it takes; then that at once.
        self.end_group(WaitIdOptions::empty());
        let status = match &*self.target {
            #[cfg(target_os = "linux")]
            Target::Exact(_) => self.process.wait(),
            Target::Guarded { reaped, .. } => {
                let mut reaped = reaped.lock().unwrap_or_else(PoisonError::into_inner);
                *reaped = true;
                self.process.wait()
            }
        };
        self.ended(status)
    }

    /// Waits for the child's end, as `how` says, and kills what is left of the group that it leads: what it has
    /// started, and what that has. It is not reaped by this, so that the group's number is still its own.
    /// Whether it has ended, as far as can be told.
    fn end_group(&self, how: WaitIdOptions) -> Option<bool> {
        let pid = Pid::from_child(&self.process);
        let has_ended = loop {
            match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | how) {
                Err(Errno::INTR) => {}
                // If this fails, so will the reaping: the kernel keeps no children for us.
                known => break known.ok().map(|ended| ended.is_some()),
            }
        };
        if has_ended == Some(true) {
            // Mostly nobody is left. Who runs with other rights by now is not ours to end.
            let _ = kill_process_group(pid, rustix::process::Signal::KILL);
        }
        has_ended
    }

    /// What is to be reported; everything that was kept for the child is let go.
    pub(super) fn ended(self, status: io::Result<ExitStatus>) -> Ended {
        Ended { status, last_words: self.lifeline.last_words() }
    }
}

#[cfg(target_os = "linux")]
impl Running {
    /// Opens the process itself, to wait for and to signal from now on.
    ///
    /// # Errors
    /// Hands the child back if that cannot be done.
    pub(super) fn open(mut self) -> Result<Self, (Self, Errno)> {
        let pid = Pid::from_child(&self.process);
        // The number is still the child's: nobody has waited for it.
        match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
            Ok(process) => {
                self.target = Arc::new(Target::Exact(ParentFd::new(process)));
                Ok(self)
            }
            Err(error) => Err((self, error)),
        }
    }

    /// The process itself, if it was [opened](Self::open).
    pub(super) fn exact(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        match &*self.target {
            Target::Exact(process) => Some(std::os::fd::AsFd::as_fd(process)),
            Target::Guarded { .. } => None,
        }
    }

    /// Whether it has ended: reaps it then.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        match self.end_group(WaitIdOptions::NOHANG) {
            // It may end in this very moment: its group comes first.
            Some(false) => Ok(None),
            Some(true) | None => self.process.try_wait(),
        }
    }

    /// Ends it and waits for that.
    pub(super) fn kill(mut self) -> Ended {
        // It is not reaped yet, so its number is its own.
        let _ = self.process.kill();
        self.wait()
    }
}
