//! The parent's end of a link on Unix, and what opens one.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use pool_core::transport::{Claim, Closed, Driven, Link, LinkCaps, LinkEvents, Outgoing, Seq, Ticket, Until};
use pool_os::parent_fds::ParentFd;
use rustix::fs::OFlags;

use crate::claims::{ParentClaims, REVOCABLE};
use crate::frame;
use crate::input::{Input, Outlook, Progress};
use crate::lock;
use crate::output::Output;
use crate::page::Page;
use crate::reactor::Reactor;
use crate::ticket::WorkerEnd;

/// Opens links that share a reactor, which starts with the first of them.
#[derive(Debug, Default)]
pub(crate) struct Host {
    reactor: Mutex<Option<Arc<Reactor>>>,
}

impl Host {
    pub(crate) fn open(
        &self,
        frame_max: usize,
        events: Arc<dyn LinkEvents>,
    ) -> io::Result<(Box<dyn Link>, Ticket)> {
        let reactor = self.reactor()?;
        let (worker_read, write) = io::pipe()?;
        let (read, worker_write) = io::pipe()?;
        // Non-blocking is a property of the open file, and a pipe's two ends are two: the worker's block.
        let (read, write) = (non_blocking(read.into())?, non_blocking(write.into())?);
        // Without a page the link works all the same, it only cannot revoke.
        let (page, page_fd) = Page::create().ok().unzip();
        let caps = LinkCaps::new(frame_max).drivable(Reactor::DRIVABLE);
        let line = Arc::new(Line {
            key: reactor.new_key(),
            reactor,
            caps: if page.is_some() { caps.revocable(REVOCABLE) } else { caps },
            claims: page.map(|page| Mutex::new(ParentClaims::new(page))),
            output: Output::new(write),
            input: Input::new(Arc::clone(&read), frame_max),
            ending: OnceLock::new(),
            is_dropped: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            events,
        });
        line.reactor.register(&line, line.key, &read)?;
        let end = WorkerEnd { frame_max, read: worker_read.into(), write: worker_write.into(), page: page_fd };
        Ok((Box::new(PipeLink { line }), end.into_ticket()))
    }

    fn reactor(&self) -> io::Result<Arc<Reactor>> {
        let mut reactor = lock(&self.reactor);
        if let Some(reactor) = &*reactor {
            return Ok(Arc::clone(reactor));
        }
        Ok(Arc::clone(reactor.insert(Reactor::start()?)))
    }
}

/// Names a link to its reactor; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(crate) u64);

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
        // The word first: the worker may see the frame as soon as it is in the queue, since another thread
        // may be writing.
        if let (Some(claims), Some(seq)) = (&line.claims, frame.seq) {
            lock(claims).arm(seq);
        }
        line.output.push(&header, frame.head, frame.body);
    }

    fn flush(&self) {
        let line = &*self.line;
        line.judge(line.output.flush(&line.reactor, line.key));
    }

    fn revoke(&self, seq: Seq) -> Claim {
        self.line.claims.as_ref().map_or(Claim::Unknown, |claims| lock(claims).revoke(seq))
    }

    fn claim_state(&self, seq: Seq) -> Claim {
        self.line.claims.as_ref().map_or(Claim::Unknown, |claims| lock(claims).look(seq))
    }

    fn close(&self) {
        self.line.end(Closed::Ours);
    }

    fn drive(&self, until: &Until<'_>) -> Driven {
        self.line.reactor.drive(until, &self.line.has_ended)
    }

    fn interrupt(&self) {
        self.line.reactor.interrupt();
    }
}

impl Drop for PipeLink {
    fn drop(&mut self) {
        let line = &*self.line;
        line.is_dropped.store(true, Ordering::Release);
        line.reactor.forget_line(line.key);
        line.output.shut(&line.reactor, line.key);
        line.look();
    }
}

/// One link, as the handle and the reactor share it.
pub(crate) struct Line {
    key: Key,
    reactor: Arc<Reactor>,
    caps: LinkCaps,
    claims: Option<Mutex<ParentClaims>>,
    output: Output,
    input: Input,
    /// Why the link is to end, once it is. The first reason counts.
    ending: OnceLock<Closed>,
    is_dropped: AtomicBool,
    has_ended: AtomicBool,
    events: Arc<dyn LinkEvents>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("key", &self.key).field("caps", &self.caps).finish_non_exhaustive()
    }
}

impl Line {
    /// The reactor has seen that there is something to read; `hung_up` if also the end.
    pub(crate) fn readable(&self, hung_up: bool) -> Progress {
        if hung_up {
            self.input.hang_up();
        }
        if self.input.raise() { self.go_on() } else { Progress::Idle }
    }

    /// Reads and delivers for a turn; the caller has the reading role.
    pub(crate) fn go_on(&self) -> Progress {
        let progress = self.input.go_on(self, &*self.events);
        // What was delivered may be what a driver waits for, in another thread.
        self.reactor.interrupt();
        progress
    }

    pub(crate) fn writable(&self) {
        self.judge(self.output.writable(&self.reactor, self.key));
    }

    fn end(&self, why: Closed) {
        // An error means that the link is ending already: the first reason counts.
        let _ = self.ending.set(why);
        self.output.shut(&self.reactor, self.key);
        self.look();
    }

    /// Makes somebody look at `ending` and `is_dropped`: whoever is reading, or else the calling thread.
    fn look(&self) {
        if self.input.raise() {
            while self.go_on() == Progress::More {}
        }
    }

    fn judge(&self, written: io::Result<()>) {
        if let Err(error) = written {
            self.end(Closed::Io(format!("cannot write to the worker: {error}")));
        }
    }
}

impl Outlook for Line {
    fn is_dropped(&self) -> bool {
        self.is_dropped.load(Ordering::Acquire)
    }

    fn ending(&self) -> Option<Closed> {
        self.ending.get().cloned()
    }

    fn ended(&self, fd: &Arc<ParentFd>) {
        self.has_ended.store(true, Ordering::SeqCst);
        self.reactor.forget_read(self.key, fd);
        self.output.shut(&self.reactor, self.key);
    }
}

/// Sets the descriptor, which is the parent's alone, to non-blocking.
pub(crate) fn non_blocking(fd: OwnedFd) -> io::Result<Arc<ParentFd>> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    Ok(Arc::new(ParentFd::new(fd)))
}
