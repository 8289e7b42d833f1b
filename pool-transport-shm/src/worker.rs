//! The worker's side.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pool_core::transport::{Channel, Connector, Ticket};
use pool_link::channel::{StreamChannel, WorkerStream};
use pool_link::claims::Board;

use crate::NAME;
use crate::layout::{Segment, Sleeper, Way};
use crate::ring::{DATA, PIECE, Reader, Writer};
use crate::ticket::WorkerEnd;

/// Makes the worker's end of a link of [`Shm`](crate::Shm).
#[derive(Clone, Copy, Debug, Default)]
pub struct ShmConnector;

impl Connector for ShmConnector {
    fn name(&self) -> &str {
        NAME
    }

    fn connect(&self, ticket: Ticket) -> io::Result<Box<dyn Channel>> {
        let WorkerEnd { frame_max, segment, hear, ring } = WorkerEnd::from_ticket(ticket)?;
        let segment = Arc::new(Segment::open(segment)?);
        let rings = Rings {
            reader: Reader::new(Arc::clone(&segment), Way::Calls),
            writer: Writer::new(Arc::clone(&segment), Way::Results),
            hear,
            ring,
            is_alone: false,
            spin: Duration::ZERO,
            segment: Arc::clone(&segment),
        };
        Ok(Box::new(StreamChannel::new(rings, Some(segment as Arc<dyn Board>), frame_max)))
    }
}

/// The worker's ends of the rings.
#[derive(Debug)]
struct Rings {
    segment: Arc<Segment>,
    reader: Reader,
    writer: Writer,
    /// Has something to read when the parent has rung, and an end when it is gone.
    hear: OwnedFd,
    ring: OwnedFd,
    /// The parent is gone, without a word.
    is_alone: bool,
    /// How long to look last time.
    spin: Duration,
}

impl Rings {
    fn is_closed(&self) -> bool {
        self.is_alone || self.segment.closed().load(Ordering::Acquire) != 0
    }

    /// Looks until `is_there`, then sleeps until it is rung for. May return for no reason.
    fn wait(&mut self, wish: u64, is_there: impl Fn(&mut Self) -> io::Result<bool>) -> io::Result<()> {
        if !self.spin.is_zero() {
            let start = Instant::now();
            while start.elapsed() < self.spin {
                for _ in 0..LOOKS {
                    if is_there(self)? {
                        return Ok(());
                    }
                    std::hint::spin_loop();
                }
                if self.is_closed() {
                    return Ok(());
                }
            }
        }
        self.segment.wish(Sleeper::Worker, wish);
        if !is_there(self)? && !self.is_closed() {
            match rustix::io::read(&self.hear, &mut [0; 64]) {
                Ok(0) => self.is_alone = true,
                Ok(_) => {}
                Err(error) if error == rustix::io::Errno::INTR => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.segment.take_back(Sleeper::Worker, wish);
        Ok(())
    }

    fn show(&mut self) {
        self.writer.show();
        self.segment.ring(Sleeper::Parent, DATA, &self.ring);
    }
}

impl WorkerStream for Rings {
    fn read(&mut self, to: &mut Vec<u8>, max: usize, spin: Duration) -> io::Result<usize> {
        self.spin = spin;
        loop {
            // Asked before the look: what was written before the end is still to be had.
            let is_closed = self.is_closed();
            let (count, events) = self.reader.take(to, max)?;
            if count > 0 {
                self.segment.ring(Sleeper::Parent, events, &self.ring);
                return Ok(count);
            }
            if is_closed {
                return Ok(0);
            }
            self.wait(DATA, |rings| Ok(rings.reader.available()? > 0))?;
        }
    }

    fn has_arrived(&mut self) -> io::Result<bool> {
        Ok(self.reader.available()? > 0)
    }

    fn write_all(&mut self, parts: [&[u8]; 3]) -> io::Result<()> {
        let mut left = parts.iter().map(|part| part.len()).sum();
        let mut unshown = 0;
        for part in parts {
            let mut rest = part;
            while !rest.is_empty() {
                if self.is_closed() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                let count = self.writer.put(&rest[..rest.len().min(PIECE)], left)?;
                rest = &rest[count..];
                left -= count;
                unshown += count;
                if count == 0 {
                    self.show();
                    unshown = 0;
                    self.wait(self.writer.wants(), |rings| rings.writer.is_roomy())?;
                } else if unshown >= PIECE {
                    unshown = 0;
                    if self.writer.show_piece() {
                        self.segment.ring(Sleeper::Parent, DATA, &self.ring);
                    }
                }
            }
        }
        self.show();
        Ok(())
    }
}

/// How often to look before the clock is looked at.
const LOOKS: u32 = 32;
