//! The one call that is not safe.

/// Forks a child, which runs `child` and ends; returns its process id.
///
/// # Panics
/// If the system refuses, or if this process has a second thread.
pub(crate) fn fork(child: impl FnOnce()) -> i32 {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux").count();
    assert_eq!(threads, 1, "only a process of one thread may fork");
    // SAFETY: this process has one thread, as asserted, so the child finds no lock held by another.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            child();
            std::process::exit(0);
        }
        pid => pid,
    }
}
