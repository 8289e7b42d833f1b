//! A worker as its parent sees it: the link, what waits to be sent, and the handshake.
//!
//! The machine knows the worker by its id; this is what the id stands for. It knows nothing of other
//! workers, and of calls only what it takes to send them and to read their replies.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::thread::ThreadId;
use std::time::Duration;

use crate::WorkerId;
use crate::call::{Call, ReplyBytes, lock};
use crate::driver::Pool;
use crate::error::{Exit, InitializerFailed, StartError};
use crate::machine::Input;
use crate::spawner::{ExitReport, Signal, Worker};
use crate::transport::{Claim, Closed, Driven, Link, LinkEvents, Outgoing, Payload, Seq, Until};
use crate::wire::{self, Failure, Hello, Kind, NoHello, SettingFailed, Status, Token};

/// How far the handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing has come from the worker.
    Silent,
    /// It has introduced itself, and runs its initializer, if there is one.
    Greeted,
    /// It takes calls.
    Live,
    /// It broke the rules; whatever comes is ignored.
    Refused,
}

/// Something on its way to the worker.
#[derive(Debug)]
pub(crate) enum Letter {
    Call(Seq, Arc<Call>),
    /// A call that may not take longer than this. Boxed, so that the others take no room for it.
    Limited(Box<(Seq, Arc<Call>, Duration)>),
    Frame(Vec<u8>),
}

impl Letter {
    fn seq(&self) -> Option<Seq> {
        match self {
            Self::Call(seq, _) => Some(*seq),
            Self::Limited(limited) => Some(limited.0),
            Self::Frame(_) => None,
        }
    }
}

#[derive(Debug, Default)]
struct Outbox {
    queue: VecDeque<Letter>,
    /// The thread that is sending; it takes what others add meanwhile.
    sender: Option<ThreadId>,
    /// The call that it is handing to the link in this moment.
    handing: Option<Seq>,
    /// Others wait for that moment to pass.
    awaited: bool,
}

impl Outbox {
    fn position(&self, seq: Seq) -> Option<usize> {
        self.queue.iter().position(|letter| letter.seq() == Some(seq))
    }
}

#[derive(Default)]
struct Process {
    worker: Option<Box<dyn Worker>>,
    /// A signal that came before the process did.
    doomed: Option<Signal>,
    /// The spawner has returned: what is not known by now never will be.
    settled: bool,
}

/// What came from a worker and was not yet handed to its call.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) seq: Seq,
    /// How long the call took, as the worker says.
    pub(crate) took: Duration,
    pub(crate) reply: Reply,
}

/// A reply that was read.
#[derive(Debug)]
pub(crate) enum Reply {
    Ok(ReplyBytes),
    Failed(Failure),
}

pub(crate) struct Slot {
    pub(crate) id: WorkerId,
    token: OnceLock<Token>,
    link: OnceLock<Box<dyn Link>>,
    process: Mutex<Process>,
    /// Notified when the spawner has returned.
    settled: Condvar,
    outbox: Mutex<Outbox>,
    /// How many calls were posted: the first number that the worker cannot know.
    calls_posted: AtomicU64,
    /// Notified when a call that others wait for was handed to the link.
    handed: Condvar,
    stage: Mutex<Stage>,
    replies: Mutex<Vec<Answer>>,
    /// Calls that were handed to the link with blobs, which are large.
    large: Mutex<Vec<(Seq, Weak<Call>)>>,
    /// The shared values that it has.
    shares: Mutex<HashSet<u64>>,
    me: Weak<Self>,
    exit: OnceLock<ExitReport>,
    /// Why it did not come up.
    failure: Mutex<Option<StartError>>,
    /// What the pool holds against it.
    fault: OnceLock<String>,
    pub(crate) initializer_failed: OnceLock<InitializerFailed>,
}

impl Slot {
    pub(crate) fn new(id: WorkerId) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            id,
            me: Weak::clone(me),
            token: OnceLock::new(),
            link: OnceLock::new(),
            process: Mutex::default(),
            settled: Condvar::new(),
            outbox: Mutex::default(),
            calls_posted: AtomicU64::new(0),
            handed: Condvar::new(),
            stage: Mutex::new(Stage::Silent),
            replies: Mutex::default(),
            large: Mutex::default(),
            shares: Mutex::default(),
            exit: OnceLock::new(),
            failure: Mutex::default(),
            fault: OnceLock::new(),
            initializer_failed: OnceLock::new(),
        })
    }

    /// What the worker has to show.
    pub(crate) fn set_token(&self, token: Token) {
        let fresh = self.token.set(token).is_ok();
        debug_assert!(fresh, "invariant: a worker is started once");
    }

    pub(crate) fn set_link(&self, link: Box<dyn Link>) {
        let fresh = self.link.set(link).is_ok();
        debug_assert!(fresh, "invariant: a worker has one link");
    }

    /// Takes the started process, which gets what was posted meanwhile: its initializer, or the signal if it is
    /// not wanted any more. True if it has ended meanwhile: then its end is still to be told.
    pub(crate) fn set_worker(&self, worker: Box<dyn Worker>) -> bool {
        let has_ended = {
            let mut process = lock(&self.process);
            if let Some(signal) = process.doomed {
                // It may have ended meanwhile, which is as well.
                let _ = worker.signal(signal);
            }
            process.worker = Some(worker);
            process.settled = true;
            self.exit.get().is_some()
        };
        self.settled.notify_all();
        self.flush();
        has_ended
    }

    fn has_worker(&self) -> bool {
        lock(&self.process).worker.is_some()
    }

    pub(crate) fn is_doomed(&self) -> bool {
        lock(&self.process).doomed.is_some()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let mut process = lock(&self.process);
        match &process.worker {
            // A signal that the system refuses finds the worker at its deadline.
            Some(worker) => drop(worker.signal(signal)),
            None => process.doomed = Some(signal),
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        lock(&self.process).worker.as_ref()?.pid()
    }

    /// The process id of a worker that has introduced itself, waited for if it was quicker than its own start.
    pub(crate) fn pid_known(&self) -> Option<u32> {
        let mut process = lock(&self.process);
        if *lock(&self.stage) != Stage::Silent {
            let returned = self.settled.wait_while(process, |process| !process.settled);
            process = returned.unwrap_or_else(PoisonError::into_inner);
        }
        process.worker.as_ref()?.pid()
    }

    /// Notes that its start has failed.
    pub(crate) fn set_no_worker(&self, error: StartError) {
        // It may have taken a call meanwhile, whose loss this explains then.
        let _ = self.fault.set(error.to_string());
        self.fail(error);
        lock(&self.process).settled = true;
        self.settled.notify_all();
    }

    /// Takes in how the process ended. False if the process itself is not known yet, so that nobody could
    /// say which it was: a worker may be up, take a call and end before its spawner returns. Whoever brings
    /// it tells of its end.
    pub(crate) fn set_exit(&self, report: ExitReport) -> bool {
        let process = lock(&self.process);
        // A second report would break S1; the first one stands.
        let _ = self.exit.set(report);
        process.worker.is_some()
    }

    pub(crate) fn exit(&self) -> Exit {
        let unknown = || Exit::Unknown("it was not reported".to_owned());
        self.exit.get().map_or_else(unknown, |report| report.exit.clone())
    }

    /// What the worker wrote down before it ended.
    pub(crate) fn last_words(&self) -> Option<String> {
        self.exit.get()?.last_words.clone()
    }

    pub(crate) fn fault(&self) -> Option<&str> {
        self.fault.get().map(String::as_str)
    }

    /// Notes why the worker does not come up; the first reason stands.
    pub(crate) fn fail(&self, error: StartError) {
        lock(&self.failure).get_or_insert(error);
    }

    /// Why the worker came to nothing.
    pub(crate) fn take_failure(&self) -> StartError {
        lock(&self.failure)
            .take()
            .unwrap_or_else(|| StartError::Ended { exit: self.exit(), last_words: self.last_words() })
    }

    /// Adds to what is to be sent, keeping the sequence; [`flush`](Self::flush) sends it.
    pub(crate) fn post(&self, letter: Letter) {
        if let Some(seq) = letter.seq() {
            self.calls_posted.store(seq.0 + 1, Ordering::Release);
        }
        lock(&self.outbox).queue.push_back(letter);
    }

    /// Sends what is posted, unless another thread is at it, which then sends this too.
    pub(crate) fn flush(&self) {
        let Some(link) = self.link.get() else { return };
        let mut count = {
            let mut outbox = lock(&self.outbox);
            if outbox.sender.is_some() || outbox.queue.is_empty() {
                return;
            }
            outbox.sender = Some(std::thread::current().id());
            outbox.queue.len()
        };
        loop {
            for _ in 0..count {
                let Some(letter) = self.next_letter() else { break };
                self.send(link.as_ref(), &letter);
            }
            self.note_handed(&mut lock(&self.outbox), None);
            link.flush();
            let mut outbox = lock(&self.outbox);
            count = outbox.queue.len();
            if count == 0 {
                outbox.sender = None;
                return;
            }
        }
    }

    /// Takes the next letter to hand to the link, after the last one was.
    fn next_letter(&self) -> Option<Letter> {
        let mut outbox = lock(&self.outbox);
        let letter = outbox.queue.pop_front();
        self.note_handed(&mut outbox, letter.as_ref().and_then(Letter::seq));
        letter
    }

    fn note_handed(&self, outbox: &mut Outbox, next: Option<Seq>) {
        outbox.handing = next;
        if std::mem::take(&mut outbox.awaited) {
            self.handed.notify_all();
        }
    }

    /// Takes a call back if the worker has not started it.
    ///
    /// The link can answer for calls that it was handed only. One that is still posted here has started
    /// nowhere; one that is being handed over is waited for, which takes as long as a copy of its frame.
    pub(crate) fn revoke(&self, seq: Seq) -> Claim {
        let mut outbox = lock(&self.outbox);
        if let Some(at) = outbox.position(seq) {
            outbox.queue.remove(at);
            return Claim::Revoked;
        }
        // A link that reports its end from within `send` comes back to here on the sender's own thread.
        while outbox.handing == Some(seq) && outbox.sender != Some(std::thread::current().id()) {
            outbox.awaited = true;
            outbox = self.handed.wait(outbox).unwrap_or_else(PoisonError::into_inner);
        }
        drop(outbox);
        self.link.get().map_or(Claim::Unknown, |link| link.revoke(seq))
    }

    pub(crate) fn claim_state(&self, seq: Seq) -> Claim {
        {
            let outbox = lock(&self.outbox);
            if outbox.handing == Some(seq) || outbox.position(seq).is_some() {
                return Claim::Queued;
            }
        }
        self.link.get().map_or(Claim::Unknown, |link| link.claim_state(seq))
    }

    /// Asks the worker to stop a call. Whether it can hear of that.
    pub(crate) fn ask_to_stop(&self, seq: Seq) -> bool {
        self.link.get().is_some_and(|link| link.ask_to_stop(seq))
    }

    pub(crate) fn close(&self) {
        if let Some(link) = self.link.get() {
            link.close();
        }
    }

    pub(crate) fn drive(&self, until: &Until<'_>) -> Driven {
        self.link.get().map_or(Driven::Unsupported, |link| link.drive(until))
    }

    pub(crate) fn interrupt(&self) {
        if let Some(link) = self.link.get() {
            link.interrupt();
        }
    }

    fn send(&self, link: &dyn Link, letter: &Letter) {
        match letter {
            Letter::Call(seq, call) => self.send_call(link, *seq, call, None),
            Letter::Limited(limited) => {
                let (seq, call, time) = &**limited;
                self.send_call(link, *seq, call, Some(*time));
            }
            Letter::Frame(frame) => link.send(Outgoing { seq: None, head: frame, body: &Payload::EMPTY }),
        }
    }

    fn send_call(&self, link: &dyn Link, seq: Seq, call: &Arc<Call>, time: Option<Duration>) {
        // A call that was settled while it waited here (the pool broke) is not sent.
        let Some(argument) = call.argument() else { return };
        for share in argument.shares() {
            if lock(&self.shares).insert(share.id) {
                share.given(Weak::clone(&self.me));
                share.value.send(link, None, &wire::share_head(share));
            }
        }
        if argument.blobs().is_some() {
            let mut large = lock(&self.large);
            large.retain(|(_, call)| call.upgrade().is_some_and(|call| !call.is_done()));
            large.push((seq, Arc::downgrade(call)));
        }
        let mut room = [0; wire::CALL_HEAD_MAX];
        let (task, room) = (call.task(), &mut room);
        let head = match time {
            None => wire::call_head(seq, &task, &argument, room),
            Some(time) => wire::limited_call_head(seq, &task, &argument, time, room),
        };
        argument.send(link, Some(seq), head);
    }

    /// The worker will be told to let go of a shared value.
    pub(crate) fn forget_share(&self, id: u64) {
        lock(&self.shares).remove(&id);
    }

    /// Lets go of large arguments that will not be sent again, since the worker has started their calls.
    fn drop_arguments(&self) {
        let is_started = |&mut (seq, _): &mut (Seq, Weak<Call>)| self.claim_state(seq) == Claim::Started;
        let started: Vec<_> = lock(&self.large).extract_if(.., is_started).collect();
        for call in started.iter().filter_map(|(_, call)| call.upgrade()) {
            call.drop_argument();
        }
    }

    pub(crate) fn take_replies(&self) -> Vec<Answer> {
        std::mem::take(&mut *lock(&self.replies))
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("id", &self.id).field("stage", &*lock(&self.stage)).finish_non_exhaustive()
    }
}

/// Receives a link's events for its worker.
///
/// It holds the pool and the worker weakly: the worker holds the link, and the link this.
pub(crate) struct Sink {
    pub(crate) pool: Weak<Pool>,
    pub(crate) slot: Weak<Slot>,
}

impl LinkEvents for Sink {
    fn arriving(&self) {
        // It is an answer, for which there has to be room: its argument's.
        if let Some(slot) = self.slot.upgrade() {
            slot.drop_arguments();
        }
    }

    fn frame(&self, frame: Cow<'_, [u8]>) {
        let Some((pool, slot)) = self.pool.upgrade().zip(self.slot.upgrade()) else { return };
        let stage = *lock(&slot.stage);
        let accepted = match stage {
            Stage::Silent => hello(&pool, &slot, &frame),
            Stage::Greeted => ready(&pool, &slot, &frame),
            Stage::Live => live(&pool, &slot, frame),
            Stage::Refused => Ok(()),
        };
        if let Err(why) = accepted {
            *lock(&slot.stage) = Stage::Refused;
            let _ = slot.fault.set(why.to_string());
            slot.fail(why);
            pool.tell(Input::WorkerUnusable(slot.id));
        }
    }

    fn drained(&self) {
        if let Some((pool, slot)) = self.pool.upgrade().zip(self.slot.upgrade()) {
            let replies = slot.take_replies();
            if !replies.is_empty() {
                pool.settle_replies(&slot, replies);
            }
        }
    }

    fn closed(&self, why: Closed) {
        self.drained();
        let Some((pool, slot)) = self.pool.upgrade().zip(self.slot.upgrade()) else { return };
        match why {
            Closed::Eof | Closed::Ours | Closed::Truncated => {}
            Closed::Malformed(what) => {
                let _ = slot.fault.set(format!("it sent a malformed frame: {what}"));
                slot.fail(StartError::Garbage(what));
            }
            Closed::Io(what) => {
                let _ = slot.fault.set(format!("its link failed: {what}"));
                // That the worker ended is what came of it.
                slot.fail(StartError::Link(Arc::new(io::Error::other(what))));
            }
        }
        pool.tell(Input::LinkClosed(slot.id));
    }
}

/// The first frame.
fn hello(pool: &Pool, slot: &Slot, frame: &[u8]) -> Result<(), StartError> {
    let hello = Hello::decode(frame).map_err(|why| match why {
        NoHello::Version(theirs) => StartError::Version { ours: wire::VERSION, theirs },
        NoHello::Garbage(what) => StartError::Garbage(what.to_owned()),
    })?;
    if Some(&hello.token) != slot.token.get() {
        return Err(StartError::Token);
    }
    pool.admit(&hello)?;
    *lock(&slot.stage) = Stage::Greeted;
    if let Some((_, initializer)) = &pool.settings.initializer {
        slot.post(Letter::Frame(wire::frame(Kind::Initialize, initializer)));
        // A quick worker is here before its start has returned. Its initializer could fail before its process id
        // is known; `set_worker` comes after the letter is posted, or we see the worker here.
        if slot.has_worker() {
            slot.flush();
        }
    }
    Ok(())
}

/// The second.
fn ready(pool: &Pool, slot: &Slot, frame: &[u8]) -> Result<(), StartError> {
    match Kind::split(frame) {
        Some((Kind::Ready, [])) => {
            *lock(&slot.stage) = Stage::Live;
            let revocable = slot.link.get().and_then(|link| link.caps().revocable);
            pool.tell(Input::WorkerReady(slot.id, revocable));
            Ok(())
        }
        Some((Kind::InitFailed, rest)) => {
            let failure: Failure =
                wire::from_bytes(rest).ok_or_else(|| StartError::Garbage("a malformed failure".to_owned()))?;
            let _ = slot.initializer_failed.set(pool.initializer_failed(slot, failure));
            pool.tell(Input::InitializerFailed(slot.id));
            Ok(())
        }
        Some((Kind::SettingFailed, rest)) => {
            let SettingFailed { setting, why } =
                wire::from_bytes(rest).ok_or_else(|| StartError::Garbage("a malformed failure".to_owned()))?;
            Err(StartError::Setting { setting, why })
        }
        _ => Err(StartError::Garbage("something else where it should say that it is ready".to_owned())),
    }
}

/// All others.
fn live(pool: &Pool, slot: &Slot, frame: Cow<'_, [u8]>) -> Result<(), StartError> {
    let garbage = |what: &str| StartError::Garbage(what.to_owned());
    match Kind::split(&frame) {
        Some((Kind::Reply, rest)) => {
            let (seq, status, took, body) = wire::reply(rest).ok_or_else(|| garbage("a malformed reply"))?;
            if seq.0 >= slot.calls_posted.load(Ordering::Acquire) {
                return Err(garbage("an answer to a call that it was never sent"));
            }
            let reply = match status {
                Status::Failed => {
                    Reply::Failed(wire::from_bytes(body).ok_or_else(|| garbage("a malformed failure"))?)
                }
                Status::Ok => Reply::Ok(ReplyBytes::of_frame(frame)),
                Status::OkWithBlobs => Reply::Ok(ReplyBytes::FramedWithBlobs(frame.into())),
            };
            lock(&slot.replies).push(Answer { seq, took, reply });
            Ok(())
        }
        Some((Kind::Worn, [])) => {
            pool.tell(Input::WorkerWorn(slot.id));
            Ok(())
        }
        Some((Kind::Bye, [])) => {
            let replies = slot.take_replies();
            pool.settle_replies(slot, replies);
            pool.tell(Input::WorkerLeft(slot.id));
            Ok(())
        }
        _ => Err(garbage("a frame of a kind that workers do not send")),
    }
}
