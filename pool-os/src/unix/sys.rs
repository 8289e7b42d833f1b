//! The calls that have no safe wrapper: which signals the calling thread takes, and whether the kernel calls
//! this process privileged.

use std::mem::MaybeUninit;
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
