//! The parent's end of a link on Windows, and what opens one.
//!
//! Anonymous pipes cannot be waited for here, so each link has two threads: one blocks in reads and delivers,
//! one blocks in writes. Both are called back with `CancelSynchronousIo`. The link
//! cannot be driven.

mod blocking;
mod sys;

use std::fmt;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use pool_core::transport::{
    Claim, Closed, Driven, Link, LinkCaps, LinkEvents, Outgoing, Payload, Seq, Ticket, Until,
};

use crate::ticket::WorkerEnd;
use pool_link::claims::{ParentClaims, REVOCABLE};
use pool_link::frame::{self, Malformed};
use pool_link::inbox::Inbox;
use pool_link::lock;
use pool_link::out::OutQueue;
use pool_link::page::Page;

use blocking::Blocking;

pub(crate) use sys::{available, read_append};

/// Opens links. They share nothing.
#[derive(Debug, Default)]
pub(crate) struct Host;

impl Host {
    /// Each link has threads of its own.
    pub(crate) fn prepare(&self, _: Duration) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn open(
        &self,
        frame_max: usize,
        _: Duration,
        events: Arc<dyn LinkEvents>,
    ) -> io::Result<(Box<dyn Link>, Ticket)> {
        let (worker_read, write) = io::pipe()?;
        let (read, worker_write) = io::pipe()?;
        // Without a page the link works all the same, it only cannot revoke.
        let (page, page_handle) = Page::create().ok().unzip();
        let caps = LinkCaps::new(frame_max).asks(true);
        let line = Arc::new(Line {
            caps: if page.is_some() { caps.revocable(REVOCABLE) } else { caps },
            claims: page.map(|page| Mutex::new(ParentClaims::new(Arc::new(page)))),
            events,
            queue: Mutex::default(),
            flushed: Condvar::new(),
            reader: Blocking::default(),
            writer: Blocking::default(),
            ending: OnceLock::new(),
            is_dropped: AtomicBool::new(false),
        });
        let link = Box::new(PipeLink { line: Arc::clone(&line) });
        let writing = Arc::clone(&line);
        let writer = thread::Builder::new().name("pool-pipe-write".to_owned());
        line.writer.is_done_by(writer.spawn(move || writing.write_all(write))?);
        let reading = Arc::clone(&line);
        let reader = thread::Builder::new().name("pool-pipe-read".to_owned());
        // If this fails, `link` is dropped, and that ends the writer.
        line.reader.is_done_by(reader.spawn(move || reading.read_all(read))?);
        let end = WorkerEnd { frame_max, read: worker_read.into(), write: worker_write.into(), page: page_handle };
        Ok((link, end.into_ticket()))
    }
}

/// The handle that the pool holds. Dropping it ends the link without a further event.
#[derive(Debug)]
struct PipeLink {
    line: Arc<Line>,
}

impl Link for PipeLink {
    fn caps(&self) -> LinkCaps {
        self.line.caps
    }

    fn send(&self, frame: Outgoing<'_>) {
        let (line, len) = (&*self.line, frame.head.len() + frame.body.len());
        let limit = line.caps.frame_max;
        let Some(header) = frame::header(len, limit) else {
            return line.end(Closed::Malformed(frame::too_long_to_send(len, limit)));
        };
        // The word first: the worker may see the frame as soon as it is in the queue.
        if let (Some(claims), Some(seq)) = (&line.claims, frame.seq) {
            lock(claims).arm(seq);
        }
        let mut queue = lock(&line.queue);
        if !line.writer.is_stopped() {
            queue.push(&header, frame.head, frame.body);
        }
    }

    fn flush(&self) {
        self.line.flushed.notify_one();
    }

    fn revoke(&self, seq: Seq) -> Claim {
        self.line.claims.as_ref().map_or(Claim::Unknown, |claims| lock(claims).revoke(seq))
    }

    fn claim_state(&self, seq: Seq) -> Claim {
        self.line.claims.as_ref().map_or(Claim::Unknown, |claims| lock(claims).look(seq))
    }

    fn ask_to_stop(&self, seq: Seq) -> bool {
        let line = &*self.line;
        if line.writer.is_stopped() {
            return false;
        }
        if let Some(claims) = &line.claims {
            return lock(claims).ask(seq);
        }
        lock(&line.queue).push(&frame::request(seq), &[], &Payload::EMPTY);
        line.flushed.notify_one();
        true
    }

    fn close(&self) {
        self.line.end(Closed::Ours);
    }

    fn drive(&self, until: &Until<'_>) -> Driven {
        if (until.done)() { Driven::Done } else { Driven::Unsupported }
    }

    fn interrupt(&self) {}
}

impl Drop for PipeLink {
    fn drop(&mut self) {
        self.line.is_dropped.store(true, Ordering::SeqCst);
        self.line.end(Closed::Ours);
    }
}

/// One link, as the handle and the two threads share it.
struct Line {
    caps: LinkCaps,
    claims: Option<Mutex<ParentClaims>>,
    events: Arc<dyn LinkEvents>,
    queue: Mutex<OutQueue>,
    /// Signalled when `queue` has something, or the writer is to end.
    flushed: Condvar,
    reader: Blocking,
    writer: Blocking,
    /// Why the link is to end, once it is. The first reason counts.
    ending: OnceLock<Closed>,
    is_dropped: AtomicBool,
}

impl Line {
    /// The writing thread.
    fn write_all(&self, mut pipe: PipeWriter) {
        while let Some(mut batch) = self.next_batch() {
            while !batch.is_empty() {
                let written = self.writer.call(|| {
                    // An empty write would look like the end to the worker; no slice is empty.
                    batch.write_with(|slices| pipe.write(&slices[0]))
                });
                match written {
                    Some(Ok(_)) => {}
                    Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                    // Stopped; or the worker is gone, and what it sent before is still to be read.
                    Some(Err(_)) | None => return self.stop_writing(),
                }
            }
        }
    }

    /// Everything that was sent since the last time; waits for it. `None`: no more is to be written.
    fn next_batch(&self) -> Option<OutQueue> {
        let mut queue = lock(&self.queue);
        while queue.is_empty() && !self.writer.is_stopped() {
            queue = self.flushed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if self.writer.is_stopped() { None } else { Some(mem::take(&mut queue)) }
    }

    fn stop_writing(&self) {
        self.writer.stop();
        // With the lock, the writer is either before its look at `is_stopped` or in its wait.
        lock(&self.queue).clear();
        self.flushed.notify_one();
    }

    /// The reading thread.
    fn read_all(&self, pipe: PipeReader) {
        let mut inbox = Inbox::new(self.caps.frame_max);
        let why = self.read_on(&pipe, &mut inbox);
        // Before anybody hears of the end, so that by then the worker cannot send any more.
        drop(pipe);
        self.stop_writing();
        self.drained(&mut inbox);
        inbox.clear();
        if !self.is_dropped() {
            self.events.closed(why);
        }
    }

    fn read_on(&self, pipe: &PipeReader, inbox: &mut Inbox) -> Closed {
        loop {
            let filled = self.reader.call(|| inbox.fill(usize::MAX, |to, max| read_append(pipe, to, max)));
            match filled {
                None => return self.read_rest(pipe, inbox),
                Some(Ok(0)) => return inbox.at_end(),
                Some(Ok(_)) => {
                    if let Err(Malformed(what)) = inbox.deliver(&*self.events, || !self.is_dropped()) {
                        return Closed::Malformed(what);
                    }
                    self.drained(inbox);
                }
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Some(Err(error)) => return Closed::Io(format!("cannot read from the worker: {error}")),
            }
        }
    }

    /// Delivers what had arrived when the link was ended, without waiting for more (T7).
    fn read_rest(&self, pipe: &PipeReader, inbox: &mut Inbox) -> Closed {
        let why = self.ending.get().cloned().unwrap_or(Closed::Ours);
        let mut delivered = inbox.deliver(&*self.events, || !self.is_dropped());
        // A pipe whose other end is gone and that is empty cannot be looked into.
        let mut left = sys::available(pipe).unwrap_or(0);
        while left > 0 && delivered.is_ok() && !self.is_dropped() {
            match inbox.fill(left, |to, max| read_append(pipe, to, max)) {
                Ok(got @ 1..) => left -= got,
                _ => break,
            }
            delivered = inbox.deliver(&*self.events, || !self.is_dropped());
        }
        delivered.map_or_else(|Malformed(what)| Closed::Malformed(what), |()| why)
    }

    fn drained(&self, inbox: &mut Inbox) {
        if inbox.owes_drained() && !self.is_dropped() {
            self.events.drained();
        }
    }

    fn end(&self, why: Closed) {
        // An error means that the link is ending already: the first reason counts.
        let _ = self.ending.set(why);
        self.stop_writing();
        self.reader.stop();
    }

    fn is_dropped(&self) -> bool {
        self.is_dropped.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("caps", &self.caps).finish_non_exhaustive()
    }
}
