//! What the system takes for the least that can be called a round trip: two processes, and nothing else.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::{CpuSet, futex, sched_getaffinity, sched_setaffinity};

use crate::{Result, sys, w1};

/// Two processes that send 64 bytes to and fro over two pipes, and wait in `read`. Returns µs per round trip.
///
/// Where the scheduler puts them decides: on one processor it takes a tenth of what it takes on two. With `apart`
/// each is bound to its own.
pub(crate) fn pipe(round_trips: usize, apart: bool) -> Result<f64> {
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
pub(crate) fn futex_spin(round_trips: usize) -> Result<f64> {
    const LAST: u32 = u32::MAX;
    let [ping, pong] = sys::shared_words();
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
