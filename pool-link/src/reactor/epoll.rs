//! The reactor with epoll: one own thread, and at most one driver beside it.
//!
//! # Two waiters, no hand-over
//! The own thread and the driver wait on the same epoll descriptor. Linux wakes the waiter that came last, so
//! that is usually the driver: it reads and delivers itself, and the own thread sleeps on. Nothing here depends
//! on that order. Read ends are edge-triggered, so that each event goes to one waiter only; the reading role
//! of [`Input`](crate::input) sorts out the case that two events of one link go to two.
//!
//! # Interrupting a driver
//! `interrupt` sets a flag and rings the *bell*, an eventfd in the same epoll set. Three interleavings matter:
//!
//! - *Between the driver's look at `done` and its wait.* It lowers the flag before it looks, so the flag stays
//!   up and the bell, being an edge, is still there when it waits: the wait returns at once.
//! - *The own thread takes the bell's edge.* The flag is up and somebody drives, so the edge was not
//!   for it. It steps aside: it rings again and waits, not in epoll, until the driver has lowered the flag or
//!   left. Only the driver can take that second edge.
//! - *The driver leaves at the same moment.* It clears `driver` before it looks at `aside`, and the own thread
//!   sets `aside` before it looks at `driver`, all of it sequentially consistent: one of them sees the other.
//!
//! An edge that comes too late is taken by whoever waits next, and means nothing to it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pool_core::transport::{Driven, Until};
use pool_os::parent_fds::ParentFd;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec};
use rustix::io::Errno;

use crate::input::Progress;
use crate::link::{Key, Line};
use crate::lock;
use crate::spin::Spin;

/// What links and the transport hold. The last of them to go ends the thread.
#[derive(Debug)]
pub(crate) struct Reactor {
    core: Arc<Core>,
}

struct Core {
    spin: Spin,
    /// How many frames there were so far.
    delivered: AtomicU64,
    epoll: ParentFd,
    bell: ParentFd,
    lines: Mutex<HashMap<u64, Arc<Line>>>,
    next_key: AtomicU64,
    stop: AtomicBool,
    /// Who drives, by [`this_thread`]; 0: nobody.
    driver: AtomicUsize,
    /// Somebody wants the driver to look at `done`.
    interrupted: AtomicBool,
    /// The own thread waits for the driver to notice.
    aside: AtomicBool,
    noticed_lock: Mutex<()>,
    noticed: Condvar,
    /// Links that a leaving driver had not read to the end, together with their reading roles.
    left_over: Mutex<Vec<Arc<Line>>>,
}

impl Reactor {
    /// Whether [`drive`](Self::drive) can do anything.
    pub(crate) const DRIVABLE: bool = true;

    pub(crate) fn start(name: &str, spin: Duration) -> io::Result<Arc<Self>> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &bell, EventData::new_u64(BELL), EventFlags::IN | EventFlags::ET)?;
        let core = Arc::new(Core {
            spin: Spin::new(spin),
            delivered: AtomicU64::new(0),
            epoll: ParentFd::new(epoll),
            bell: ParentFd::new(bell),
            lines: Mutex::default(),
            next_key: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            driver: AtomicUsize::new(0),
            interrupted: AtomicBool::new(false),
            aside: AtomicBool::new(false),
            noticed_lock: Mutex::default(),
            noticed: Condvar::new(),
            left_over: Mutex::default(),
        });
        let own = Arc::clone(&core);
        thread::Builder::new().name(name.to_owned()).spawn(move || own.run())?;
        Ok(Arc::new(Self { core }))
    }

    pub(crate) fn new_key(&self) -> Key {
        Key(self.core.next_key.fetch_add(1, Ordering::Relaxed))
    }

    /// From now on `line` hears when `fd` has something to read.
    pub(crate) fn register(&self, line: &Arc<Line>, key: Key, fd: &Arc<ParentFd>) -> io::Result<()> {
        lock(&self.core.lines).insert(key.0, Arc::clone(line));
        let added = epoll::add(&self.core.epoll, fd, data(key, READ), EventFlags::IN | EventFlags::ET);
        added.inspect_err(|_| self.forget_line(key))?;
        Ok(())
    }

    /// The line hears nothing any more.
    pub(crate) fn forget_line(&self, key: Key) {
        let line = lock(&self.core.lines).remove(&key.0);
        // Dropped after the lock: the last line may take the reactor with it.
        drop(line);
    }

    /// To be called before `fd` is closed: a copy of it that a forked child holds would keep it in the set.
    pub(crate) fn forget_read(&self, _: Key, fd: &Arc<ParentFd>) {
        // It can only fail if it is not in the set, which is what is wanted.
        let _ = epoll::delete(&self.core.epoll, fd);
    }

    /// Like [`forget_read`](Self::forget_read), for a descriptor that may never have been in the set.
    pub(crate) fn forget_write(&self, _: Key, fd: &Arc<ParentFd>) {
        let _ = epoll::delete(&self.core.epoll, fd);
    }

    pub(crate) fn spin(&self) -> &Spin {
        &self.core.spin
    }

    /// So many frames were delivered.
    pub(crate) fn count(&self, frames: usize) {
        self.core.delivered.fetch_add(frames as u64, Ordering::Relaxed);
    }

    /// Lets what comes at `fd` go unnoticed for now: somebody looks by himself.
    pub(crate) fn look_away(&self, key: Key, fd: &Arc<ParentFd>) {
        // It can only fail if it is not in the set any more.
        let _ = epoll::modify(&self.core.epoll, fd, data(key, READ), EventFlags::ET);
    }

    /// From now on `fd` is noticed again, what has come meanwhile included.
    pub(crate) fn look_again(&self, key: Key, fd: &Arc<ParentFd>) {
        // As above.
        let _ = epoll::modify(&self.core.epoll, fd, data(key, READ), EventFlags::IN | EventFlags::ET);
    }

    /// Tells the line of `key` once when `fd` has room.
    pub(crate) fn want_write(&self, key: Key, fd: &Arc<ParentFd>) -> io::Result<()> {
        let (set, flags) = (&self.core.epoll, EventFlags::OUT | EventFlags::ONESHOT);
        match epoll::modify(set, fd, data(key, WRITE), flags) {
            Err(Errno::NOENT) => Ok(epoll::add(set, fd, data(key, WRITE), flags)?),
            other => Ok(other?),
        }
    }

    pub(crate) fn interrupt(&self) {
        self.core.interrupt();
    }

    /// Lets the calling thread do the reactor's work, until `until` says so or `line`, whose reply it waits for, has
    /// ended.
    pub(crate) fn drive(&self, until: &Until<'_>, line: &Arc<Line>) -> Driven {
        if (until.done)() {
            return Driven::Done;
        }
        let Some(mut driver) = Driver::enter(&self.core) else { return Driven::Busy };
        // It has looked for as long as that is worth it: next it sleeps.
        let mut has_looked = false;
        loop {
            self.core.notice();
            // After this, who satisfies `done` and then calls `interrupt` finds the flag down.
            fence(Ordering::SeqCst);
            if (until.done)() {
                return Driven::Done;
            }
            if line.has_ended.load(Ordering::SeqCst) {
                return Driven::Busy;
            }
            let timeout = match until.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Driven::TimedOut,
                // Longer waits are cut into such that every kernel takes.
                timeout => timeout.map(|timeout| timeout.min(WAIT_MAX)),
            };
            if !has_looked
                && driver.waiter.unfinished.is_empty()
                && let Some(limit) = self.core.spin.for_driver()
            {
                let has_paid = driver.spin(until, line, timeout.map_or(limit, |timeout| timeout.min(limit)));
                self.core.spin.learn(has_paid);
                // In any case: what came in the last moment was delivered here.
                has_looked = !has_paid;
                continue;
            }
            has_looked = false;
            driver.waiter.wait(timeout);
        }
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        // Nobody drives: a driver holds a link. And who drops may be the own thread, so there is no join.
        self.core.stop.store(true, Ordering::SeqCst);
        self.core.ring();
    }
}

/// The driver's stay. Leaving it happens on unwinding too: `done` is foreign code.
struct Driver<'a> {
    waiter: Waiter<'a>,
}

impl<'a> Driver<'a> {
    fn enter(core: &'a Core) -> Option<Self> {
        let entered = core.driver.compare_exchange(0, this_thread(), Ordering::SeqCst, Ordering::Relaxed);
        entered.ok().map(|_| Self { waiter: Waiter::new(core) })
    }

    /// Looks at `line` for a while, so that nobody has to be woken, and at everything else now and then. Whether
    /// anything came of it.
    fn spin(&mut self, until: &Until<'_>, line: &Arc<Line>, limit: Duration) -> bool {
        let muted = Muted::new(line);
        let start = Instant::now();
        let has_paid = loop {
            let mut has_paid = false;
            for _ in 0..LOOKS {
                let glance = line.glance();
                if let Some(progress) = glance {
                    self.waiter.keep(line, progress);
                }
                if glance.is_some() || (until.done)() {
                    has_paid = true;
                    break;
                }
                std::hint::spin_loop();
            }
            if has_paid
                || self.waiter.core.interrupted.load(Ordering::SeqCst)
                || self.waiter.wait(Some(Duration::ZERO)).1 > 0
            {
                break true;
            }
            if start.elapsed() >= limit {
                break false;
            }
        };
        self.waiter.keep(line, muted.end());
        has_paid
    }
}

/// A link at which a thread looks by itself. It stops that when it goes, by unwinding too.
struct Muted<'a> {
    line: Option<&'a Line>,
}

impl<'a> Muted<'a> {
    fn new(line: &'a Line) -> Self {
        line.mute();
        Self { line: Some(line) }
    }

    fn end(mut self) -> Progress {
        self.line.take().map_or(Progress::Idle, Line::unmute)
    }
}

impl Drop for Muted<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.line
            && line.unmute() == Progress::More
        {
            while line.go_on() == Progress::More {}
        }
    }
}

impl Drop for Driver<'_> {
    fn drop(&mut self) {
        let core = self.waiter.core;
        core.driver.store(0, Ordering::SeqCst);
        core.tell_aside();
        let left = mem::take(&mut self.waiter.unfinished);
        if !left.is_empty() {
            lock(&core.left_over).extend(left);
            core.ring();
        }
    }
}

impl Core {
    /// The own thread.
    fn run(&self) {
        let mut waiter = Waiter::new(self);
        let mut flow = Flow::new();
        while !self.stop.load(Ordering::SeqCst) {
            let (bell, events) = waiter.wait(None);
            if bell == Bell::Rang {
                self.step_aside();
            }
            if events > 0 && flow.is_strong() {
                self.attend(&mut waiter);
            }
        }
    }

    /// While results flow, nobody has to wake this thread for each few of them: it looks by itself, from time to time.
    /// As network drivers do it.
    fn attend(&self, waiter: &mut Waiter<'_>) {
        let lines: Vec<_> = lock(&self.lines).values().filter(|line| line.is_busy()).cloned().collect();
        lines.iter().for_each(|line| line.mute());
        let mut seen = self.delivered.load(Ordering::Relaxed);
        while !self.stop.load(Ordering::SeqCst) {
            thread::sleep(NAP);
            for line in &lines {
                if let Some(progress) = line.glance() {
                    waiter.keep(line, progress);
                }
            }
            if waiter.wait(Some(Duration::ZERO)).0 == Bell::Rang {
                self.step_aside();
            }
            let now = self.delivered.load(Ordering::Relaxed);
            if now.wrapping_sub(seen) < WORTH_A_NAP {
                break;
            }
            seen = now;
        }
        for line in &lines {
            waiter.keep(line, line.unmute());
        }
    }

    fn interrupt(&self) {
        // With the fence in `drive`: either we see the driver, or it sees what made us call.
        fence(Ordering::SeqCst);
        let driver = self.driver.load(Ordering::SeqCst);
        // A driver that interrupts itself, from a callback, is about to look anyway.
        if driver == 0 || driver == this_thread() {
            return;
        }
        // If the flag was up, the bell's edge is still on its way to the driver.
        if !self.interrupted.swap(true, Ordering::SeqCst) {
            self.ring();
        }
    }

    /// The driver has come back from its wait, for whatever reason.
    fn notice(&self) {
        if self.interrupted.load(Ordering::SeqCst) {
            self.interrupted.store(false, Ordering::SeqCst);
            self.tell_aside();
        }
    }

    fn tell_aside(&self) {
        if self.aside.load(Ordering::SeqCst) {
            // With the lock the own thread is either before its look at the flags or in its wait.
            drop(lock(&self.noticed_lock));
            self.noticed.notify_all();
        }
    }

    /// Passes a bell that was meant for the driver on to it.
    fn step_aside(&self) {
        let is_due = || self.driver.load(Ordering::SeqCst) != 0 && self.interrupted.load(Ordering::SeqCst);
        if !is_due() {
            return;
        }
        self.aside.store(true, Ordering::SeqCst);
        self.ring();
        let mut guard = lock(&self.noticed_lock);
        while is_due() {
            guard = self.noticed.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        self.aside.store(false, Ordering::SeqCst);
    }

    fn ring(&self) {
        // Each write is an edge, so nobody need ever read it; and the counter cannot get full in a lifetime.
        let rung = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        debug_assert!(rung.is_ok());
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("driver", &self.driver).finish_non_exhaustive()
    }
}

/// A thread's part in the waiting, own or driver.
struct Waiter<'a> {
    core: &'a Core,
    /// Links that had more than a turn's worth. This thread has their reading roles.
    unfinished: VecDeque<Arc<Line>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bell {
    Silent,
    Rang,
}

impl<'a> Waiter<'a> {
    fn new(core: &'a Core) -> Self {
        Self { core, unfinished: VecDeque::new() }
    }

    /// Waits once, and does the work of every link that has some. Also returns how many events there were.
    fn wait(&mut self, timeout: Option<Duration>) -> (Bell, usize) {
        let timeout = if self.unfinished.is_empty() { timeout } else { Some(Duration::ZERO) };
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let mut buffer = [MaybeUninit::uninit(); EVENTS_MAX];
        let events = match epoll::wait(self.core.epoll.as_fd(), &mut buffer, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return (Bell::Silent, 0),
            Err(error) => panic!("invariant: epoll_wait on our own descriptor works: {error}"),
        };
        let (mut bell, count) = (Bell::Silent, events.len());
        for event in events {
            let (data, flags) = (event.data.u64(), event.flags);
            if data == BELL {
                bell = Bell::Rang;
                self.unfinished.extend(mem::take(&mut *lock(&self.core.left_over)));
            } else {
                self.dispatch(data, flags);
            }
        }
        self.finish_some();
        (bell, count)
    }

    fn dispatch(&mut self, data: u64, flags: EventFlags) {
        let line = lock(&self.core.lines).get(&(data >> KIND_BITS)).cloned();
        // A link that was dropped after the kernel made this event.
        let Some(line) = line else { return };
        if data & KIND_MASK == WRITE {
            line.writable();
        } else {
            self.keep(&line, line.readable(flags.intersects(EventFlags::HUP | EventFlags::ERR)));
        }
    }

    /// Goes on with a link later if it had more than a turn's worth.
    fn keep(&mut self, line: &Arc<Line>, progress: Progress) {
        if progress == Progress::More {
            self.unfinished.push_back(Arc::clone(line));
        }
    }

    /// One more turn for each link that needs it.
    fn finish_some(&mut self) {
        for _ in 0..self.unfinished.len() {
            let Some(line) = self.unfinished.pop_front() else { return };
            self.keep(&line, line.go_on());
        }
    }
}

fn data(key: Key, kind: u64) -> EventData {
    EventData::new_u64(key.0 << KIND_BITS | kind)
}

/// A number that tells this thread from all others that are alive, and is not 0.
fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

const KIND_BITS: u32 = 1;
const KIND_MASK: u64 = 1;
const READ: u64 = 0;
const WRITE: u64 = 1;
/// No key gets this far.
const BELL: u64 = u64::MAX;
/// How often the own thread is woken.
struct Flow {
    last: Instant,
    /// Times in a row that it was soon after the time before.
    streak: u32,
}

impl Flow {
    fn new() -> Self {
        Self { last: Instant::now(), streak: 0 }
    }

    /// It has been woken. Whether that happens so often that to look from time to time is better.
    fn is_strong(&mut self) -> bool {
        let now = Instant::now();
        self.streak = if now.duration_since(self.last) < NAP { self.streak + 1 } else { 0 };
        self.last = now;
        self.streak >= STRONG
    }
}

/// How long the own thread leaves a strong flow of results to itself. As long as a wake-up may take.
const NAP: Duration = Duration::from_micros(50);
/// So many wake-ups in a row, each within that time after the one before, are a strong flow.
const STRONG: u32 = 8;
/// Fewer frames than this in that time are not worth it.
const WORTH_A_NAP: u64 = 16;
/// How often a thread that spins looks at its link before it looks at all the others, and at the clock.
const LOOKS: u32 = 32;
/// Events taken at once.
const EVENTS_MAX: usize = 32;
/// A driver's wait without looking at the clock.
const WAIT_MAX: Duration = Duration::from_secs(3600);
