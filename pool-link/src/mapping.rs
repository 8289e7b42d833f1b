//! Memory that is shared with another process. Of it, nothing but atomic words is ever referenced; everything else is copied
//! through raw pointers.

#![expect(unsafe_code, reason = "the one module whose purpose this is")]

#[cfg(not(windows))]
mod mmap;
#[cfg(windows)]
mod section;

#[cfg(not(windows))]
use mmap as system;
#[cfg(windows)]
use section as system;
#[cfg(windows)]
pub(crate) use section::create;

use std::io;
#[cfg(not(windows))]
use std::os::fd::AsFd as AsFile;
#[cfg(windows)]
use std::os::windows::io::AsHandle as AsFile;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

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
    /// Maps `file`, which must be that long and never become shorter: on Linux the caller has checked that it is sealed, or
    /// has sealed it; on Windows a section of the page file has its size for good.
    ///
    /// # Errors
    /// What the system says; on Windows also if the section is shorter.
    pub fn new(file: impl AsFile) -> io::Result<Self> {
        let start = system::map(file, N)?;
        Ok(Self { start: start.cast() })
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
        unsafe { system::unmap(self.start.cast(), N) };
    }
}
