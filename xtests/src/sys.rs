//! What the system does for the runner, and the promise that Fork wants.

use std::path::Path;

use pool_core::Context;

/// The case's process ends when its runner does.
///
/// Without a thread, so that Fork finds none: the kernel sees to it. The runner's thread that has started this
/// process waits for it, so its end is the runner's.
#[cfg(target_os = "linux")]
pub(crate) fn end_with_the_runner() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Signal, set_parent_process_death_signal};

    set_parent_process_death_signal(Some(Signal::KILL)).expect("any process may ask for it");
    // The runner holds the other end of standard input. It may be gone already.
    let stdin = rustix::stdio::stdin();
    let mut ends = [PollFd::new(&stdin, PollFlags::empty())];
    if poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(0) {
        std::process::exit(crate::trial::FAILED);
    }
}

/// The case's process ends when its runner does: the runner holds the other end of its standard input.
#[cfg(not(target_os = "linux"))]
pub(crate) fn end_with_the_runner() {
    std::thread::spawn(|| {
        let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
        std::process::exit(crate::trial::FAILED);
    });
}

/// Lets every user write to `temp` in `root`: a case may become another one.
#[cfg(unix)]
pub(crate) fn open_to_all(root: &Path, temp: &Path) {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    set_permissions(root, Permissions::from_mode(0o711)).expect("set");
    set_permissions(temp, Permissions::from_mode(0o1777)).expect("set");
}

#[cfg(not(unix))]
pub(crate) fn open_to_all(_: &Path, _: &Path) {}

/// The same context, with a Fork that does not mind threads.
pub(crate) fn fork_with_threads(context: Context) -> Context {
    // SAFETY: the cases' calls use nothing that other threads of the case lock or change: they are fn items that
    // work on their arguments, on files, and on a gate's port. The allocator's locks are seen to by glibc, and what
    // the workers of a process pool need of their own is the library's to see to.
    let fork = unsafe { process_pool::spawn::Fork::new_unchecked() };
    context.start_method(fork)
}
