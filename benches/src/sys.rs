//! The few calls that are not safe, behind functions that are.

use std::sync::atomic::AtomicU32;

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

/// So many words that a forked child shares, all zero. They stay until the process ends.
///
/// # Panics
/// If the system refuses.
pub(crate) fn shared_words(count: usize) -> &'static [AtomicU32] {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    let size = count * size_of::<AtomicU32>();
    // SAFETY: a new mapping at a place of the system's choice touches no memory that anybody has.
    let words = unsafe { mmap_anonymous(std::ptr::null_mut(), size, protection, flags) }.expect("some pages");
    // SAFETY: aligned to a page, as long as that, zeroed and never unmapped; nothing but atomics is done to it.
    unsafe { std::slice::from_raw_parts(words.cast(), count) }
}

/// Bytes that a forked child shares. They stay until the process ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedBytes {
    start: *mut u8,
    len: usize,
}

impl SharedBytes {
    /// So many, all zero.
    ///
    /// # Panics
    /// If the system refuses.
    pub(crate) fn new(len: usize) -> Self {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at a place of the system's choice touches no memory that anybody has.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), len, protection, flags) }.expect("some pages");
        Self { start: start.cast(), len }
    }

    /// # Panics
    /// If they do not fit there.
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        assert!(bytes.len() <= self.len && at <= self.len - bytes.len(), "they fit");
        let place = self.start.wrapping_add(at);
        // SAFETY: the bytes there are mapped, as asserted, and no reference is ever made to them. Should the other process
        // be at the same ones, some mixture of both is what they hold.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) }
    }

    /// # Panics
    /// If there are not so many there.
    pub(crate) fn read(&self, at: usize, to: &mut [u8]) {
        assert!(to.len() <= self.len && at <= self.len - to.len(), "there are so many");
        let place = self.start.wrapping_add(at);
        // SAFETY: as in `write`; any value of a byte is one.
        unsafe { std::ptr::copy_nonoverlapping(place, to.as_mut_ptr(), to.len()) }
    }
}

/// Whose usage is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose {
    /// This process, the threads that have ended included.
    Own,
    /// Those children of this process that have ended and were waited for, and theirs.
    Children,
}

/// The processor time and context switches of this process or its children.
pub(crate) fn used(whose: Whose) -> crate::meter::Usage {
    let whose = match whose {
        Whose::Own => libc::RUSAGE_SELF,
        Whose::Children => libc::RUSAGE_CHILDREN,
    };
    let mut used = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: it may be written to, and is as large as the call expects.
    let result = unsafe { libc::getrusage(whose, used.as_mut_ptr()) };
    assert_eq!(result, 0, "getrusage: {}", std::io::Error::last_os_error());
    // SAFETY: the call has filled it.
    let used = unsafe { used.assume_init() };
    let us = |time: libc::timeval| time.tv_sec as f64 * 1e6 + time.tv_usec as f64;
    crate::meter::Usage {
        cpu_us: us(used.ru_utime) + us(used.ru_stime),
        switches: used.ru_nvcsw as f64 + used.ru_nivcsw as f64,
    }
}
