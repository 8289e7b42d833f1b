//! The parent's end of a link, and what opens one.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use pool_core::transport::{Claim, Closed, Driven, Link, LinkCaps, LinkEvents, Outgoing, Payload, Seq, Until};
use pool_os::parent_fds::ParentFd;
use rustix::fs::OFlags;

use crate::claims::{Board, ParentClaims, REVOCABLE};
use crate::frame;
use crate::input::{Input, Outlook, Progress};
use crate::lock;
use crate::output::Output;
use crate::reactor::Reactor;
use crate::stream::{Muting, Stream};

/// Opens links that share a reactor, which starts with the first of them.
#[derive(Debug)]
pub struct Host {
    /// What its thread is called.
    name: &'static str,
    reactor: Mutex<Option<Arc<Reactor>>>,
}

/// What a link is made of at the parent.
#[derive(Debug)]
pub struct LinkParts {
    /// The largest frame.
    pub frame_max: usize,
    /// Becomes readable when something has arrived.
    pub read: Arc<ParentFd>,
    /// What is written to.
    pub write: Arc<ParentFd>,
    /// How bytes travel.
    pub stream: Arc<dyn Stream>,
    /// Where the claim words lie, if there are any.
    pub board: Option<Arc<dyn Board>>,
}

impl Host {
    /// A host whose thread is called `name`.
    pub fn new(name: &'static str) -> Self {
        Self { name, reactor: Mutex::default() }
    }

    /// Starts the thread, unless it runs already.
    ///
    /// # Errors
    /// If the system refuses; nothing is left behind.
    pub fn prepare(&self, spin: Duration) -> io::Result<()> {
        self.reactor(spin).map(drop)
    }

    /// Makes the parent's end of a link. `spin` is how long to look before sleeping; the first link of a host decides.
    ///
    /// # Errors
    /// If the system refuses; nothing is left behind.
    pub fn open(
        &self,
        parts: LinkParts,
        spin: Duration,
        events: Arc<dyn LinkEvents>,
    ) -> io::Result<Box<dyn Link>> {
        let LinkParts { frame_max, read, write, stream, board } = parts;
        let reactor = self.reactor(spin)?;
        let caps = LinkCaps::new(frame_max).drivable(Reactor::DRIVABLE).asks(true);
        let line = Arc::new(Line {
            key: reactor.new_key(),
            reactor,
            caps: if board.is_some() { caps.revocable(REVOCABLE) } else { caps },
            claims: board.as_ref().map(|board| Mutex::new(ParentClaims::new(Arc::clone(board)))),
            board,
            output: Output::new(write, Arc::clone(&stream)),
            input: Input::new(Arc::clone(&read), Arc::clone(&stream), frame_max),
            read: Arc::downgrade(&read),
            stream,
            under_way: AtomicUsize::new(0),
            ending: OnceLock::new(),
            is_dropped: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            events,
        });
        line.reactor.register(&line, line.key, &read)?;
        // Nothing is there yet. A stream that rings learns by it that it has to.
        line.look();
        Ok(Box::new(StreamLink { line }))
    }

    fn reactor(&self, spin: Duration) -> io::Result<Arc<Reactor>> {
        let mut reactor = lock(&self.reactor);
        if let Some(reactor) = &*reactor {
            return Ok(Arc::clone(reactor));
        }
        Ok(Arc::clone(reactor.insert(Reactor::start(self.name, spin)?)))
    }
}

/// Names a link to its reactor; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(crate) u64);

/// The handle that the pool holds. Dropping it ends the link without a further event.
#[derive(Debug)]
struct StreamLink {
    line: Arc<Line>,
}

impl Link for StreamLink {
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
        if frame.seq.is_some() && !line.has_ended.load(Ordering::Relaxed) {
            line.begin_call();
        }
        line.output.push(&header, frame.head, frame.body);
    }

    fn flush(&self) {
        let line = &*self.line;
        line.judge(line.output.flush(&line.reactor, line.key));
    }

    fn revoke(&self, seq: Seq) -> Claim {
        let Some(claims) = &self.line.claims else { return Claim::Unknown };
        let mut claims = lock(claims);
        let before = claims.look(seq);
        let claim = claims.revoke(seq);
        drop(claims);
        if claim == Claim::Revoked && before != Claim::Revoked {
            self.line.end_calls(1);
        }
        claim
    }

    fn claim_state(&self, seq: Seq) -> Claim {
        self.line.claims.as_ref().map_or(Claim::Unknown, |claims| lock(claims).look(seq))
    }

    fn ask_to_stop(&self, seq: Seq) -> bool {
        let line = &*self.line;
        if line.has_ended.load(Ordering::Relaxed) {
            return false;
        }
        if let Some(claims) = &line.claims {
            return lock(claims).ask(seq);
        }
        line.output.push(&frame::request(seq), &[], &Payload::EMPTY);
        self.flush();
        true
    }

    fn close(&self) {
        self.line.end(Closed::Ours);
    }

    fn drive(&self, until: &Until<'_>) -> Driven {
        self.line.reactor.drive(until, &self.line)
    }

    fn interrupt(&self) {
        self.line.reactor.interrupt();
    }
}

impl Drop for StreamLink {
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
    board: Option<Arc<dyn Board>>,
    output: Output,
    input: Input,
    /// Not kept open by this: at the end of the link it is closed.
    read: Weak<ParentFd>,
    stream: Arc<dyn Stream>,
    /// Calls that were sent and neither answered nor taken back, as far as can be told from here.
    under_way: AtomicUsize,
    /// Why the link is to end, once it is. The first reason counts.
    ending: OnceLock<Closed>,
    is_dropped: AtomicBool,
    pub(crate) has_ended: AtomicBool,
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
        if let Some(fd) = self.read.upgrade() {
            self.stream.hear(&fd);
        }
        self.judge(self.output.hear(&self.reactor, self.key));
        self.turn()
    }

    /// Reads and delivers for a turn, if nobody else is at it.
    fn turn(&self) -> Progress {
        if self.input.raise() { self.go_on() } else { Progress::Idle }
    }

    /// Reads and delivers for a turn; the caller has the reading role.
    pub(crate) fn go_on(&self) -> Progress {
        let progress = self.input.go_on(self, &*self.events);
        // What was delivered may be what a driver waits for, in another thread.
        self.reactor.interrupt();
        progress
    }

    /// A look by a thread that spins. `None`: there is nothing.
    pub(crate) fn glance(&self) -> Option<Progress> {
        let fd = self.read.upgrade()?;
        self.stream.has_arrived(&fd).then(|| self.turn())
    }

    /// Whether calls are under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// A thread looks by itself from now on, by [`glance`](Self::glance).
    pub(crate) fn mute(&self) {
        if self.stream.mute(true) == Muting::LookAway
            && let Some(fd) = self.read.upgrade()
        {
            self.reactor.look_away(self.key, &fd);
        }
    }

    /// It does no more. What has come meanwhile is seen to.
    pub(crate) fn unmute(&self) -> Progress {
        if self.stream.mute(false) == Muting::LookAway {
            if let Some(fd) = self.read.upgrade() {
                self.reactor.look_again(self.key, &fd);
            }
            return Progress::Idle;
        }
        self.turn()
    }

    fn begin_call(&self) {
        if self.under_way.fetch_add(1, Ordering::Relaxed) == 0 {
            self.reactor.spin().begin();
        }
        let allowed = self.reactor.spin().for_worker().as_nanos() as u64;
        // Written only if it changes: the worker has it in its cache.
        if let Some(board) = &self.board
            && board.spin().load(Ordering::Relaxed) != allowed
        {
            board.spin().store(allowed, Ordering::Relaxed);
        }
    }

    /// What comes before the first call, and after the last, is none.
    fn end_calls(&self, count: usize) {
        let fewer = |under_way: usize| Some(under_way.saturating_sub(count));
        let before = self.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).unwrap_or_default();
        if before > 0 && before <= count {
            self.reactor.spin().end();
        }
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
            self.end(match error.kind() {
                // It is the worker's doing.
                io::ErrorKind::InvalidData => Closed::Malformed(error.to_string()),
                _ => Closed::Io(format!("cannot write to the worker: {error}")),
            });
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // A call that was sent when the end was near.
        self.end_calls(usize::MAX);
    }
}

impl Outlook for Line {
    fn is_dropped(&self) -> bool {
        self.is_dropped.load(Ordering::Acquire)
    }

    fn ending(&self) -> Option<Closed> {
        self.ending.get().cloned()
    }

    fn delivered(&self, frames: usize) {
        if frames > 0 {
            self.reactor.count(frames);
            self.end_calls(frames);
        }
    }

    fn ended(&self, fd: &Arc<ParentFd>) {
        self.end_calls(usize::MAX);
        self.has_ended.store(true, Ordering::SeqCst);
        self.reactor.forget_read(self.key, fd);
        self.output.shut(&self.reactor, self.key);
    }
}

/// Two pipes, one each way. The parent's ends never block.
#[derive(Debug)]
pub struct Pipes {
    /// What the worker has written.
    pub read: Arc<ParentFd>,
    /// What the worker will read.
    pub write: Arc<ParentFd>,
    /// The worker's, which blocks. (Whether it does is a property of the open file, and a pipe's two ends are two.)
    pub worker_read: OwnedFd,
    /// The worker's, which blocks.
    pub worker_write: OwnedFd,
}

impl Pipes {
    /// Makes them.
    ///
    /// # Errors
    /// What the system says, typically that descriptors have run out.
    pub fn new() -> io::Result<Self> {
        let (worker_read, write) = io::pipe()?;
        let (read, worker_write) = io::pipe()?;
        Ok(Self {
            read: non_blocking(read.into())?,
            write: non_blocking(write.into())?,
            worker_read: worker_read.into(),
            worker_write: worker_write.into(),
        })
    }
}

/// Sets the descriptor, which is the parent's alone, to non-blocking.
pub(crate) fn non_blocking(fd: OwnedFd) -> io::Result<Arc<ParentFd>> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
    Ok(Arc::new(ParentFd::new(fd)))
}
