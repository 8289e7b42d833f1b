//! A good transport with one fault. Each is as narrow as its law allows, so that no other is broken beside it.
#![cfg_attr(
    all(windows, target_env = "gnu"),
    allow(
        clippy::missing_const_for_thread_local,
        reason = "it is const, which some clippy do not see on this target"
    )
)]

use std::borrow::Cow;
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pool_core::transport::{
    Channel, Claim, Closed, Connector, Driven, Link, LinkCaps, LinkEvents, Outgoing, Payload, Seq, StopRequests,
    Ticket, Transport, Until,
};
use pool_transport_pipe::Pipe;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    NothingAtAll,
    DropsAFrame,
    DropsEmptyFrames,
    CutsHugeFrames,
    SplitsAFrame,
    ReordersFrames,
    DuplicatesAFrame,
    TruncatesAFrame,
    ForgetsWhatWasSentEarly,
    DeliversACutFrame,
    LosesTheLastFrame,
    LosesAFrameWhenItWrites,
    DeliversAfterTheEnd,
    SwallowsTheEnd,
    TellsTheEndTwice,
    TellsADroppedReceiver,
    BlocksInSend,
    BlocksTheWorker,
    PanicsAfterTheEnd,
    DropsWhatIsTooLong,
    AcceptsWhatIsTooLong,
    ClaimsWhatWasRevoked,
    RevokesWhatWasStarted,
    DoesNotKnow,
    SaysItCannotRevoke,
    ForgetsWhatArrivedWithTheClose,
    ClosesWhenTheWorkerIsThere,
    ClosesNoFlood,
    IsNotInterrupted,
    IgnoresTheDeadline,
    DeliversTwiceWhenDriven,
    DrivesWithoutDelivering,
    SaysItCannotBeDriven,
    LeaksADescriptor,
    LeaksAThread,
    LeaksWhatItCouldNotOpen,
    KeepsTheReceiver,
    NeverSleeps,
    CanBeInherited,
    DoesNotSayDrained,
    TellsTwoThingsAtOnce,
    IgnoresACloseFromWithin,
    HidesTheEndFromTheWorker,
    HidesTheEndFromASender,
    TakesAnyTicket,
    AsksNobody,
    AsksAllThatFollow,
    SaysItCannotAsk,
}

use Fault::*;

/// Where in large frames most faults lie: sizes that only the cases about sizes have.
fn is_marked(frame: &[u8]) -> bool {
    (110_000..190_000).contains(&frame.len())
}

/// The transport.
#[derive(Debug)]
pub(crate) struct Mutant {
    fault: Fault,
    pipe: Pipe,
    shared: Arc<Shared>,
}

/// What both sides know, as they are in one process.
#[derive(Debug, Default)]
struct Shared {
    is_connected: AtomicBool,
    /// Bytes that the parent has sent and the worker not received.
    unread: AtomicUsize,
    /// Frames that are no calls, of the same kind.
    unread_frames: AtomicUsize,
    /// The parent has sent a frame of some size.
    has_written: AtomicBool,
    /// A frame has come that only a flood is made of.
    is_flooded: AtomicBool,
}

impl Mutant {
    pub(crate) fn new(fault: Fault, pipe: Pipe) -> Self {
        Self { fault, pipe, shared: Arc::default() }
    }
}

/// Counts the links of this process. Some faults come with every fourth, so that a case must look at several.
static LINKS: AtomicUsize = AtomicUsize::new(0);

impl Transport for Mutant {
    fn name(&self) -> &str {
        self.pipe.name()
    }

    fn frame_max(&self) -> usize {
        Transport::frame_max(&self.pipe)
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(MutantConnector {
            fault: self.fault,
            frame_max: self.frame_max(),
            connector: self.pipe.connector(),
            shared: Arc::clone(&self.shared),
        })
    }

    fn open(&self, events: Arc<dyn LinkEvents>) -> io::Result<(Box<dyn Link>, Ticket)> {
        let fault = self.fault;
        let is_fourth = LINKS.fetch_add(1, Ordering::Relaxed) % 4 == 3;
        let spare = (fault == LeaksWhatItCouldNotOpen).then(null).transpose()?;
        let receiver = Receiver {
            fault,
            events: Arc::clone(&events),
            state: Mutex::default(),
            shared: Arc::clone(&self.shared),
        };
        let receiver = Arc::new(receiver);
        let opened = self.pipe.open(receiver.clone());
        if opened.is_err() {
            mem::forget(spare);
        }
        let (link, ticket) = opened?;
        let mut inherited = None;
        let is_open = Arc::new(AtomicBool::new(true));
        match fault {
            LeaksADescriptor if is_fourth => mem::forget(null()?),
            LeaksAThread if is_fourth => drop(thread::Builder::new().spawn(|| {
                loop {
                    thread::park();
                }
            })?),
            KeepsTheReceiver => mem::forget(events),
            NeverSleeps => {
                let is_open = Arc::clone(&is_open);
                let tick = move || {
                    while is_open.load(Ordering::Relaxed) {
                        thread::sleep(Duration::from_millis(5));
                    }
                };
                drop(thread::Builder::new().spawn(tick)?);
            }
            CanBeInherited => inherited = Some(inheritable(null()?)),
            _ => {}
        }
        let link =
            MutantLink { fault, link, receiver, is_open, shared: Arc::clone(&self.shared), _inherited: inherited };
        Ok((Box::new(link), ticket))
    }
}

pub(crate) fn null() -> io::Result<File> {
    File::open("/dev/null")
}

pub(crate) fn inheritable(file: File) -> File {
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).expect("set");
    file
}

/// Between the link and whoever receives its events.
struct Receiver {
    fault: Fault,
    events: Arc<dyn LinkEvents>,
    state: Mutex<State>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct State {
    frames: usize,
    held: Option<Vec<u8>>,
    /// The parent wants it.
    is_closing: bool,
    /// The receiver has been told.
    has_ended: bool,
}

thread_local! {
    /// Whether this thread drives a link.
    static DRIVES: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread delivers an event.
    static DELIVERS: Cell<bool> = const { Cell::new(false) };
}

impl LinkEvents for Receiver {
    fn arriving(&self) {
        self.events.arriving();
    }

    fn frame(&self, frame: Cow<'_, [u8]>) {
        let mut state = self.state.lock().expect("no panic");
        state.frames += 1;
        let (number, is_closing) = (state.frames, state.is_closing);
        match self.fault {
            DropsAFrame if is_marked(&frame) => return,
            DropsEmptyFrames if frame.is_empty() => return,
            LosesAFrameWhenItWrites if self.shared.has_written.load(Ordering::SeqCst) => {
                let last = state.held.replace(frame.into_owned());
                drop(state);
                if let Some(last) = last {
                    self.events.frame(last.into());
                }
                return;
            }
            ForgetsWhatArrivedWithTheClose if is_closing && frame.len() < 16 => return,
            ReordersFrames if is_marked(&frame) && state.held.is_none() => {
                state.held = Some(frame.into_owned());
                return;
            }
            // Held back until there is another one; where the worker is a process of its own.
            LosesTheLastFrame if !self.shared.is_connected.load(Ordering::SeqCst) => {
                let last = state.held.replace(frame.into_owned());
                drop(state);
                if let Some(last) = last {
                    self.events.frame(last.into());
                }
                return;
            }
            _ => {}
        }
        let held = state.held.take();
        drop(state);
        let is_cut = match self.fault {
            CutsHugeFrames => frame.len() > 2_000_000,
            _ => is_marked(&frame),
        };
        if self.fault == ClosesNoFlood && frame.len() == 3000 {
            self.shared.is_flooded.store(true, Ordering::SeqCst);
        }
        match self.fault {
            DuplicatesAFrame if is_marked(&frame) => self.events.frame(Cow::Borrowed(&frame)),
            DeliversTwiceWhenDriven if DRIVES.get() && number % 50 == 0 => {
                self.events.frame(Cow::Borrowed(&frame));
            }
            TruncatesAFrame | CutsHugeFrames if is_cut => {
                return self.events.frame(Cow::Borrowed(&frame[..frame.len() - 1]));
            }
            TellsTwoThingsAtOnce if frame.len() == 8 => {
                return thread::scope(|scope| {
                    scope.spawn(|| self.events.drained());
                    self.events.frame(frame);
                });
            }
            _ => {}
        }
        DELIVERS.set(true);
        self.events.frame(frame);
        DELIVERS.set(false);
        if let Some(held) = held {
            self.events.frame(held.into());
        }
    }

    fn drained(&self) {
        DELIVERS.set(true);
        if self.fault != DoesNotSayDrained {
            self.events.drained();
        }
        DELIVERS.set(false);
    }

    fn closed(&self, why: Closed) {
        let mut state = self.state.lock().expect("no panic");
        let (frames, held) = (state.frames, state.held.take());
        state.has_ended = true;
        drop(state);
        match (self.fault, &why) {
            (ReordersFrames | LosesTheLastFrame, Closed::Ours) => {
                held.into_iter().for_each(|held| self.events.frame(held.into()));
            }
            (SwallowsTheEnd, Closed::Eof) if frames == 0 => return,
            (TellsTheEndTwice, Closed::Eof) => self.events.closed(why.clone()),
            (DeliversACutFrame, Closed::Truncated) => self.events.frame(b"a half"[..].into()),
            _ => {}
        }
        let is_eof = why == Closed::Eof;
        self.events.closed(why);
        if self.fault == DeliversAfterTheEnd && is_eof {
            self.events.frame(b"late"[..].into());
        }
    }
}

struct MutantLink {
    fault: Fault,
    link: Box<dyn Link>,
    receiver: Arc<Receiver>,
    is_open: Arc<AtomicBool>,
    shared: Arc<Shared>,
    _inherited: Option<File>,
}

impl MutantLink {
    fn what(&self, claim: Claim) -> Claim {
        match self.fault {
            DoesNotKnow if self.receiver.state.lock().expect("no panic").is_closing => Claim::Unknown,
            RevokesWhatWasStarted if claim == Claim::Started => Claim::Revoked,
            _ => claim,
        }
    }
}

impl Link for MutantLink {
    fn caps(&self) -> LinkCaps {
        let mut caps = self.link.caps();
        match self.fault {
            SaysItCannotBeDriven => caps.drivable = false,
            SaysItCannotRevoke => caps.revocable = None,
            SaysItCannotAsk => caps.asks = false,
            _ => {}
        }
        caps
    }

    fn send(&self, frame: Outgoing<'_>) {
        let len = frame.head.len() + frame.body.len();
        match self.fault {
            ForgetsWhatWasSentEarly if !self.shared.is_connected.load(Ordering::SeqCst) => return,
            SplitsAFrame if frame.head.len() == 4 && len > 5_000 => {
                self.link.send(Outgoing { body: &Payload::EMPTY, ..frame });
                return self.link.send(Outgoing { head: &[], ..frame });
            }
            LosesAFrameWhenItWrites if len == 20_000 => self.shared.has_written.store(true, Ordering::SeqCst),
            BlocksTheWorker if frame.seq.is_none() => {
                self.shared.unread_frames.fetch_add(1, Ordering::SeqCst);
            }
            DropsWhatIsTooLong if len > self.caps().frame_max => return,
            PanicsAfterTheEnd if frame.seq.is_some() => {
                let state = self.receiver.state.lock().expect("no panic");
                let (is_closing, has_ended) = (state.is_closing, state.has_ended);
                drop(state);
                assert!(is_closing || !has_ended, "the worker is gone");
            }
            // No more than so many bytes wait for the worker.
            BlocksInSend => {
                while self.shared.unread.load(Ordering::SeqCst) > 16 << 20 {
                    thread::yield_now();
                }
                self.shared.unread.fetch_add(len, Ordering::SeqCst);
            }
            _ => {}
        }
        self.link.send(frame);
    }

    fn flush(&self) {
        self.link.flush();
    }

    fn revoke(&self, seq: Seq) -> Claim {
        self.what(self.link.revoke(seq))
    }

    fn claim_state(&self, seq: Seq) -> Claim {
        self.what(self.link.claim_state(seq))
    }

    fn ask_to_stop(&self, seq: Seq) -> bool {
        self.fault == AsksNobody || self.link.ask_to_stop(seq)
    }

    fn close(&self) {
        self.receiver.state.lock().expect("no panic").is_closing = true;
        if self.fault == ClosesWhenTheWorkerIsThere && !self.shared.is_connected.load(Ordering::SeqCst) {
            return;
        }
        let is_deaf = match self.fault {
            ClosesNoFlood => self.shared.is_flooded.load(Ordering::SeqCst),
            IgnoresACloseFromWithin => DELIVERS.get(),
            _ => false,
        };
        if !is_deaf {
            self.link.close();
        }
    }

    fn drive(&self, until: &Until<'_>) -> Driven {
        if self.fault == DrivesWithoutDelivering {
            while !(until.done)() {
                if until.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Driven::TimedOut;
                }
                thread::yield_now();
            }
            return Driven::Done;
        }
        let deadline = if self.fault == IgnoresTheDeadline { None } else { until.deadline };
        DRIVES.set(true);
        let driven = self.link.drive(&Until { done: until.done, deadline });
        DRIVES.set(false);
        driven
    }

    fn interrupt(&self) {
        if self.fault != IsNotInterrupted {
            self.link.interrupt();
        }
    }
}

impl Drop for MutantLink {
    fn drop(&mut self) {
        self.is_open.store(false, Ordering::Relaxed);
        if self.fault == TellsADroppedReceiver {
            self.receiver.events.drained();
        }
    }
}

#[derive(Debug)]
struct MutantConnector {
    fault: Fault,
    frame_max: usize,
    connector: Box<dyn Connector>,
    shared: Arc<Shared>,
}

impl Connector for MutantConnector {
    fn name(&self) -> &str {
        self.connector.name()
    }

    fn connect(&self, mut ticket: Ticket) -> io::Result<Box<dyn Channel>> {
        if self.fault == TakesAnyTicket {
            ticket.transport = self.name().to_owned();
        }
        let channel = self.connector.connect(ticket)?;
        self.shared.is_connected.store(true, Ordering::SeqCst);
        let (fault, frame_max, shared) = (self.fault, self.frame_max, Arc::clone(&self.shared));
        Ok(Box::new(MutantChannel { fault, frame_max, channel, shared, has_ended: false }))
    }
}

struct MutantChannel {
    fault: Fault,
    frame_max: usize,
    channel: Box<dyn Channel>,
    shared: Arc<Shared>,
    has_ended: bool,
}

impl Channel for MutantChannel {
    fn recv(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        let received = self.channel.recv(frame)?;
        if self.fault == BlocksInSend && received {
            self.shared.unread.fetch_sub(frame.len(), Ordering::SeqCst);
        }
        if self.fault == BlocksTheWorker && received {
            // Counted when it is sent, unless it is a call.
            let one_less = |count: usize| count.checked_sub(1);
            let _ = self.shared.unread_frames.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        }
        self.has_ended |= !received;
        Ok(received)
    }

    fn claim(&mut self, seq: Seq) -> bool {
        self.channel.claim(seq) || self.fault == ClaimsWhatWasRevoked
    }

    fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let is_too_long = head.len() + body.len() > self.frame_max;
        match self.fault {
            AcceptsWhatIsTooLong if is_too_long => Ok(()),
            HidesTheEndFromTheWorker if self.has_ended => Ok(()),
            HidesTheEndFromASender if head == [5; 1000] => {
                // Whatever came of it.
                let _ = self.channel.send(head, body);
                Ok(())
            }
            BlocksTheWorker => {
                while self.shared.unread_frames.load(Ordering::SeqCst) > 250 {
                    thread::yield_now();
                }
                self.channel.send(head, body)
            }
            _ => self.channel.send(head, body),
        }
    }

    fn stop_requests(&self) -> Arc<dyn StopRequests> {
        let requests = self.channel.stop_requests();
        match self.fault {
            AsksAllThatFollow => Arc::new(Lasting { requests, has_asked: AtomicBool::new(false) }),
            _ => requests,
        }
    }
}

/// What was asked for once is asked for from then on.
struct Lasting {
    requests: Arc<dyn StopRequests>,
    has_asked: AtomicBool,
}

impl StopRequests for Lasting {
    fn is_asked(&self, seq: Seq) -> bool {
        let is_asked = self.requests.is_asked(seq);
        self.has_asked.fetch_or(is_asked, Ordering::SeqCst) || is_asked
    }
}
