//! The worker's end: it blocks, in one thread, which has nothing else to do.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pool_core::transport::{Channel, Seq};

use crate::claims::{self, Board};
use crate::frame::{self, Decoder, Item};

/// The worker's side of a stream of bytes each way.
pub trait WorkerStream: fmt::Debug + Send {
    /// Waits until something has arrived, and appends up to `max` bytes of it to `to`. 0: the end. Before it sleeps it
    /// may look for as long as `spin` says.
    ///
    /// # Errors
    /// What the system says.
    fn read(&mut self, to: &mut Vec<u8>, max: usize, spin: Duration) -> io::Result<usize>;

    /// Writes all of the parts, in order. The other side may see none of them before all are there, or the room is used
    /// up.
    ///
    /// # Errors
    /// If nobody reads any more.
    fn write_all(&mut self, parts: [&[u8]; 3]) -> io::Result<()>;
}

/// A [`Channel`] over a stream.
#[derive(Debug)]
pub struct StreamChannel<S> {
    stream: S,
    board: Option<Arc<dyn Board>>,
    decoder: Decoder,
    frame_max: usize,
}

/// A frame's vector with more capacity than this is given back when a small frame follows: one huge call must
/// not make the worker huge for ever.
const CAPACITY_MAX: usize = 1024 * 1024;

/// The longest time that a worker spins, whatever it is told.
const SPIN_MAX: Duration = Duration::from_millis(1);

impl<S: WorkerStream> StreamChannel<S> {
    /// Frames of up to `frame_max` bytes over `stream`, with claim words if there is a `board`.
    pub fn new(stream: S, board: Option<Arc<dyn Board>>, frame_max: usize) -> Self {
        Self { stream, board, decoder: Decoder::new(frame_max), frame_max }
    }

    fn spin(&self) -> Duration {
        let told = self.board.as_ref().map_or(0, |board| board.spin().load(Ordering::Relaxed));
        Duration::from_nanos(told).min(SPIN_MAX)
    }
}

impl<S: WorkerStream> Channel for StreamChannel<S> {
    fn recv(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            match self.decoder.next(frame) {
                Err(frame::Malformed(why)) => return Err(io::Error::new(io::ErrorKind::InvalidData, why)),
                Ok(Some(Item::Large)) => return Ok(true),
                Ok(Some(Item::Small(bytes))) => {
                    if frame.capacity() > CAPACITY_MAX {
                        *frame = Vec::new();
                    }
                    frame.clear();
                    frame.extend_from_slice(bytes);
                    return Ok(true);
                }
                Ok(None) => {}
            }
            let spin = self.spin();
            match self.decoder.fill(frame, usize::MAX, |to, max| self.stream.read(to, max, spin)) {
                Ok(1..) => {}
                Ok(_) if self.decoder.is_between_frames() => return Ok(false),
                Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn claim(&mut self, seq: Seq) -> bool {
        self.board.as_ref().is_none_or(|board| claims::claim(&**board, seq))
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
