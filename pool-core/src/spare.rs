//! Buffers that large results lay in, kept for the next ones.
//!
//! Fresh memory costs a page fault for each page, together about as much as a copy; and an allocator tends to give back
//! at once what is large. They are freed with the last pool.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Allocators keep what is smaller.
const LEAST: usize = 32 << 10;
/// Larger ones are worth their own pages, which are huge where the system has such.
const MOST: usize = 4 << 20;
/// All of them.
const TOTAL: usize = 16 << 20;

static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
static POOLS: AtomicUsize = AtomicUsize::new(0);

/// An empty buffer with room for `len` bytes, if there is one that is not much larger; else one without room.
pub(crate) fn take(len: usize) -> Vec<u8> {
    if !(LEAST..=MOST).contains(&len) {
        return Vec::new();
    }
    with(|spare| {
        let at = spare.iter().rposition(|buffer| (len..=len * 2).contains(&buffer.capacity()))?;
        Some(spare.swap_remove(at))
    })
    .flatten()
    .unwrap_or_default()
}

fn give_back(mut buffer: Vec<u8>) {
    if !(LEAST..=MOST).contains(&buffer.capacity()) || POOLS.load(Ordering::Relaxed) == 0 {
        return;
    }
    buffer.clear();
    let surplus = with(|spare| {
        let mut kept: usize = spare.iter().map(Vec::capacity).sum();
        // What was not wanted for longest goes first.
        let mut surplus = Vec::new();
        while kept + buffer.capacity() > TOTAL {
            let oldest = spare.remove(0);
            kept -= oldest.capacity();
            surplus.push(oldest);
        }
        spare.push(buffer);
        surplus
    });
    drop(surplus);
}

/// Nobody waits for the lock: a process that was forked while another thread held it would do so for ever.
fn with<T>(f: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> Option<T> {
    SPARE.try_lock().ok().map(|mut spare| f(&mut spare))
}

/// A pool, as long as it is there.
#[derive(Debug)]
pub(crate) struct User(());

impl User {
    pub(crate) fn new() -> Self {
        POOLS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if POOLS.fetch_sub(1, Ordering::Relaxed) == 1 {
            drop(with(std::mem::take));
        }
    }
}

/// A buffer that is kept when it is done with.
#[derive(Debug, Default)]
pub(crate) struct Spare(Vec<u8>);

impl Spare {
    pub(crate) fn copied(bytes: &[u8]) -> Self {
        let mut buffer = take(bytes.len());
        buffer.extend_from_slice(bytes);
        Self(buffer)
    }
}

impl From<Vec<u8>> for Spare {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<Cow<'_, [u8]>> for Spare {
    fn from(bytes: Cow<'_, [u8]>) -> Self {
        match bytes {
            Cow::Owned(bytes) => bytes.into(),
            Cow::Borrowed(bytes) => Self::copied(bytes),
        }
    }
}

impl Deref for Spare {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Spare {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, since what is kept is the process's: other tests of it have no results as large.
    #[test]
    fn large_buffers_are_used_again_and_no_more_of_them_kept_than_so_many_and_none_without_a_pool() {
        let kept = || SPARE.lock().unwrap().iter().map(Vec::capacity).sum::<usize>();
        drop(Spare::copied(&[1; LEAST]));
        assert_eq!(kept(), 0, "there is no pool");
        let pools = [User::new(), User::new()];
        let first = Spare::copied(&vec![1; 1 << 20]);
        let at = first.as_ptr();
        drop(first);
        assert_eq!(take((1 << 20) + 1).capacity(), 0, "it is too small for that");
        assert_eq!(take((1 << 19) - 1).capacity(), 0, "and too large for that");
        let again = take(1 << 20);
        assert!(again.is_empty() && again.as_ptr() == at);
        drop(Spare::from(again));
        drop((0..40).map(|n| Spare::copied(&vec![n; 1 << 20])).collect::<Vec<_>>());
        assert_eq!(kept(), TOTAL);
        drop(Spare::copied(&vec![1; MOST + 1]));
        drop(Spare::copied(&[1; LEAST - 1]));
        assert_eq!(kept(), TOTAL, "neither is kept");
        drop(pools);
        assert_eq!(kept(), 0, "they are freed with the last pool");
    }
}
