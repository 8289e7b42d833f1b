//! The parent's read side of one link: whoever notices that there is something to do may do it, one at a time.
//!
//! # The reading role
//! Events must come one at a time and in order (T8), but the reactor's thread, a driver and whoever calls
//! `close` may all find work for the same link at once. [`Input::pending`] counts the reasons to look that
//! nobody has followed up yet:
//!
//! - Who raises it from 0 has the *role*: it reads and delivers until it can lower it to 0 again, which works
//!   only if no reason was added since it last looked.
//! - Who finds it above 0 has nothing more to do. The holder of the role will see that the number has changed
//!   and look again, so no edge of epoll, no `close` and no drop gets lost.
//!
//! So the role's holder needs no lock that anybody waits for, and a callback may call everything: from within,
//! `close` and drop raise the number and return.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use pool_core::transport::{Closed, LinkEvents};
use pool_os::parent_fds::ParentFd;

use crate::frame::Malformed;
use crate::inbox::Inbox;
use crate::lock;
use crate::stream::Stream;

/// How much is read from one link before others have their turn.
const TURN_MAX: usize = 1024 * 1024;

/// The read side.
pub(crate) struct Input {
    pending: AtomicUsize,
    /// The other side has hung up: a read that is cut short is not the end of what there is to learn.
    hung_up: AtomicBool,
    /// Locked by the role's holder only, hence never waited for.
    state: Mutex<State>,
}

struct State {
    /// `None` after the end.
    fd: Option<Arc<ParentFd>>,
    stream: Arc<dyn Stream>,
    inbox: Inbox,
    /// Once the link is to end: how many of the bytes that had arrived by then are still to be read. A
    /// worker that never stops sending cannot hold up the end.
    left: Option<usize>,
}

/// What is to be known of the link while reading; asked often, so cheap.
pub(crate) trait Outlook {
    /// The `Link` is gone: nobody wants events any more.
    fn is_dropped(&self) -> bool;
    /// Why the link is to end, if it is.
    fn ending(&self) -> Option<Closed>;
    /// So many frames were delivered.
    fn delivered(&self, frames: usize);
    /// The read side has ended: gives up both descriptors.
    fn ended(&self, fd: &Arc<ParentFd>);
}

/// How far a turn has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All is read. The role is given back, if it was held at all.
    Idle,
    /// There may be more; the caller keeps the role, and has to [go on](Input::go_on).
    More,
}

impl Input {
    pub(crate) fn new(fd: Arc<ParentFd>, stream: Arc<dyn Stream>, frame_max: usize) -> Self {
        let state = State { fd: Some(fd), stream, inbox: Inbox::new(frame_max), left: None };
        Self { pending: AtomicUsize::new(0), hung_up: AtomicBool::new(false), state: Mutex::new(state) }
    }

    pub(crate) fn hang_up(&self) {
        self.hung_up.store(true, Ordering::Release);
    }

    /// Adds a reason to look. True: the caller has the role now, and must go on.
    pub(crate) fn raise(&self) -> bool {
        self.pending.fetch_add(1, Ordering::AcqRel) == 0
    }

    /// Reads and delivers for one turn. The caller has the role.
    pub(crate) fn go_on(&self, outlook: &impl Outlook, events: &dyn LinkEvents) -> Progress {
        let mut seen = self.pending.load(Ordering::Acquire);
        loop {
            if self.turn(outlook, events) == Progress::More {
                return Progress::More;
            }
            match self.pending.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Progress::Idle,
                Err(now) => seen = now,
            }
        }
    }

    fn turn(&self, outlook: &impl Outlook, events: &dyn LinkEvents) -> Progress {
        let mut turn = Turn { state: lock(&self.state), outlook, events };
        let Some(fd) = turn.state.fd.clone() else { return Progress::Idle };
        let mut budget = TURN_MAX;
        loop {
            if outlook.is_dropped() {
                turn.give_up();
                return Progress::Idle;
            }
            match turn.read(&fd, self.hung_up.load(Ordering::Acquire)) {
                Read::Ended => return Progress::Idle,
                Read::Some { got, cut_short } => {
                    // Such a stream gives all it has, so less than asked for means that it was empty, and that
                    // the next write, or the end, is a new edge. Only an end that was announced
                    // before we read has no edge of its own.
                    if cut_short && !self.hung_up.load(Ordering::Acquire) && outlook.ending().is_none() {
                        break;
                    }
                    budget = budget.saturating_sub(got);
                }
                Read::Nothing => break,
            }
            if budget == 0 {
                turn.drained();
                return Progress::More;
            }
        }
        turn.drained();
        Progress::Idle
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("pending", &self.pending).finish_non_exhaustive()
    }
}

/// What one read gave.
enum Read {
    Some { got: usize, cut_short: bool },
    Nothing,
    Ended,
}

/// One turn of the role's holder.
struct Turn<'a, O> {
    state: MutexGuard<'a, State>,
    outlook: &'a O,
    events: &'a dyn LinkEvents,
}

impl<O: Outlook> Turn<'_, O> {
    /// Reads once and delivers all frames that are complete then.
    fn read(&mut self, fd: &ParentFd, hung_up: bool) -> Read {
        let ending = self.outlook.ending();
        if ending.is_some() && self.state.left.is_none() {
            self.state.left = Some(self.state.stream.available(fd));
        }
        if let (Some(why), Some(0)) = (&ending, self.state.left) {
            return self.end(why.clone());
        }
        let limit = self.state.left.unwrap_or(usize::MAX);
        let mut asked = 0;
        let State { inbox, stream, .. } = &mut *self.state;
        let filled = inbox.fill(limit, |to, max| {
            asked = max;
            stream.read(fd, hung_up, to, max)
        });
        match filled {
            Ok(0) => {
                let found = self.state.inbox.at_end();
                self.end(ending.unwrap_or(found))
            }
            Ok(got) => {
                self.state.left = self.state.left.map(|left| left - got);
                match self.deliver() {
                    Ok(()) => Read::Some { got, cut_short: got < asked && self.state.stream.gives_all() },
                    Err(Malformed(what)) => self.end(Closed::Malformed(what)),
                }
            }
            Err(error) => match (error.kind(), ending) {
                (io::ErrorKind::Interrupted, _) => Read::Some { got: 0, cut_short: false },
                (io::ErrorKind::WouldBlock, None) => Read::Nothing,
                (io::ErrorKind::WouldBlock, Some(why)) => self.end(why),
                (io::ErrorKind::InvalidData, _) => self.end(Closed::Malformed(error.to_string())),
                _ => self.end(Closed::Io(format!("cannot read from the worker: {error}"))),
            },
        }
    }

    fn deliver(&mut self) -> Result<(), Malformed> {
        let mut frames = 0;
        let delivered = self.state.inbox.deliver(self.events, || {
            // Asked before each.
            frames += 1;
            !self.outlook.is_dropped()
        });
        self.outlook.delivered(frames - 1);
        delivered
    }

    fn drained(&mut self) {
        if self.state.inbox.owes_drained() && !self.outlook.is_dropped() {
            self.events.drained();
        }
    }

    fn end(&mut self, why: Closed) -> Read {
        self.give_up();
        self.drained();
        if !self.outlook.is_dropped() {
            self.events.closed(why);
        }
        Read::Ended
    }

    /// Frees what the read side holds. Nothing is read after this.
    fn give_up(&mut self) {
        if let Some(fd) = self.state.fd.take() {
            self.outlook.ended(&fd);
        }
        self.state.inbox.clear();
    }
}
