//! What only the C interface has.

/// Leaves a copy of this process behind, which keeps all its descriptors, and returns there as `true`.
///
/// For a process of one thread.
pub(crate) fn fork() -> bool {
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count).ok();
    // An emulator's own thread is seen to by the emulator.
    assert_eq!(threads, Some(1 + usize::from(xtests::processes::is_emulated())));
    // SAFETY: this process has one thread, so nothing is half-changed in the copy.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    child == 0
}
