//! What the tests of this crate share: a receiver that records, a watchdog, and random numbers from a seed.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::Duration;

use pool_core::transport::{
    Channel, Closed, Connector, Link, LinkEvents, Outgoing, Payload, Seq, Ticket, Transport,
};
use pool_transport_pipe::{Pipe, PipeConnector};

/// Longer than any test takes on a busy machine.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Ends the whole test process if `test` hangs.
pub(crate) fn guarded(name: &'static str, test: impl FnOnce()) {
    let (done, watch) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if watch.recv_timeout(WATCHDOG) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{name} hangs");
            std::process::abort();
        }
    });
    test();
    drop(done);
    watchdog.join().unwrap();
}

/// What a link has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Frame(Vec<u8>),
    Drained,
    Closed(Closed),
}

type Hook = Box<dyn Fn(&Event) + Send + Sync>;

/// Records all events, and lets a test wait for them.
#[derive(Default)]
pub(crate) struct Recorder {
    events: Mutex<VecDeque<Event>>,
    changed: Condvar,
    /// Called from within the event, after it was recorded.
    hook: OnceLock<Hook>,
}

impl Recorder {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn on_event(&self, hook: impl Fn(&Event) + Send + Sync + 'static) {
        assert!(self.hook.set(Box::new(hook)).is_ok());
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.events.lock().unwrap()
    }

    /// Waits for the next event that is not `Drained`, and takes it out.
    pub(crate) fn next(&self) -> Event {
        let mut events = self.lock();
        loop {
            match events.pop_front() {
                Some(Event::Drained) => {}
                Some(event) => return event,
                None => events = self.changed.wait(events).unwrap(),
            }
        }
    }

    pub(crate) fn next_frame(&self) -> Vec<u8> {
        match self.next() {
            Event::Frame(frame) => frame,
            other => panic!("not a frame: {other:?}"),
        }
    }

    pub(crate) fn next_closed(&self) -> Closed {
        match self.next() {
            Event::Closed(why) => why,
            Event::Frame(frame) => panic!("a frame of {} bytes: {:?}", frame.len(), &frame[..frame.len().min(20)]),
            Event::Drained => unreachable!(),
        }
    }

    fn put(&self, event: Event) {
        self.lock().push_back(event.clone());
        self.changed.notify_all();
        if let Some(hook) = self.hook.get() {
            hook(&event);
        }
    }
}

impl LinkEvents for Recorder {
    fn frame(&self, frame: Cow<'_, [u8]>) {
        self.put(Event::Frame(frame.into_owned()));
    }

    fn drained(&self) {
        self.put(Event::Drained);
    }

    fn closed(&self, why: Closed) {
        self.put(Event::Closed(why));
    }
}

/// A link, what it tells, and its other end.
pub(crate) fn pair(pipe: &Pipe) -> (Arc<dyn Link>, Arc<Recorder>, Box<dyn Channel>) {
    let (link, events, ticket) = half(pipe);
    (link, events, PipeConnector.connect(ticket).unwrap())
}

/// A link whose other end is still a ticket.
pub(crate) fn half(pipe: &Pipe) -> (Arc<dyn Link>, Arc<Recorder>, Ticket) {
    let events = Recorder::new();
    let (link, ticket) = pipe.open(events.clone()).unwrap();
    (Arc::from(link), events, ticket)
}

pub(crate) fn send(link: &dyn Link, seq: Option<u64>, head: &[u8], body: &[u8]) {
    link.send(Outgoing { seq: seq.map(Seq), head, body: &Payload::copied(body) });
}

/// Numbers that look random and are the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }

    /// A frame whose size is mostly small and sometimes not, and that knows its own place and hash.
    pub(crate) fn frame(&mut self, place: u64, size_max: u64) -> Vec<u8> {
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
#[track_caller]
pub(crate) fn check(frame: &[u8], place: u64) {
    assert_eq!(u64::from_le_bytes(frame[..8].try_into().unwrap()), place, "a frame is missing or out of place");
    let sum = u64::from_le_bytes(frame[8..16].try_into().unwrap());
    assert_eq!(sum, hash(&frame[16..], place), "frame {place} of {} bytes has changed", frame.len());
}

fn hash(bytes: &[u8], start: u64) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let last = rest.iter().fold(rest.len() as u64, |sum, &byte| sum << 8 | u64::from(byte));
    let words = chunks.iter().map(|chunk| u64::from_le_bytes(*chunk)).chain([last]);
    words.fold(start ^ 0xcbf2_9ce4_8422_2325, |sum, word| {
        (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29)
    })
}
