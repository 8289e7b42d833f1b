//! What a transport's own tests need too: links and their ends, and random frames.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use pool_core::transport::{Channel, Link, Outgoing, Payload, Seq, Ticket, Transport};

pub use super::recorder::{Event, Recorder};
pub use crate::random::Random;

/// A link, what it tells, and its other end.
pub type Pair = (Arc<dyn Link>, Arc<Recorder>, Box<dyn Channel>);

/// A link whose other end is still a ticket.
pub type Half = (Arc<dyn Link>, Arc<Recorder>, Ticket);

/// A link and its other end, in one process.
///
/// # Panics
/// If they cannot be made.
pub fn pair(transport: &dyn Transport) -> Pair {
    let (link, events, ticket) = half(transport);
    (link, events, connect(transport, ticket))
}

/// A link whose other end is still a ticket.
///
/// # Panics
/// If it cannot be made.
pub fn half(transport: &dyn Transport) -> Half {
    let events = Recorder::new();
    let (link, ticket) = transport.open(events.clone()).expect("a link");
    (Arc::from(link), events, ticket)
}

/// The worker's end.
///
/// # Panics
/// If the ticket is refused.
pub fn connect(transport: &dyn Transport, ticket: Ticket) -> Box<dyn Channel> {
    transport.connector().connect(ticket).expect("the worker connects")
}

/// Sends a frame, as a call if it has a number.
pub fn send(link: &dyn Link, seq: Option<u64>, head: &[u8], body: &[u8]) {
    link.send(Outgoing { seq: seq.map(Seq), head, body: &Payload::copied(body) });
}

impl Random {
    /// A frame whose size is mostly small and sometimes not, and that knows its own place and hash.
    pub fn frame(&mut self, place: u64, size_max: u64) -> Vec<u8> {
        let size = match self.below(20) {
            0 => self.below(size_max),
            1..4 => self.below(size_max.min(20_000)),
            _ => self.below(size_max.min(200)),
        };
        let mut frame = vec![0; 16];
        let mut state = self.below(u64::MAX);
        frame.extend((0..size).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        }));
        frame[..8].copy_from_slice(&place.to_le_bytes());
        let sum = hash(&frame[16..], place);
        frame[8..16].copy_from_slice(&sum.to_le_bytes());
        frame
    }
}

/// Checks a frame made by [`Random::frame`].
///
/// # Panics
/// If it is not what it was, or not in this place.
#[track_caller]
pub fn check(frame: &[u8], place: u64) {
    let word = |from: usize| frame.get(from..from + 8).map(|word| word.try_into().expect("eight bytes"));
    assert_eq!(word(0).map(u64::from_le_bytes), Some(place), "a frame is missing, cut or out of place");
    let sum = word(8).map(u64::from_le_bytes);
    let rest = frame.get(16..).unwrap_or_default();
    assert_eq!(sum, Some(hash(rest, place)), "frame {place} of {} bytes has changed", frame.len());
}

fn hash(bytes: &[u8], start: u64) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let last = rest.iter().fold(rest.len() as u64, |sum, &byte| sum << 8 | u64::from(byte));
    let words = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).chain([last]);
    words.fold(start ^ 0xcbf2_9ce4_8422_2325, |sum, word| {
        (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29)
    })
}

/// Longer than any test takes on a busy machine.
const WATCHDOG: Duration = Duration::from_secs(120);

/// For tests that share their process: ends it if `test` hangs.
///
/// # Panics
/// If `test` does.
pub fn guarded(name: &'static str, test: impl FnOnce()) {
    let (done, watch) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if watch.recv_timeout(WATCHDOG) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{name} hangs");
            std::process::abort();
        }
    });
    test();
    drop(done);
    watchdog.join().expect("the watchdog does not panic");
}
