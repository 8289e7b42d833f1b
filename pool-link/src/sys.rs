//! The unsafe code of this crate on Unix, but for what is mapped: reading into memory that is not initialised.

#![expect(unsafe_code, reason = "the one module whose purpose this is")]

use std::io;
use std::os::fd::AsFd;

/// Reads at most `max` bytes and appends them to `to`, growing it if need be. 0: the end.
pub fn read_append(fd: impl AsFd, to: &mut Vec<u8>, max: usize) -> io::Result<usize> {
    to.reserve(max);
    let (read, _) = rustix::io::read(fd, &mut to.spare_capacity_mut()[..max])?;
    let len = read.len();
    let total = to.len() + len;
    // SAFETY: `read` is the initialised beginning of the spare capacity, `len` bytes long, so the first
    // `total` bytes of the vector are initialised and within its capacity.
    unsafe { to.set_len(total) };
    Ok(len)
}

/// Tells the system that all of the vector's spare room will be written to. If that is much, it comes in huge pages
/// then, which takes half of the time. It may refuse, which changes nothing.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn expect_use(of: &mut Vec<u8>) {
    use rustix::mm::{Advice, madvise};
    /// From this size on, what an allocator gives is seldom a part of something larger. (glibc's largest threshold.)
    const MUCH: usize = 32 << 20;
    const HUGE_PAGE: usize = 2 << 20;
    /// No page is larger than this, besides huge ones.
    const PAGE_MAX: usize = 64 << 10;
    let room = of.spare_capacity_mut();
    let end = room.as_ptr_range().end.addr() & !(PAGE_MAX - 1);
    let start = room.as_ptr().align_offset(HUGE_PAGE);
    if room.len() < MUCH || start >= room.len() {
        return;
    }
    let first = &raw mut room[start];
    // SAFETY: The range begins within the vector's spare room, at a page, and ends within it. How its pages are backed
    // changes nothing about what is in them.
    let _ = unsafe { madvise(first.cast(), end.saturating_sub(first.addr()), Advice::LinuxHugepage) };
}
