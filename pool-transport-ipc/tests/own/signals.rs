//! Signals for one thread, with a handler that lets system calls return: only the C interface has either.

use std::mem::MaybeUninit;
use std::ptr;

/// The calling thread, ready to be interrupted.
pub(crate) fn note_thread() -> libc::pid_t {
    extern "C" fn nothing(_: libc::c_int) {}

    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: all zeros is a valid `sigaction`: no flags (no SA_RESTART above all), an empty mask.
    let action = unsafe { action.assume_init_mut() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: `action` is a live, complete `sigaction`, and its handler does nothing, which is async-signal-safe.
    let result = unsafe { libc::sigaction(libc::SIGUSR1, action, ptr::null_mut()) };
    assert_eq!(result, 0);
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Interrupts what the thread is waiting in.
pub(crate) fn interrupt(thread: libc::pid_t) {
    let process = std::process::id();
    // SAFETY: plain numbers; the thread is one of this process and has a handler installed.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
    assert_eq!(result, 0);
}
