//! Mapping on Linux.

use std::ffi::c_void;
use std::io;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, ProtFlags};

/// Maps the first `len` bytes of `file`, to read and to write, shared.
pub(super) fn map(file: impl AsFd, len: usize) -> io::Result<NonNull<c_void>> {
    let flags = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: With a null hint the kernel chooses a range that nothing else uses.
    let start = unsafe { rustix::mm::mmap(ptr::null_mut(), len, flags, MapFlags::SHARED, file, 0) }?;
    Ok(NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?)
}

/// Takes a mapping away.
///
/// # Safety
/// [`map`] must have made it, with this length, and nobody may use it any more.
pub(super) unsafe fn unmap(start: NonNull<c_void>, len: usize) {
    // SAFETY: The caller's obligation is the same.
    let unmapped = unsafe { rustix::mm::munmap(start.as_ptr(), len) };
    debug_assert_eq!(unmapped, Ok(()));
}
