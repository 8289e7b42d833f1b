//! The calls that have no safe wrapper: which signals this process and the calling thread take, whether the kernel calls this
//! process privileged, what stands behind a descriptor's number, and the environment.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

/// Lets no signal be handled on the calling thread: handlers are not ours and may need more stack than ours.
pub(super) fn block_signals() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is writable; the call fills it.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    mask(&set);
}

/// Lets every signal be handled on the calling thread, and by the threads and processes it will start.
pub(super) fn unblock_signals() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` is writable; the call fills it.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    mask(&set);
}

/// Cannot fail: the only error there is is an unknown first argument.
fn mask(set: &MaybeUninit<libc::sigset_t>) {
    // SAFETY: both callers have filled `set`, and no old set is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut()) };
}

/// Lets the signals that ask a process to end do so, also where the parent ignores them; and lets no terminal stop this
/// process.
///
/// A worker is in a process group of its own, which is never a terminal's foreground: one that reads from the terminal,
/// sets it up, or, after `stty tostop`, writes to it, would be stopped, and nobody knows to let it go on. As it is,
/// writing works, and reading is an error.
pub(super) fn take_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        let mut old = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: nothing is set, and `old` is writable.
        unsafe { libc::sigaction(signal, ptr::null(), old.as_mut_ptr()) };
        // SAFETY: the call has filled it; besides, all zeroes are a value of it.
        let old = unsafe { old.assume_init() };
        if old.sa_sigaction == libc::SIG_IGN {
            dispose(signal, libc::SIG_DFL);
        }
    }
    dispose(libc::SIGTTIN, libc::SIG_IGN);
    dispose(libc::SIGTTOU, libc::SIG_IGN);
}

/// Sets what happens on `signal`: its default, or nothing.
fn dispose(signal: i32, to: libc::sighandler_t) {
    // SAFETY: it is one of the two values that are no handler.
    unsafe { libc::signal(signal, to) };
}

/// Puts a copy of `with` in the place of descriptor `number`, not to be inherited. Only to be used for numbers
/// whose owners know that this happens.
pub(super) fn replace(number: RawFd, with: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `with` is open. Whoever registered `number` has agreed to this.
    let done = unsafe { libc::dup2(with.as_raw_fd(), number) };
    if done == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `number` is open now; the call changes nothing but the flag.
    match unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Linux's number for it on every architecture that `std` supports; the `libc` crate does not have it.
#[cfg(target_os = "linux")]
const F_SETSIG: i32 = 10;

/// Has the kernel end this process as soon as something comes over `socket`, its end included: like a thread that
/// reads, but without the thread, and so that a stopped process is ended too.
#[cfg(target_os = "linux")]
pub(super) fn die_by(socket: BorrowedFd<'_>) -> io::Result<()> {
    let fcntl = |command, argument: i32| {
        // SAFETY: the descriptor is open, and these commands take a number: none touches memory of this process.
        match unsafe { libc::fcntl(socket.as_raw_fd(), command, argument) } {
            -1 => Err(io::Error::last_os_error()),
            value => Ok(value),
        }
    };
    // The owner is kept as the process, not as a number that could be somebody else's some day.
    fcntl(libc::F_SETOWN, rustix::process::getpid().as_raw_pid())?;
    fcntl(F_SETSIG, libc::SIGKILL)?;
    let flags = fcntl(libc::F_GETFL, 0)?;
    fcntl(libc::F_SETFL, flags | libc::O_ASYNC)?;
    Ok(())
}

/// Takes a variable out of this process's environment, so that no process further down inherits it; but leaves it
/// where this process may have threads, which may be reading it.
pub fn forget_variable(name: &str) {
    #[cfg(target_os = "linux")]
    if crate::threads().is_ok_and(|threads| threads == 1) {
        // SAFETY: nobody else reads the environment, for this is the only thread, as was just counted; and what is
        // no thread yet must be started by this one.
        unsafe { std::env::remove_var(name) };
    }
    // Elsewhere nobody tells how many threads there are.
    let _ = name;
}

/// Whether this process has rights that its starter may not have.
#[cfg(target_os = "linux")]
pub(crate) fn is_elevated() -> bool {
    // SAFETY: the call reads what the kernel left at the start of the process, and takes any number.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Whether this process has rights that its starter may not have.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_elevated() -> bool {
    use rustix::process::{getegid, geteuid, getgid, getuid};
    getuid() != geteuid() || getgid() != getegid()
}
