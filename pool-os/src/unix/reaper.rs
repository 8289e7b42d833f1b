//! Linux: one thread starts all children of a launcher and waits for all of them at once.
//!
//! It exists as long as there is a child, or one to be started. So it outlives every child it started, which
//! matters because the kernel ends a worker when the *thread* that started it ends; and an idle launcher has
//! neither a thread nor a descriptor.
//!
//! Children are known to it by pidfd: an end is reported within microseconds, without polling, without
//! `SIGCHLD`, which belongs to the program, and without waiting for children that are not ours.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::{Errno, read, write};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::child::{self, Child, Running};
use super::parent_fds::ParentFd;
use crate::launch::{LaunchError, OnEnded, report};
use crate::parcel::Parcel;
use crate::waiter;

/// The way to the thread, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    inbox: Mutex<Option<Inbox>>,
}

/// Where the thread takes its orders from. There while it runs.
#[derive(Debug)]
struct Inbox {
    orders: Vec<Order>,
    /// The process that has the thread: a forked copy of it has none.
    owner: u32,
    wake: Arc<ParentFd>,
}

/// A child to start.
struct Order {
    command: Command,
    parcel: Parcel,
    on_ended: OnEnded,
    reply: SyncSender<Result<Child, LaunchError>>,
}

/// How starting a child went, and who wants to know.
type Answer = (SyncSender<Result<Child, LaunchError>>, Result<Child, LaunchError>);

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order").field("command", &self.command).finish_non_exhaustive()
    }
}

thread_local! {
    static IS_REAPER: Cell<bool> = const { Cell::new(false) };
}

impl Reaper {
    /// Whether this kernel, and the sandbox this process may be in, lets us wait for processes by descriptor.
    pub(crate) fn is_usable() -> bool {
        static USABLE: OnceLock<bool> = OnceLock::new();
        if let Some(known) = USABLE.get() {
            return *known;
        }
        match pidfd_open(getpid(), PidfdFlags::empty()) {
            Ok(_) => *USABLE.get_or_init(|| true),
            // A shortage says nothing about the kernel; it will be met again, and reported.
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => true,
            Err(_) => *USABLE.get_or_init(|| false),
        }
    }

    /// Whether the caller runs on such a thread, which must not wait for itself.
    pub(crate) fn is_current_thread() -> bool {
        IS_REAPER.get()
    }

    /// Has the thread start a child, and the thread started if there is none.
    pub(crate) fn launch(
        self: &Arc<Self>,
        command: Command,
        parcel: Parcel,
        on_ended: OnEnded,
    ) -> Result<Child, LaunchError> {
        let (reply, answer) = sync_channel(1);
        self.order(Order { command, parcel, on_ended, reply })
            .map_err(LaunchError::io("start a thread to wait for the process"))?;
        answer.recv().unwrap_or_else(|_| Err(LaunchError::Spawn(io::Error::other("the starting thread panicked"))))
    }

    fn order(self: &Arc<Self>, order: Order) -> io::Result<()> {
        let mut inbox = self.lock();
        if let Some(inbox) = &mut *inbox
            && inbox.owner == std::process::id()
        {
            inbox.orders.push(order);
            // It cannot fail but by overflow of a counter that the thread resets.
            let _ = write(&*inbox.wake, &1u64.to_ne_bytes());
            return Ok(());
        }
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&ready, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        let (ready, wake) = (ParentFd::new(ready), Arc::new(ParentFd::new(wake)));
        let body = Thread {
            reaper: Arc::clone(self),
            ready,
            wake: Arc::clone(&wake),
            children: HashMap::new(),
            next: WAKE + 1,
        };
        // The thread looks for orders under the lock that we hold, so it will find this one.
        thread::Builder::new().name("pool-reaper".to_owned()).spawn(move || body.run())?;
        *inbox = Some(Inbox { orders: vec![order], owner: std::process::id(), wake });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Inbox>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread itself.
struct Thread {
    reaper: Arc<Reaper>,
    /// An epoll of all children, each under its key, and of `wake`.
    ready: ParentFd,
    wake: Arc<ParentFd>,
    children: HashMap<u64, (Running, OnEnded)>,
    /// The next child's key. Never used twice, so an event cannot be taken for another child's.
    next: u64,
}

impl Thread {
    fn run(mut self) {
        IS_REAPER.set(true);
        let _guard = InboxGuard(Arc::clone(&self.reaper));
        loop {
            let orders = self.reaper.lock().as_mut().map_or_else(Vec::new, |inbox| mem::take(&mut inbox.orders));
            let answers: Vec<_> = orders.into_iter().map(|order| self.start(order)).collect();
            let leave = self.may_leave();
            if leave {
                // Before the answer, so that a failed start leaves no descriptor behind when the caller
                // learns of it.
                drop(self);
                answer(answers);
                return;
            }
            answer(answers);
            self.wait();
        }
    }

    /// Starts a child. The answer is given later.
    fn start(&mut self, order: Order) -> Answer {
        let Order { command, parcel, on_ended, reply } = order;
        let result = child::launch(command, parcel).and_then(|running| self.watch(running, on_ended));
        (reply, result)
    }

    fn watch(&mut self, running: Running, on_ended: OnEnded) -> Result<Child, LaunchError> {
        let running = match running.open() {
            Ok(running) => running,
            // Gone without a trace: the program ignores SIGCHLD, so the kernel keeps no exit status.
            Err((running, Errno::SRCH)) => {
                let child = running.child();
                adopt(running, on_ended);
                return Ok(child);
            }
            Err((running, error)) => {
                running.kill();
                return Err(LaunchError::io("open the process")(error));
            }
        };
        let process = running.exact().expect("invariant: `open` has just opened it");
        let key = epoll::EventData::new_u64(self.next);
        if let Err(error) = epoll::add(&self.ready, process, key, epoll::EventFlags::IN) {
            running.kill();
            return Err(LaunchError::io("watch the process")(error));
        }
        let child = running.child();
        self.children.insert(self.next, (running, on_ended));
        self.next += 1;
        Ok(child)
    }

    /// Whether there is nothing left to do. Decided under the lock, so that an order given from now on starts
    /// a new thread.
    fn may_leave(&self) -> bool {
        let mut inbox = self.reaper.lock();
        let idle = self.children.is_empty() && inbox.as_ref().is_none_or(|inbox| inbox.orders.is_empty());
        if idle {
            *inbox = None;
        }
        idle
    }

    /// Waits until something happens, and reports the ends.
    fn wait(&mut self) {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        match epoll::wait(&self.ready, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            // Somebody has closed our descriptor, say. The children must be waited for all the same.
            Err(_) => self.children.drain().for_each(|(_, (running, on_ended))| adopt(running, on_ended)),
        }
        for event in events {
            let key = event.data.u64();
            if key == WAKE {
                let _ = read(&*self.wake, &mut [0; 8]);
            } else if let Some((running, on_ended)) = self.children.remove(&key) {
                self.end(running, on_ended);
            }
        }
    }

    fn end(&self, mut running: Running, on_ended: OnEnded) {
        // The child's value may keep the descriptor open, so that closing does not take it out.
        if let Some(process) = running.exact() {
            let _ = epoll::delete(&self.ready, process.as_fd());
        }
        let status = match running.try_wait() {
            Ok(Some(status)) => Ok(status),
            // It has ended, but a debugger has to let go of it first.
            Ok(None) => return adopt(running, on_ended),
            Err(error) => Err(error),
        };
        report(on_ended, running.ended(status));
    }
}

fn answer(answers: Vec<Answer>) {
    for (reply, result) in answers {
        // The caller waits for it.
        let _ = reply.send(result);
    }
}

/// Waits, on a thread of its own, for a child that this one cannot wait for.
fn adopt(running: Running, on_ended: OnEnded) {
    // If no thread can be had, its closure is dropped; what is in this place is not.
    let place = Arc::new(Mutex::new(Some((running, on_ended))));
    let take = |place: &Mutex<Option<_>>| place.lock().unwrap_or_else(PoisonError::into_inner).take();
    let theirs = Arc::clone(&place);
    let body = move || {
        if let Some((running, on_ended)) = take(&theirs) {
            report(on_ended, Running::wait(running));
        }
    };
    if thread::Builder::new().name(waiter::NAME.to_owned()).stack_size(waiter::STACK).spawn(body).is_err()
        && let Some((running, on_ended)) = take(&place)
    {
        // Better a worker lost than an end that nobody is told of.
        report(on_ended, running.kill());
    }
}

/// If the thread panics, which it should not, those who wait for an answer must not wait for ever.
struct InboxGuard(Arc<Reaper>);

impl Drop for InboxGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            *self.0.lock() = None;
        }
    }
}

/// The key of the eventfd that says there are orders.
const WAKE: u64 = 0;

/// How many ends are taken from the kernel at a time.
const EVENTS_MAX: usize = 32;
