//! The calls that have no safe wrapper: `fork`, leaving without exit handlers, signal dispositions.

use std::io;
use std::mem::MaybeUninit;
#[cfg(target_os = "linux")]
use std::os::fd::BorrowedFd;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::Pid;

use crate::alone::Alone;

/// Forks: `None` in the child.
pub(crate) fn fork(_: &Alone) -> io::Result<Option<Pid>> {
    // SAFETY: there is no other thread whose locks the child would miss, or somebody has promised that it does
    // not matter: that is what `Alone` says.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// A child that has ended, if there is one; it is not reaped by this.
///
/// # Errors
/// If there are no children.
pub(crate) fn ended_child() -> io::Result<Option<Pid>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is writable, and all zeroes are a value of it, which stays where no child has ended.
    while unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), how) } != 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: it is filled, or all zeroes still.
    let info = unsafe { info.assume_init() };
    // SAFETY: it tells of a child's end, or of process 0, which is none.
    Ok(Pid::from_raw(unsafe { info.si_pid() }))
}

/// Kills what is left of the group that `process` leads, or has led: nobody else, however long ago that was. Linux can
/// since 6.9; before, this does nothing.
#[cfg(target_os = "linux")]
pub(crate) fn kill_group_of(process: BorrowedFd<'_>) {
    const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;
    let none = ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, the arguments are of the types that the call takes, and a null pointer means that
    // there is no more to tell of the signal.
    unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            libc::SIGKILL,
            none,
            PIDFD_SIGNAL_PROCESS_GROUP,
        )
    };
}

/// Ends this process without exit handlers, destructors or flushing.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: it takes any number.
    unsafe { libc::_exit(code) }
}

/// Writes out what C's standard output holds back.
pub(crate) fn flush_c_stdio() {
    // SAFETY: no stream means all streams.
    unsafe { libc::fflush(ptr::null_mut()) };
}

/// Undoes what the program has set up for signals that come from outside, as executing a program does: what it
/// handles gets its default again, what it ignores stays ignored, and nothing is blocked.
///
/// A handler may write to a pipe, say, whose other end is read in the process that this one is a copy of. Those
/// for faults stay: they are about this process itself.
pub(crate) fn reset_signals() {
    for signal in (1..SIGNALS).filter(|signal| !FAULTS.contains(signal)) {
        if matches!(disposition(signal), Some(libc::SIG_DFL | libc::SIG_IGN) | None) {
            continue;
        }
        set_disposition(signal, libc::SIG_DFL);
    }
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `none` is writable; the call fills it.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: `none` is filled, and no old set is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut()) };
}

/// What is to happen on `signal`; `None` if there is no such signal.
fn disposition(signal: i32) -> Option<libc::sighandler_t> {
    let mut old = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is set, and `old` is writable.
    match unsafe { libc::sigaction(signal, ptr::null(), old.as_mut_ptr()) } {
        // SAFETY: the call has filled it; besides, all zeroes are a value of it.
        0 => Some(unsafe { old.assume_init() }.sa_sigaction),
        _ => None,
    }
}

/// Sets what happens on `signal`: a default, nothing, or [`somebody_ended`].
fn set_disposition(signal: i32, to: libc::sighandler_t) {
    let action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeroes are a value of it: the default, no flags, no signal blocked meanwhile.
    let mut action = unsafe { action.assume_init() };
    action.sa_sigaction = to;
    action.sa_flags = libc::SA_RESTART | libc::SA_NOCLDSTOP;
    // SAFETY: `action` is a value whose handler, if it is one, is of the right type and does only what is allowed
    // in a handler. The old one is not asked for. A signal that cannot be set is left alone.
    unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
}

/// Makes the end of a child readable, and on Linux that of the parent, which the kernel tells of by `SIGCONT`. One at a
/// time in a process, which must be the owner of these signals.
#[derive(Debug)]
pub(crate) struct FamilyWatch {
    reader: OwnedFd,
    /// Kept open for the handler.
    _writer: OwnedFd,
    were_ignored: [bool; TOLD_BY.len()],
}

/// What tells.
#[cfg(target_os = "linux")]
const TOLD_BY: [libc::c_int; 2] = [libc::SIGCHLD, libc::SIGCONT];
#[cfg(not(target_os = "linux"))]
const TOLD_BY: [libc::c_int; 1] = [libc::SIGCHLD];

/// Where the handler writes.
static BELL: AtomicI32 = AtomicI32::new(-1);

impl FamilyWatch {
    /// `reader` and `writer` are a pipe's, both non-blocking.
    pub(crate) fn start(reader: OwnedFd, writer: OwnedFd) -> Self {
        BELL.store(writer.as_raw_fd(), Ordering::Relaxed);
        let were_ignored = TOLD_BY.map(|signal| disposition(signal) == Some(libc::SIG_IGN));
        for signal in TOLD_BY {
            set_disposition(signal, somebody_ended as *const () as libc::sighandler_t);
        }
        Self { reader, _writer: writer, were_ignored }
    }

    /// Has something to read when a child or the parent may have ended since it was read last.
    pub(crate) fn reader(&self) -> &OwnedFd {
        &self.reader
    }
}

impl Drop for FamilyWatch {
    fn drop(&mut self) {
        // Before the pipe is closed.
        for (signal, was_ignored) in TOLD_BY.into_iter().zip(self.were_ignored) {
            set_disposition(signal, if was_ignored { libc::SIG_IGN } else { libc::SIG_DFL });
        }
        BELL.store(-1, Ordering::Relaxed);
    }
}

extern "C" fn somebody_ended(_: libc::c_int) {
    let error = errno();
    // SAFETY: the call gave a pointer to this thread's own variable.
    let saved = unsafe { *error };
    // SAFETY: one byte is read from a place that has one. `write` is allowed in a handler, and the descriptor is
    // open for as long as this handler is set. If the pipe is full, there is something to read already.
    unsafe { libc::write(BELL.load(Ordering::Relaxed), [0u8].as_ptr().cast(), 1) };
    // SAFETY: as above. The code that was interrupted may be about to look at it.
    unsafe { *error = saved };
}

/// Where the last error's number is kept.
fn errno() -> *mut libc::c_int {
    cfg_if::cfg_if! {
        if #[cfg(any(target_vendor = "apple", target_os = "freebsd"))] {
            // SAFETY: it has no conditions.
            unsafe { libc::__error() }
        } else if #[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))] {
            // SAFETY: it has no conditions.
            unsafe { libc::__errno() }
        } else {
            // SAFETY: it has no conditions.
            unsafe { libc::__errno_location() }
        }
    }
}

/// One more than the last signal there is on any system we know; asking for one that is not is harmless.
const SIGNALS: i32 = 65;

/// Signals that a process raises by what it does itself; and the two that nobody can handle.
const FAULTS: &[i32] = &[
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGSYS,
    libc::SIGKILL,
    libc::SIGSTOP,
];
