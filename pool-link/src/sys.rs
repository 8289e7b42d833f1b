//! The unsafe code of this crate on Unix: reading into memory that is not initialised, and mapping.

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

#[cfg(any(target_os = "linux", target_os = "android"))]
pub use words::SharedWords;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod words {
    use std::io;
    use std::os::fd::AsFd;
    use std::ptr::{self, NonNull};
    use std::sync::atomic::AtomicU64;

    use rustix::mm::{MapFlags, ProtFlags};

    /// The beginning of a file, mapped and shared, as `N` atomic words.
    #[derive(Debug)]
    pub struct SharedWords<const N: usize> {
        words: NonNull<[AtomicU64; N]>,
    }

    // SAFETY: The mapping belongs to no thread, and all access to it is atomic.
    unsafe impl<const N: usize> Send for SharedWords<N> {}
    // SAFETY: As above; `&SharedWords` gives out nothing but `&[AtomicU64; N]`.
    unsafe impl<const N: usize> Sync for SharedWords<N> {}

    impl<const N: usize> SharedWords<N> {
        /// Maps `file`, which must be that long, and sealed against becoming shorter: the caller has checked
        /// it, or has made it so.
        pub fn map(file: impl AsFd) -> io::Result<Self> {
            let (len, flags) = (size_of::<[AtomicU64; N]>(), ProtFlags::READ | ProtFlags::WRITE);
            // SAFETY: With a null hint the kernel chooses a range that nothing else uses.
            let start = unsafe { rustix::mm::mmap(ptr::null_mut(), len, flags, MapFlags::SHARED, file, 0) }?;
            let words = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
            Ok(Self { words })
        }

        /// The words.
        pub fn as_array(&self) -> &[AtomicU64; N] {
            // SAFETY: `map` made this mapping, readable, writable, page-aligned and long enough, and it lives as
            // long as `self`. Any bits are valid words, and whoever else maps the file can only change them
            // as atomics allow for.
            unsafe { self.words.as_ref() }
        }
    }

    impl<const N: usize> Drop for SharedWords<N> {
        fn drop(&mut self) {
            // SAFETY: `map` made exactly this mapping, and no reference into it outlives `self`.
            let unmapped = unsafe { rustix::mm::munmap(self.words.as_ptr().cast(), size_of::<[AtomicU64; N]>()) };
            debug_assert_eq!(unmapped, Ok(()));
        }
    }
}
