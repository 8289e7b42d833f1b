//! The worker's end: it blocks, in one thread, which has nothing else to do.
//!
//! What the parent asks of a call that is running stands in the call's claim word. Where there are no such words it comes
//! among the frames: then whoever looks for it takes in what has arrived, and keeps the frames for later.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pool_core::transport::{Channel, Seq, StopRequests};

use crate::claims::{self, Board};
use crate::frame::{self, Decoder, Item};
use crate::lock;

/// The worker's side of a stream of bytes each way.
pub trait WorkerStream: fmt::Debug + Send {
    /// Waits until something has arrived, and appends up to `max` bytes of it to `to`. 0: the end. Before it sleeps it
    /// may look for as long as `spin` says.
    ///
    /// # Errors
    /// What the system says.
    fn read(&mut self, to: &mut Vec<u8>, max: usize, spin: Duration) -> io::Result<usize>;

    /// Whether something has arrived, so that [`read`](Self::read) would not wait.
    ///
    /// # Errors
    /// What the system says.
    fn has_arrived(&mut self) -> io::Result<bool>;

    /// Writes all of the parts, in order. The other side may see none of them before all are there, or the room is used
    /// up.
    ///
    /// # Errors
    /// If nobody reads any more.
    fn write_all(&mut self, parts: [&[u8]; 3]) -> io::Result<()>;
}

/// A [`Channel`] over a stream.
#[derive(Debug)]
pub struct StreamChannel<S>(Kind<S>);

#[derive(Debug)]
enum Kind<S> {
    /// With claim words, which say all that there is to say during a call.
    Worded(Frames<S>, Arc<dyn Board>),
    /// Without. The calling thread shares the stream with those that look for requests while it is at a call.
    Plain(Arc<Shared<S>>),
}

/// A frame's vector with more capacity than this is given back when a small frame follows: one huge call must
/// not make the worker huge for ever.
const CAPACITY_MAX: usize = 1024 * 1024;

/// The longest time that a worker spins, whatever it is told.
const SPIN_MAX: Duration = Duration::from_millis(1);

impl<S: WorkerStream> StreamChannel<S> {
    /// Frames of up to `frame_max` bytes over `stream`, with claim words if there is a `board`.
    pub fn new(stream: S, board: Option<Arc<dyn Board>>, frame_max: usize) -> Self {
        let decoder = Decoder::new(frame_max);
        Self(match board {
            Some(board) => Kind::Worded(Frames { stream, decoder, frame_max }, board),
            None => Kind::Plain(Arc::new(Shared {
                ahead: Mutex::new(Ahead {
                    frames: Frames { stream, decoder: decoder.with_requests(), frame_max },
                    whole: VecDeque::new(),
                    part: Vec::new(),
                }),
                claimed: AtomicU64::new(0),
                asked: Mutex::default(),
            })),
        })
    }
}

impl<S: WorkerStream + 'static> Channel for StreamChannel<S> {
    fn recv(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        match &mut self.0 {
            Kind::Worded(frames, board) => {
                let told = Duration::from_nanos(board.spin().load(Ordering::Relaxed));
                frames.recv(frame, told.min(SPIN_MAX), |_| {})
            }
            Kind::Plain(shared) => shared.recv(frame),
        }
    }

    fn claim(&mut self, seq: Seq) -> bool {
        match &self.0 {
            Kind::Worded(_, board) => claims::claim(&**board, seq),
            Kind::Plain(shared) => {
                shared.claimed.store(seq.0, Ordering::Relaxed);
                true
            }
        }
    }

    fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Kind::Worded(frames, _) => frames.send(head, body),
            Kind::Plain(shared) => lock(&shared.ahead).frames.send(head, body),
        }
    }

    fn stop_requests(&self) -> Arc<dyn StopRequests> {
        match &self.0 {
            Kind::Worded(_, board) => Arc::new(Words(Arc::clone(board))),
            Kind::Plain(shared) => Arc::clone(shared) as _,
        }
    }
}

/// What the parent asks for, as the claim words say it.
#[derive(Debug)]
struct Words(Arc<dyn Board>);

impl StopRequests for Words {
    fn is_asked(&self, seq: Seq) -> bool {
        claims::is_asked(&*self.0, seq)
    }
}

/// The frames of a stream.
#[derive(Debug)]
struct Frames<S> {
    stream: S,
    decoder: Decoder,
    frame_max: usize,
}

impl<S: WorkerStream> Frames<S> {
    /// Waits for the next frame; what is asked for before it goes to `request`.
    fn recv(&mut self, frame: &mut Vec<u8>, spin: Duration, mut request: impl FnMut(Seq)) -> io::Result<bool> {
        loop {
            match self.next(frame)? {
                Some(Found::Frame) => return Ok(true),
                Some(Found::Request(seq)) => {
                    request(seq);
                    continue;
                }
                None => {}
            }
            match self.fill(frame, spin) {
                Ok(1..) => {}
                Ok(_) if self.decoder.is_between_frames() => return Ok(false),
                Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What has arrived whole. A frame goes to `frame`, which must be the same from call to call while a large one
    /// arrives.
    fn next(&mut self, frame: &mut Vec<u8>) -> io::Result<Option<Found>> {
        match self.decoder.next(frame) {
            Err(frame::Malformed(why)) => Err(io::Error::new(io::ErrorKind::InvalidData, why)),
            Ok(Some(Item::Large)) => Ok(Some(Found::Frame)),
            Ok(Some(Item::Small(bytes))) => {
                if frame.capacity() > CAPACITY_MAX {
                    *frame = Vec::new();
                }
                frame.clear();
                frame.extend_from_slice(bytes);
                Ok(Some(Found::Frame))
            }
            Ok(Some(Item::Request(seq))) => Ok(Some(Found::Request(seq))),
            Ok(None) => Ok(None),
        }
    }

    fn fill(&mut self, frame: &mut Vec<u8>, spin: Duration) -> io::Result<usize> {
        self.decoder.fill(frame, usize::MAX, |to, max| self.stream.read(to, max, spin))
    }

    fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let len = head.len() + body.len();
        let Some(header) = frame::header(len, self.frame_max) else {
            let why = frame::too_long_to_send(len, self.frame_max);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        };
        self.stream.write_all([&header, head, body])
    }
}

#[derive(Debug)]
enum Found {
    Frame,
    Request(Seq),
}

/// A stream in which requests come among the frames.
#[derive(Debug)]
struct Shared<S> {
    ahead: Mutex<Ahead<S>>,
    /// The call that was claimed last.
    claimed: AtomicU64,
    /// What was asked for of it, and of those after it.
    asked: Mutex<BTreeSet<Seq>>,
}

/// What was taken in before its time.
#[derive(Debug)]
struct Ahead<S> {
    frames: Frames<S>,
    whole: VecDeque<Vec<u8>>,
    /// The beginning of a large frame.
    part: Vec<u8>,
}

impl<S: WorkerStream> Shared<S> {
    fn recv(&self, frame: &mut Vec<u8>) -> io::Result<bool> {
        let mut ahead = lock(&self.ahead);
        if let Some(first) = ahead.whole.pop_front() {
            *frame = first;
            return Ok(true);
        }
        if ahead.frames.decoder.is_in_large_frame() {
            *frame = mem::take(&mut ahead.part);
        }
        ahead.frames.recv(frame, Duration::ZERO, |seq| self.note(seq))
    }

    /// Takes in what has arrived. What is wrong with it will be found where it is waited for.
    fn look(&self, ahead: &mut Ahead<S>) {
        loop {
            match ahead.frames.next(&mut ahead.part) {
                Ok(Some(Found::Frame)) => ahead.whole.push_back(mem::take(&mut ahead.part)),
                Ok(Some(Found::Request(seq))) => self.note(seq),
                Ok(None) => {
                    let has_arrived = ahead.frames.stream.has_arrived().unwrap_or(false);
                    if !has_arrived || !ahead.frames.fill(&mut ahead.part, Duration::ZERO).is_ok_and(|len| len > 0)
                    {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    fn note(&self, seq: Seq) {
        let (mut asked, claimed) = (lock(&self.asked), self.claimed.load(Ordering::Relaxed));
        asked.retain(|known| known.0 >= claimed);
        asked.insert(seq);
    }
}

impl<S: WorkerStream> StopRequests for Shared<S> {
    fn is_asked(&self, seq: Seq) -> bool {
        // Whoever has the stream looks as well, or waits for the next call: then this one is over.
        if let Ok(mut ahead) = self.ahead.try_lock() {
            self.look(&mut ahead);
        }
        lock(&self.asked).contains(&seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that have arrived, and are read in pieces of up to so many.
    #[derive(Debug)]
    struct Arrived(Arc<Mutex<VecDeque<u8>>>, usize);

    impl WorkerStream for Arrived {
        fn read(&mut self, to: &mut Vec<u8>, max: usize, _: Duration) -> io::Result<usize> {
            let mut bytes = lock(&self.0);
            let count = bytes.len().min(max).min(self.1);
            to.extend(bytes.drain(..count));
            Ok(count)
        }

        fn has_arrived(&mut self) -> io::Result<bool> {
            Ok(!lock(&self.0).is_empty())
        }

        fn write_all(&mut self, _: [&[u8]; 3]) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_request_is_seen_past_the_frames_before_it_and_these_come_in_order() {
        for piece in [1, 7, 1000, usize::MAX] {
            let bytes = Arc::new(Mutex::new(VecDeque::new()));
            let mut channel = StreamChannel::new(Arrived(Arc::clone(&bytes), piece), None, 1 << 20);
            let frames = [vec![1], vec![2; 70_000], vec![], vec![3; 500_000], vec![4; 9]];
            let arrive = |frame: &[u8]| {
                lock(&bytes).extend(frame::header(frame.len(), 1 << 20).expect("short enough"));
                lock(&bytes).extend(frame);
            };
            let requests = channel.stop_requests();
            let mut found = Vec::new();
            arrive(&frames[0]);
            assert!(channel.recv(&mut found).expect("received") && found == frames[0]);
            assert!(channel.claim(Seq(0)) && !requests.is_asked(Seq(0)));
            arrive(&frames[1]);
            arrive(&frames[2]);
            assert!(!requests.is_asked(Seq(0)));
            lock(&bytes).extend(frame::request(Seq(2)));
            lock(&bytes).extend(frame::request(Seq(0)));
            assert!(requests.is_asked(Seq(0)) && !requests.is_asked(Seq(1)));
            arrive(&frames[3]);
            // The beginning of it has arrived.
            let rest = lock(&bytes).split_off(300_000);
            assert!(requests.is_asked(Seq(0)) && lock(&bytes).is_empty());
            lock(&bytes).extend(rest);
            arrive(&frames[4]);
            for frame in &frames[1..] {
                assert!(channel.recv(&mut found).expect("received") && found == *frame, "{piece}");
            }
            assert!(channel.claim(Seq(2)) && requests.is_asked(Seq(2)) && !requests.is_asked(Seq(1)));
            assert!(!channel.recv(&mut found).expect("the end"));
        }
    }
}
