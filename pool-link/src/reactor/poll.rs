//! The reactor with poll(2): one own thread for all links. It cannot be driven.
//!
//! The thread waits for the descriptors that the links have put on its list, and for the *bell*, a pipe to itself,
//! which rings whenever the list has changed. Readiness is a level here, not an edge, so a link that has had its
//! turn is simply reported again.
//!
//! A descriptor must not be closed while it is polled: its number could come back as another's. So the list
//! shares ownership, and a descriptor taken off it is closed when the thread has come round.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use pool_core::transport::{Driven, Until};
use pool_os::parent_fds::ParentFd;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::input::Progress;
use crate::link::{Key, Line, non_blocking};
use crate::lock;
use crate::spin::Spin;

/// What links and the transport hold. The last of them to go ends the thread.
#[derive(Debug)]
pub(crate) struct Reactor {
    core: Arc<Core>,
    spin: Spin,
}

struct Core {
    bell: Arc<ParentFd>,
    lines: Mutex<HashMap<u64, Entry>>,
    next_key: AtomicU64,
    stop: AtomicBool,
}

struct Entry {
    line: Arc<Line>,
    read: Option<Arc<ParentFd>>,
    /// Set while the link waits for room.
    write: Option<Arc<ParentFd>>,
}

impl Reactor {
    /// Whether [`drive`](Self::drive) can do anything.
    pub(crate) const DRIVABLE: bool = false;

    pub(crate) fn start(name: &str, spin: Duration) -> io::Result<Arc<Self>> {
        let (listen, bell) = io::pipe()?;
        let (listen, bell) = (non_blocking(listen.into())?, non_blocking(bell.into())?);
        let (lines, next_key) = (Mutex::default(), AtomicU64::new(0));
        let core = Arc::new(Core { bell, lines, next_key, stop: AtomicBool::new(false) });
        let own = Arc::clone(&core);
        thread::Builder::new().name(name.to_owned()).spawn(move || own.run(&listen))?;
        Ok(Arc::new(Self { core, spin: Spin::new(spin) }))
    }

    pub(crate) fn new_key(&self) -> Key {
        Key(self.core.next_key.fetch_add(1, Ordering::Relaxed))
    }

    /// From now on `line` hears when `fd` has something to read.
    pub(crate) fn register(&self, line: &Arc<Line>, key: Key, fd: &Arc<ParentFd>) -> io::Result<()> {
        let entry = Entry { line: Arc::clone(line), read: Some(Arc::clone(fd)), write: None };
        lock(&self.core.lines).insert(key.0, entry);
        self.core.ring();
        Ok(())
    }

    /// The line hears nothing any more.
    pub(crate) fn forget_line(&self, key: Key) {
        let entry = lock(&self.core.lines).remove(&key.0);
        // Dropped after the lock: the last line may take the reactor with it.
        drop(entry);
        self.core.ring();
    }

    pub(crate) fn forget_read(&self, key: Key, _: &Arc<ParentFd>) {
        self.change(key, |entry| entry.read = None);
    }

    pub(crate) fn forget_write(&self, key: Key, _: &Arc<ParentFd>) {
        self.change(key, |entry| entry.write = None);
    }

    /// Tells the line of `key` once when `fd` has room.
    pub(crate) fn want_write(&self, key: Key, fd: &Arc<ParentFd>) -> io::Result<()> {
        self.change(key, |entry| entry.write = Some(Arc::clone(fd)));
        Ok(())
    }

    pub(crate) fn spin(&self) -> &Spin {
        &self.spin
    }

    /// Nobody asks.
    pub(crate) fn count(&self, _: usize) {}

    /// Nobody drives here, so nobody looks by himself.
    pub(crate) fn look_away(&self, _: Key, _: &Arc<ParentFd>) {}

    pub(crate) fn look_again(&self, _: Key, _: &Arc<ParentFd>) {}

    pub(crate) fn interrupt(&self) {}

    pub(crate) fn drive(&self, until: &Until<'_>, _: &Arc<Line>) -> Driven {
        if (until.done)() { Driven::Done } else { Driven::Unsupported }
    }

    fn change(&self, key: Key, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = lock(&self.core.lines).get_mut(&key.0) {
            change(entry);
        }
        self.core.ring();
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        // Who drops may be the own thread, so there is no join.
        self.core.stop.store(true, Ordering::SeqCst);
        self.core.ring();
    }
}

impl Core {
    /// The own thread.
    fn run(&self, listen: &ParentFd) {
        let mut waits = Vec::new();
        // Links that had more than a turn's worth. This thread has their reading roles.
        let mut unfinished = VecDeque::new();
        while !self.stop.load(Ordering::SeqCst) {
            // What was waited for the last time is let go of here, and closed if nobody else has it.
            waits.clear();
            self.collect(&mut waits);
            for (index, flags) in wait(listen, &waits, unfinished.is_empty()) {
                waits[index].dispatch(self, flags, &mut unfinished);
            }
            for _ in 0..unfinished.len() {
                let line: Arc<Line> = unfinished.pop_front().expect("invariant: counted just above");
                if line.go_on() == Progress::More {
                    unfinished.push_back(line);
                }
            }
        }
    }

    /// Lists what is to be waited for.
    fn collect(&self, waits: &mut Vec<Wait>) {
        for (&key, entry) in &*lock(&self.lines) {
            let mut add = |fd: &Option<Arc<ParentFd>>, side| {
                if let Some(fd) = fd {
                    waits.push(Wait { key, line: Arc::clone(&entry.line), fd: Arc::clone(fd), side });
                }
            };
            add(&entry.read, Side::Read);
            add(&entry.write, Side::Write);
        }
    }

    fn ring(&self) {
        // If the pipe is full, the thread will wake up anyway.
        let _ = rustix::io::write(&self.bell, &[0]);
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("bell", &self.bell).finish_non_exhaustive()
    }
}

/// One descriptor that is waited for.
struct Wait {
    key: u64,
    line: Arc<Line>,
    fd: Arc<ParentFd>,
    side: Side,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Read,
    Write,
}

impl Wait {
    fn dispatch(&self, core: &Core, flags: PollFlags, unfinished: &mut VecDeque<Arc<Line>>) {
        if self.side == Side::Write {
            // Off the list first: the link may put itself on it again.
            if let Some(entry) = lock(&core.lines).get_mut(&self.key) {
                entry.write = None;
            }
            self.line.writable();
        } else if self.line.readable(flags.intersects(PollFlags::HUP | PollFlags::ERR)) == Progress::More {
            unfinished.push_back(Arc::clone(&self.line));
        }
    }
}

/// Waits, or only looks, and returns which of `waits` are ready, and how.
fn wait(listen: &ParentFd, waits: &[Wait], may_sleep: bool) -> Vec<(usize, PollFlags)> {
    let mut fds = vec![PollFd::new(listen, PollFlags::IN)];
    fds.extend(waits.iter().map(|wait| {
        let flags = if wait.side == Side::Read { PollFlags::IN } else { PollFlags::OUT };
        PollFd::new(&*wait.fd, flags)
    }));
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut fds, if may_sleep { None } else { Some(&at_once) }) {
        // Out of kernel memory, for the moment: the next round tries again.
        Ok(_) | Err(Errno::INTR | Errno::AGAIN) => {}
        Err(error) => panic!("invariant: poll on our own descriptors works: {error}"),
    }
    if !fds[0].revents().is_empty() {
        silence(listen);
    }
    let ready = fds[1..].iter().enumerate().map(|(index, fd)| (index, fd.revents()));
    ready.filter(|(_, flags)| !flags.is_empty()).collect()
}

/// Takes the rings out of the bell's pipe.
fn silence(listen: &ParentFd) {
    let mut rings = [0; 256];
    while matches!(rustix::io::read(listen, &mut rings), Ok(len) if len == rings.len()) {}
}
