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

#[cfg(any(target_os = "linux", target_os = "android"))]
pub use mapping::Mapping;

/// Of the mapped memory, nothing but atomic words is ever referenced. Everything else is copied through raw pointers.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod mapping {
    use std::io;
    use std::os::fd::AsFd;
    use std::ptr::{self, NonNull};
    use std::sync::atomic::AtomicU64;

    use rustix::mm::{MapFlags, ProtFlags};

    /// The first `N` bytes of a file, mapped and shared.
    #[derive(Debug)]
    pub struct Mapping<const N: usize> {
        start: NonNull<u8>,
    }

    // SAFETY: The mapping belongs to no thread. Its words are accessed atomically, its other bytes copied only.
    unsafe impl<const N: usize> Send for Mapping<N> {}
    // SAFETY: As above. That copies of the same bytes do not meet is for the positions of a ring to see to; where a peer does
    // not keep to them, bytes come out mixed up, and nobody has believed them before.
    unsafe impl<const N: usize> Sync for Mapping<N> {}

    impl<const N: usize> Mapping<N> {
        /// Maps `file`, which must be that long, and sealed against becoming shorter: the caller has checked it, or has made
        /// it so.
        pub fn new(file: impl AsFd) -> io::Result<Self> {
            let flags = ProtFlags::READ | ProtFlags::WRITE;
            // SAFETY: With a null hint the kernel chooses a range that nothing else uses.
            let start = unsafe { rustix::mm::mmap(ptr::null_mut(), N, flags, MapFlags::SHARED, file, 0) }?;
            Ok(Self { start: NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)? })
        }

        /// Atomic words, from this byte on.
        pub fn words<const M: usize>(&self, at: usize) -> &[AtomicU64; M] {
            assert!(at.is_multiple_of(align_of::<AtomicU64>()) && at + size_of::<[AtomicU64; M]>() <= N);
            // SAFETY: The range lies in the mapping, which begins at a page.
            let words = unsafe { self.start.byte_add(at) }.cast();
            // SAFETY: `new` made this mapping, readable and writable, it lives as long as `self`, and these words are aligned
            // and within it. Any bits are valid words, and whoever else maps the file can only change them as atomics allow
            // for.
            unsafe { words.as_ref() }
        }

        /// Copies `bytes` into a ring of `size` bytes that begins at `ring`, from its byte `place` on and round its end.
        pub fn put(&self, ring: usize, size: usize, place: usize, bytes: &[u8]) {
            assert!(ring + size <= N && place < size && bytes.len() <= size);
            let (first, second) = bytes.split_at(bytes.len().min(size - place));
            // SAFETY: `place` is within the ring, and so within the mapping.
            let to = unsafe { self.start.add(ring + place) };
            // SAFETY: `first` ends with the ring at the latest. Our own memory does not overlap with the mapping.
            unsafe { ptr::copy_nonoverlapping(first.as_ptr(), to.as_ptr(), first.len()) };
            // SAFETY: The ring's beginning is within the mapping.
            let to = unsafe { self.start.add(ring) };
            // SAFETY: `second` is shorter than the ring. Our own memory does not overlap with the mapping.
            unsafe { ptr::copy_nonoverlapping(second.as_ptr(), to.as_ptr(), second.len()) };
        }

        /// Appends `count` bytes of such a ring to `to`.
        pub fn get(&self, ring: usize, size: usize, place: usize, count: usize, to: &mut Vec<u8>) {
            assert!(ring + size <= N && place < size && count <= size);
            to.reserve(count);
            let (first, room) = (count.min(size - place), to.spare_capacity_mut());
            // SAFETY: `place` is within the ring, and so within the mapping.
            let from = unsafe { self.start.add(ring + place) };
            // SAFETY: `first` bytes end with the ring at the latest, and `room` has space for `count`. Our own memory does not
            // overlap with the mapping.
            unsafe { ptr::copy_nonoverlapping(from.as_ptr(), room.as_mut_ptr().cast(), first) };
            // SAFETY: The ring's beginning is within the mapping.
            let from = unsafe { self.start.add(ring) };
            let rest = room[first..].as_mut_ptr().cast();
            // SAFETY: The rest is shorter than the ring, and fits what is left of `room`. As above.
            unsafe { ptr::copy_nonoverlapping(from.as_ptr(), rest, count - first) };
            let len = to.len() + count;
            // SAFETY: `count` bytes of the spare capacity were filled.
            unsafe { to.set_len(len) };
        }
    }

    impl<const N: usize> Drop for Mapping<N> {
        fn drop(&mut self) {
            // SAFETY: `new` made exactly this mapping, and no reference into it outlives `self`.
            let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), N) };
            debug_assert_eq!(unmapped, Ok(()));
        }
    }
}
