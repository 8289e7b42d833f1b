//! An allocator that counts.

#![expect(unsafe_code, reason = "an allocator's methods are")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

#[global_allocator]
static COUNTING: Counting = Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// How often this process has asked for memory, in all its threads.
pub(crate) fn allocations() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// The system's, and a count of what is asked of it. That something grows counts as well.
struct Counting;

// SAFETY: every method is the system's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: what the caller promises is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: what the caller promises is passed on.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: what the caller promises is passed on.
        unsafe { System.realloc(place, layout, size) }
    }
}
