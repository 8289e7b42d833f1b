//! The parent's end: what waits to be sent, and who has which call. Its thread is in `watch`.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Poll, Waker};
use pool_core::transport::{
    Claim, Closed, Driven, Link, LinkCaps, LinkEvents, Outgoing, Payload, Seq, Ticket, Until,
};

use crate::ticket::Terms;
use crate::watch::{self, LISTENER, WAKER};
use crate::wire::{self, Kind};

/// How many calls may be unsettled at once.
const REVOCABLE: usize = 256;

/// Opens a link: a listener for its worker, and a thread that waits there.
pub(crate) fn open(
    lease: Duration,
    frame_max: usize,
    events: Arc<dyn LinkEvents>,
) -> io::Result<(Box<dyn Link>, Ticket)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let terms = Terms::new(lease, frame_max)?;
    let ticket = terms.to_ticket(listener.local_addr()?);
    let line = Arc::new(Line { terms, events, waker, desk: Mutex::default() });
    let watched = Arc::clone(&line);
    let thread = thread::Builder::new().name("tcp-link".to_owned());
    thread.spawn(move || watch::run(&watched, poll, listener))?;
    Ok((Box::new(TcpLink(line)), ticket))
}

/// What the pool holds. Dropping it ends the link without a further event.
struct TcpLink(Arc<Line>);

impl Link for TcpLink {
    fn caps(&self) -> LinkCaps {
        LinkCaps::new(self.0.terms.frame_max).revocable(REVOCABLE)
    }

    fn send(&self, frame: Outgoing<'_>) {
        let (len, limit) = (frame.head.len() + frame.body.len(), self.0.terms.frame_max);
        if len > limit {
            return self.0.end(Closed::Malformed(format!("{len} bytes to send, where {limit} is the limit")));
        }
        let mut desk = self.0.desk();
        if let Some(seq) = frame.seq {
            // On a closed link, too: what becomes of the call is asked for later.
            desk.calls.insert(seq, Claim::Queued);
        }
        desk.push(&[&wire::header(Kind::Frame, len), frame.head].concat(), frame.body);
    }

    fn flush(&self) {
        self.0.desk().flush();
    }

    fn revoke(&self, seq: Seq) -> Claim {
        self.0.desk().decide(seq, Claim::Revoked)
    }

    fn claim_state(&self, seq: Seq) -> Claim {
        self.0.desk().calls.get(&seq).copied().unwrap_or(Claim::Unknown)
    }

    fn close(&self) {
        self.0.end(Closed::Ours);
    }

    fn drive(&self, _: &Until<'_>) -> Driven {
        Driven::Unsupported
    }

    fn interrupt(&self) {}
}

impl Drop for TcpLink {
    fn drop(&mut self) {
        self.0.desk().is_dropped = true;
        self.0.end(Closed::Ours);
        // Now, and not by the thread, which may be within an event: the worker waits for a receipt.
        self.0.hang_up();
    }
}

/// One link, as the pool's threads and its own share it.
pub(crate) struct Line {
    pub(crate) terms: Terms,
    pub(crate) events: Arc<dyn LinkEvents>,
    waker: Waker,
    desk: Mutex<Desk>,
}

/// Never locked while foreign code runs.
#[derive(Default)]
pub(crate) struct Desk {
    /// The worker, once it has come.
    stream: Option<Arc<TcpStream>>,
    /// What is to be written, and how much of the first piece was.
    out: VecDeque<Payload>,
    written: usize,
    /// Those that were sent, but for those that were decided long ago.
    calls: BTreeMap<Seq, Claim>,
    /// Why the link is to end. The first reason counts.
    pub(crate) ending: Option<Closed>,
    /// Nobody wants to know of anything any more.
    pub(crate) is_dropped: bool,
}

impl Line {
    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, why: Closed) {
        let mut desk = self.desk();
        desk.ending.get_or_insert(why);
        desk.out.clear();
        drop(desk);
        // It writes eight bytes to where there is room for them.
        let _ = self.waker.wake();
    }

    /// The worker has come, and shown its secret.
    pub(crate) fn connect(&self, stream: &Arc<TcpStream>) {
        let mut desk = self.desk();
        desk.stream = Some(Arc::clone(stream));
        desk.out.push_front(Payload::copied(&self.terms.answer));
        desk.flush();
    }

    /// Answers the worker, unless the link is to end.
    pub(crate) fn say(&self, kind: Kind) {
        let mut desk = self.desk();
        desk.push(&wire::header(kind, 0), &Payload::EMPTY);
        desk.flush();
    }

    /// The worker wants to start a call.
    pub(crate) fn claim(&self, seq: Seq) {
        let mut desk = self.desk();
        // It asks in order. What lies so far behind was decided, and is of no interest to anybody.
        while desk.calls.first_key_value().is_some_and(|(first, _)| first.0 + (REVOCABLE as u64) <= seq.0) {
            desk.calls.pop_first();
        }
        // One that is not here was decided long ago.
        let may_start = desk.ending.is_none() && desk.decide(seq, Claim::Started) == Claim::Started;
        drop(desk);
        self.say(if may_start { Kind::Yes } else { Kind::No });
    }

    fn hang_up(&self) {
        if let Some(stream) = self.desk().stream.take() {
            // To close it is not enough where a process was forked that has it as well.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// The end. For the link's thread, after its last event but one.
    pub(crate) fn finish(&self, why: Closed) {
        let mut desk = self.desk();
        desk.ending.get_or_insert(why.clone());
        desk.out.clear();
        let is_dropped = desk.is_dropped;
        drop(desk);
        self.hang_up();
        if !is_dropped {
            self.events.closed(why);
        }
    }
}

impl Desk {
    fn push(&mut self, first: &[u8], rest: &Payload) {
        if self.ending.is_none() {
            self.out.push_back(Payload::copied(first));
            self.out.extend((!rest.is_empty()).then(|| rest.clone()));
        }
    }

    /// Writes what there is room for. The rest is written when the link's thread hears that there is room again.
    pub(crate) fn flush(&mut self) {
        let Some(stream) = &self.stream else { return };
        while !self.out.is_empty() {
            let mut pieces = [IoSlice::new(&[]); 16];
            let mut skipped = self.written;
            for (piece, payload) in pieces.iter_mut().zip(&self.out) {
                *piece = IoSlice::new(&payload.as_slice()[std::mem::take(&mut skipped)..]);
            }
            match (&**stream).write_vectored(&pieces) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The worker is gone. Who reads finds out, after what it had sent before.
                Err(_) => self.out.clear(),
            }
            while let Some(first) = self.out.front()
                && self.written >= first.len()
            {
                self.written -= first.len();
                self.out.pop_front();
            }
        }
        self.written = 0;
    }

    /// Starts a call or takes it back, if neither was done before; which of the two it was.
    fn decide(&mut self, seq: Seq, fate: Claim) -> Claim {
        match self.calls.get_mut(&seq) {
            Some(claim) if *claim == Claim::Queued => {
                *claim = fate;
                fate
            }
            Some(claim) => *claim,
            None => Claim::Unknown,
        }
    }
}
