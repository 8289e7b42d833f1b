//! The parent's side: what opens links, and their rings.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use pool_core::transport::{Link, LinkEvents, Ticket};
use pool_link::claims::Board;
use pool_link::stream::{Muting, Room, Stream};
use pool_link::{LinkParts, Pipes, lock};
use pool_os::parent_fds::ParentFd;

use crate::layout::{Segment, Sleeper, Way};
use crate::ring::{DATA, PIECE, Reader, Writer};
use crate::ticket::WorkerEnd;

/// Opens links that share a reactor.
#[derive(Debug)]
pub(crate) struct Host(pool_link::Host);

impl Default for Host {
    fn default() -> Self {
        Self(pool_link::Host::new("pool-shm"))
    }
}

impl Host {
    pub(crate) fn supported() -> io::Result<()> {
        /// What the system has said: it does not change its mind.
        static REFUSAL: OnceLock<Option<(ErrorKind, String)>> = OnceLock::new();
        let refusal = match REFUSAL.get() {
            Some(known) => known,
            // A file has no pages before it is written to.
            None => match Segment::create() {
                Ok(_) => REFUSAL.get_or_init(|| None),
                Err(error) if is_refusal(&error) => {
                    REFUSAL.get_or_init(|| Some((error.kind(), error.to_string())))
                }
                // A shortage, which passes, and says nothing about the system.
                Err(_) => return Ok(()),
            },
        };
        match refusal {
            None => Ok(()),
            Some((kind, why)) => {
                Err(io::Error::new(*kind, format!("it gives no memory to share ({why}): use `pipe`")))
            }
        }
    }

    pub(crate) fn prepare(&self, spin: Duration) -> io::Result<()> {
        self.0.prepare(spin)
    }

    pub(crate) fn open(
        &self,
        frame_max: usize,
        spin: Duration,
        events: Arc<dyn LinkEvents>,
    ) -> io::Result<(Box<dyn Link>, Ticket)> {
        let (segment, segment_fd) = Segment::create()?;
        let segment = Arc::new(segment);
        let Pipes { read, write, worker_read, worker_write } = Pipes::new()?;
        // Nobody may wait for a bell to ring, so the worker rings without as well: a full pipe rings already.
        rustix::io::ioctl_fionbio(&worker_write, true)?;
        let rings = Rings {
            reading: Mutex::new(Reader::new(Arc::clone(&segment), Way::Results)),
            read: AtomicU64::new(0),
            writing: Mutex::new(Writer::new(Arc::clone(&segment), Way::Calls)),
            is_muted: AtomicBool::new(false),
            bell: Mutex::new(Some(Arc::clone(&write))),
            segment: Arc::clone(&segment),
        };
        let board = Some(segment as Arc<dyn Board>);
        let parts = LinkParts { frame_max, read, write, stream: Arc::new(rings), board };
        let link = self.0.open(parts, spin, events)?;
        let end = WorkerEnd { frame_max, segment: segment_fd, hear: worker_read, ring: worker_write };
        Ok((link, end.into_ticket()))
    }
}

/// Whether `memfd_create` is not there, lacks what is asked for, or is forbidden by a filter.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput | ErrorKind::PermissionDenied)
}

/// The parent's ends of the rings of one link.
#[derive(Debug)]
struct Rings {
    segment: Arc<Segment>,
    /// Locked by whoever reads, one at a time anyway.
    reading: Mutex<Reader>,
    /// Up to where it was read, for a quick look.
    read: AtomicU64,
    /// Locked by whoever writes, one at a time anyway.
    writing: Mutex<Writer>,
    is_muted: AtomicBool,
    /// Wakes the worker. `None` after the end.
    bell: Mutex<Option<Arc<ParentFd>>>,
}

impl Rings {
    fn ring(&self, event: u64) {
        if let Some(bell) = &*lock(&self.bell) {
            self.segment.ring(Sleeper::Worker, event, &**bell);
        }
    }
}

impl Stream for Rings {
    fn read(&self, _: &ParentFd, hung_up: bool, to: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        let mut reader = lock(&self.reading);
        loop {
            let (count, events) = reader.take(to, max)?;
            if count > 0 {
                self.read.store(reader.position(), Ordering::Relaxed);
                self.ring(events);
                return Ok(count);
            }
            if hung_up {
                return Ok(0);
            }
            // Who looks by himself does not sleep.
            if !self.is_muted.load(Ordering::SeqCst) {
                self.segment.wish(Sleeper::Parent, DATA);
            }
            if reader.available()? == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.segment.take_back(Sleeper::Parent, DATA);
        }
    }

    fn gives_all(&self) -> bool {
        // It has to be asked until it says so: only then does the bell ring for what comes next.
        false
    }

    fn available(&self, _: &ParentFd) -> usize {
        lock(&self.reading).available().unwrap_or(0)
    }

    fn write(&self, _: &ParentFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut writer = lock(&self.writing);
        let mut left = slices.iter().map(|slice| slice.len()).sum();
        let mut total = 0;
        'all: for slice in slices {
            // Large ones are shown piece by piece, so that the worker copies one while the next is on its way.
            for piece in slice.chunks(PIECE) {
                let count = writer.put(piece, left)?;
                total += count;
                left -= count;
                if piece.len() == PIECE && writer.show_piece() {
                    self.ring(DATA);
                }
                if count < piece.len() {
                    break 'all;
                }
            }
        }
        writer.show();
        self.ring(DATA);
        if total == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(total) }
    }

    fn want_room(&self) -> Room {
        let mut writer = lock(&self.writing);
        self.segment.wish(Sleeper::Parent, writer.wants());
        // A position that is broken is found by the next write as well.
        if !writer.is_roomy().unwrap_or(true) {
            return Room::Announced;
        }
        self.segment.take_back(Sleeper::Parent, writer.wants());
        Room::There
    }

    fn hear(&self, fd: &ParentFd) {
        let mut bytes = [0; 64];
        while rustix::io::read(fd, &mut bytes) == Ok(bytes.len()) {}
    }

    fn mute(&self, is_muted: bool) -> Muting {
        self.is_muted.store(is_muted, Ordering::SeqCst);
        if is_muted {
            self.segment.take_back(Sleeper::Parent, DATA);
        }
        Muting::Done
    }

    fn has_arrived(&self, _: &ParentFd) -> bool {
        self.segment.written(Way::Results).load(Ordering::Acquire) != self.read.load(Ordering::Relaxed)
    }

    fn close(&self) {
        self.segment.closed().store(1, Ordering::Release);
        // The worker's bell has an end now, which wakes it.
        drop(lock(&self.bell).take());
    }
}
