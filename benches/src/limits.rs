//! What the system takes for the least that can be called a round trip, or a queue: two processes, and nothing
//! else.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::{CpuSet, futex, sched_getaffinity, sched_setaffinity};

use crate::{Result, sys, w1};

/// Measures the limit of this name: µs per round trip, or for `limit/ring` numbers per second.
pub(crate) fn measure(limit: &str, count: usize) -> Result<f64> {
    match limit {
        "limit/pipe" => pipe(count, false),
        "limit/pipe-apart" => pipe(count, true),
        "limit/shm" => words(count),
        "limit/ring" => rings(count),
        other => Err(format!("no such subject: {other}").into()),
    }
}

/// Two processes that send 64 bytes to and fro over two pipes, and wait in `read`. Returns µs per round trip.
///
/// Where the scheduler puts them decides: on one processor it takes a tenth of what it takes on two. With `apart`
/// each is bound to its own.
fn pipe(round_trips: usize, apart: bool) -> Result<f64> {
    let (mut requests, to_child) = std::io::pipe()?;
    let (answers, mut to_parent) = std::io::pipe()?;
    let (mut to_child, mut answers) = (Some(to_child), Some(answers));
    let child = sys::fork(|| {
        // So that the parent's end is the end of its messages.
        drop((to_child.take(), answers.take()));
        bind(apart, 1);
        let mut message = [0; 64];
        while requests.read_exact(&mut message).is_ok() && to_parent.write_all(&message).is_ok() {}
    });
    bind(apart, 0);
    let (Some(mut to_child), Some(mut answers)) = (to_child, answers) else { return Err("no pipes".into()) };
    let us = w1::batches(round_trips, || {
        to_child.write_all(&[7; 64])?;
        Ok(answers.read_exact(&mut [0; 64])?)
    })?;
    drop(to_child);
    waitpid(Pid::from_raw(child), WaitOptions::empty())?;
    Ok(us)
}

/// Two processes that raise a word each in shared memory, wake the other one, and look at its word for 20 µs
/// before they sleep. Returns µs per round trip.
fn words(round_trips: usize) -> Result<f64> {
    const LAST: u32 = u32::MAX;
    let words = sys::shared_words(2 * LINE);
    let (ping, pong) = (&words[0], &words[LINE]);
    let child = sys::fork(|| {
        let mut seen = 0;
        while seen != LAST {
            seen = wait_beyond(ping, seen);
            raise(pong, seen);
        }
    });
    let mut sent = 0;
    let us = w1::batches(round_trips, || {
        sent += 1;
        raise(ping, sent);
        wait_beyond(pong, sent - 1);
        Ok(())
    })?;
    raise(ping, LAST);
    waitpid(Pid::from_raw(child), WaitOptions::empty())?;
    Ok(us)
}

/// Two processes and two rings: one puts numbers into the first, the other takes each from there and puts it into
/// the second, from which the first takes it. Returns how many go round per second.
fn rings(count: usize) -> Result<f64> {
    let count = u32::try_from(count)?;
    let (there, back) = sys::shared_words(2 * RING).split_at(RING);
    let child = sys::fork(|| {
        let (mut calls, mut results) = (RingEnd::of(there), RingEnd::of(back));
        for _ in 0..count {
            let number = persist(|| calls.take());
            persist(|| results.put(number).then_some(()));
        }
    });
    let (mut calls, mut results) = (RingEnd::of(there), RingEnd::of(back));
    let (mut sent, mut received) = (0, 0);
    let start = Instant::now();
    while received < count {
        persist(|| {
            let before = (sent, received);
            while sent < count && calls.put(sent) {
                sent += 1;
            }
            while let Some(number) = results.take() {
                if number != received {
                    return Some(Err("another number"));
                }
                received += 1;
            }
            (before != (sent, received)).then_some(Ok(()))
        })?;
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    waitpid(Pid::from_raw(child), WaitOptions::empty())?;
    Ok(rate)
}

/// Two processes and two rings of bytes: what an echo of blobs takes where nothing is done but its four copies, the two
/// of each process while the other is at its own, and nobody sleeps. So many blobs are under way. Returns GB/s, the blob
/// counted once.
pub(crate) fn echo(size: usize, window: usize, count: usize) -> Result<f64> {
    let (there, back) = (PieceRing::new(), PieceRing::new());
    let child = sys::fork(|| {
        let mut blob = vec![1; size];
        for _ in 0..count {
            for (n, piece) in blob.chunks_mut(PIECE).enumerate() {
                persist(|| there.take(piece).then_some(n));
            }
            for (n, piece) in blob.chunks(PIECE).enumerate() {
                persist(|| back.put(piece).then_some(n));
            }
        }
    });
    let mut blobs = vec![vec![2; size]; window];
    let pieces = size / PIECE;
    let place = |n: usize| (n / pieces % window, n % pieces * PIECE);
    let (mut sent, mut received, total) = (0, 0, count * pieces);
    let start = Instant::now();
    while received < total {
        persist(|| {
            let before = (sent, received);
            let (blob, at) = place(sent);
            if sent < total && sent - received < window * pieces && there.put(&blobs[blob][at..at + PIECE]) {
                sent += 1;
            }
            let (blob, at) = place(received);
            if back.take(&mut blobs[blob][at..at + PIECE]) {
                received += 1;
            }
            (before != (sent, received)).then_some(())
        });
    }
    let rate = (size * count) as f64 / 1e9 / start.elapsed().as_secs_f64();
    waitpid(Pid::from_raw(child), WaitOptions::empty())?;
    Ok(rate)
}

/// What is copied at a time, in bytes, and how many of them a ring has room for: what was fastest of 16 to 128 KiB, and of
/// 256 KiB to 4 MiB in all.
const PIECE: usize = 64 << 10;
const PIECES: usize = 64;

/// A ring of pieces.
#[derive(Clone, Copy)]
struct PieceRing {
    /// How many were put and how many were taken, which may be above any limit.
    counts: &'static [AtomicU32],
    bytes: sys::SharedBytes,
}

impl PieceRing {
    fn new() -> Self {
        Self { counts: sys::shared_words(2 * LINE), bytes: sys::SharedBytes::new(PIECE * PIECES) }
    }

    /// Puts a piece, if there is room.
    fn put(self, piece: &[u8]) -> bool {
        let (put, taken) = (self.counts[0].load(Ordering::Relaxed), self.counts[LINE].load(Ordering::Acquire));
        let has_room = put.wrapping_sub(taken) < PIECES as u32;
        if has_room {
            self.bytes.write(put as usize % PIECES * PIECE, piece);
            self.counts[0].store(put.wrapping_add(1), Ordering::Release);
        }
        has_room
    }

    /// Takes a piece, if there is one.
    fn take(self, piece: &mut [u8]) -> bool {
        let (put, taken) = (self.counts[0].load(Ordering::Acquire), self.counts[LINE].load(Ordering::Relaxed));
        let is_there = put != taken;
        if is_there {
            self.bytes.read(taken as usize % PIECES * PIECE, piece);
            self.counts[LINE].store(taken.wrapping_add(1), Ordering::Release);
        }
        is_there
    }
}

/// How many words apart two have to be so that they do not share a line of the cache.
const LINE: usize = 32;
/// How many numbers a ring holds.
const SLOTS: usize = 4096;
/// How many words a ring takes: how many numbers were put, how many were taken, and the numbers.
const RING: usize = 2 * LINE + SLOTS;

/// One end of a ring.
struct RingEnd {
    put: &'static AtomicU32,
    taken: &'static AtomicU32,
    slots: &'static [AtomicU32],
    /// How many numbers this end has put or taken.
    own: u32,
    /// How many the other has, as far as was last seen.
    other: u32,
}

impl RingEnd {
    fn of(words: &'static [AtomicU32]) -> Self {
        Self { put: &words[0], taken: &words[LINE], slots: &words[2 * LINE..], own: 0, other: 0 }
    }

    /// Puts a number, if there is room.
    fn put(&mut self, number: u32) -> bool {
        if self.own - self.other == SLOTS as u32 {
            self.other = self.taken.load(Ordering::Acquire);
            if self.own - self.other == SLOTS as u32 {
                return false;
            }
        }
        self.slots[self.own as usize % SLOTS].store(number, Ordering::Relaxed);
        self.own += 1;
        self.put.store(self.own, Ordering::Release);
        true
    }

    /// Takes a number, if there is one.
    fn take(&mut self) -> Option<u32> {
        if self.own == self.other {
            self.other = self.put.load(Ordering::Acquire);
            if self.own == self.other {
                return None;
            }
        }
        let number = self.slots[self.own as usize % SLOTS].load(Ordering::Relaxed);
        self.own += 1;
        self.taken.store(self.own, Ordering::Release);
        Some(number)
    }
}

/// Tries until it succeeds. Now and then the other one may have the processor, where there is but one.
fn persist<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    loop {
        for _ in 0..10_000 {
            if let Some(done) = attempt() {
                return done;
            }
            std::hint::spin_loop();
        }
        std::thread::yield_now();
    }
}

fn raise(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
    // It can fail for a bad address only.
    let _ = futex::wake(word, futex::Flags::empty(), 1);
}

/// Waits until the word is no longer `seen`, and returns what it is.
fn wait_beyond(word: &AtomicU32, seen: u32) -> u32 {
    let start = Instant::now();
    loop {
        for _ in 0..64 {
            let value = word.load(Ordering::Acquire);
            if value != seen {
                return value;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > Duration::from_micros(20) {
            // Returns at once if the word has changed; and what woke it is looked at above.
            let _ = futex::wait(word, futex::Flags::empty(), seen, None);
        }
    }
}

/// Binds this process to one of the processors it may use, if asked for and if there are two.
fn bind(apart: bool, nth: usize) {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let mut processors = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    if let (true, Some(cpu)) = (apart, processors.nth(nth)) {
        let mut one = CpuSet::new();
        one.set(cpu);
        // If it is refused, the two are where the scheduler puts them.
        let _ = sched_setaffinity(None, &one);
    }
}
