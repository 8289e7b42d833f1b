//! The parent's view of a server: asks it for workers, and hears of their ends.
//!
//! One thread for each server listens on the control socket. Whoever wants a worker waits for the answer on a
//! socket of his own.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pool_core::error::Exit;
use pool_core::spawner::{ExitReport, OnExit, Signal, SpawnError, Worker};
use pool_core::transport::Ticket;
use pool_os::parent_fds::ParentFd;
use pool_os::{LaunchError, Lifeline, Parcel};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::protocol::{self, REPLY, Report, Request};

/// A server, as its parent sees it. Dropping the value does not end it: [`finish`](Self::finish) does.
pub(crate) struct Server {
    /// What it is called when its end is told: "fork server".
    what: &'static str,
    control: ParentFd,
    /// Requests go one after the other.
    sending: Mutex<()>,
    state: Mutex<State>,
    /// Rung when `died` is set.
    has_died: Condvar,
    /// Ends the process. Called if it does not answer.
    kill: Box<dyn Fn() + Send + Sync>,
    /// The process whose server it is: forked copies of it have this value too, but not the thread.
    owner: u32,
}

/// What there is to a server's process beyond its control socket.
pub(crate) struct Process {
    /// Ends it.
    pub(crate) kill: Box<dyn Fn() + Send + Sync>,
    /// Waits for its end, which is near, or hastens it: says why it ended, as far as it is known. Gets `kill`.
    pub(crate) bury: Bury,
}

#[derive(Default)]
struct State {
    /// Workers whose end has not been heard of.
    workers: BTreeMap<u64, Expected>,
    next: u64,
    /// Why the server is gone, once it is.
    died: Option<String>,
}

/// A worker that was asked for.
struct Asked {
    id: u64,
    /// Whether the request was sent.
    sent: Result<(), Errno>,
    /// Where the answer comes.
    reply: ParentFd,
    /// The worker's own socket. Kept until the answer: Apple's systems may lose one that is held by a message only.
    socket: OwnedFd,
}

/// A worker that is to end some day.
struct Expected {
    lifeline: Lifeline,
    on_exit: OnExit,
    /// Its start was answered. Until then it is the affair of whoever waits for the answer.
    is_started: bool,
    /// The process itself, once it is known, where there is such a thing.
    process: Option<Arc<ParentFd>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Server")
            .field("what", &self.what)
            .field("workers", &state.workers.len())
            .field("died", &state.died)
            .finish_non_exhaustive()
    }
}

/// Makes a control socket: the parent's end and the server's.
pub(crate) fn control() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    // The server always reads, unless somebody has stopped it.
    ours.set_write_timeout(Some(PATIENCE))?;
    Ok((ours, theirs.into()))
}

impl Server {
    /// Starts to listen to a server.
    ///
    /// # Errors
    /// If no thread can be had. The server ends then.
    pub(crate) fn new(what: &'static str, control: UnixStream, process: Process) -> io::Result<Arc<Self>> {
        let Process { kill, bury } = process;
        let server = Arc::new(Self {
            what,
            control: ParentFd::new(control),
            sending: Mutex::default(),
            state: Mutex::default(),
            has_died: Condvar::new(),
            kill,
            owner: std::process::id(),
        });
        // If no thread can be had, its closure is dropped; what is in this place is not.
        let place = Arc::new(Mutex::new(Some(bury)));
        let (listener, theirs) = (Arc::clone(&server), Arc::clone(&place));
        let started = thread::Builder::new().name("pool-fork".to_owned()).spawn(move || listener.listen(&theirs));
        if let Err(error) = started {
            (server.kill)();
            server.bury(&place);
            return Err(error);
        }
        Ok(server)
    }

    /// Whether it can be asked for workers, as far as is known.
    pub(crate) fn is_alive(&self) -> bool {
        self.is_ours() && self.lock().died.is_none()
    }

    /// Whether this is the process that started it, and not a copy.
    pub(crate) fn is_ours(&self) -> bool {
        self.owner == std::process::id()
    }

    /// Lets it end as soon as its workers have. It is not asked for any afterwards.
    ///
    /// If it has no workers any more, this waits for its end: whoever shuts a pool down and waits has no child of
    /// ours left.
    pub(crate) fn finish(&self) {
        if !self.is_ours() {
            return;
        }
        // If it is gone, that is what was wanted.
        let _ = self.send(Request::Finish, &[]);
        // An exit callback may be what drops the last that holds us.
        if IS_LISTENER.get() || !self.lock().workers.is_empty() {
            return;
        }
        if !self.has_ended_within(PATIENCE) {
            // Somebody has stopped it.
            (self.kill)();
            self.has_ended_within(PATIENCE);
        }
    }

    fn has_ended_within(&self, limit: Duration) -> bool {
        let lives = |state: &mut State| state.died.is_none();
        let waited = self.has_died.wait_timeout_while(self.lock(), limit, lives);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Has it fork a worker.
    pub(crate) fn spawn(self: &Arc<Self>, ticket: Ticket, on_exit: OnExit) -> Result<Box<dyn Worker>, SpawnError> {
        self.ask(ticket, on_exit).and_then(|asked| self.answer(asked))
    }

    /// Has it fork several, and waits for the answers when all are asked for.
    pub(crate) fn spawn_many(
        self: &Arc<Self>,
        starts: Vec<(Ticket, OnExit)>,
    ) -> Vec<Result<Box<dyn Worker>, SpawnError>> {
        let asked: Vec<_> = starts.into_iter().map(|(ticket, on_exit)| self.ask(ticket, on_exit)).collect();
        asked.into_iter().map(|asked| self.answer(asked?)).collect()
    }

    fn ask(&self, ticket: Ticket, on_exit: OnExit) -> Result<Asked, SpawnError> {
        let (bytes, handles) = ticket.pack().map_err(|why| other(invalid(why)))?;
        let (lifeline, socket) = pool_os::pack(Parcel { bytes, handles }).map_err(explain)?;
        let (reply, theirs) =
            UnixStream::pair().map_err(|error| SpawnError::from_io("make a socket pair", error))?;
        let reply = ParentFd::new(reply);
        let id = self.expect(lifeline, on_exit)?;
        let sent = self.send(Request::Spawn(id), &[theirs.as_fd(), socket.as_fd()]);
        Ok(Asked { id, sent, reply, socket })
    }

    fn answer(self: &Arc<Self>, asked: Asked) -> Result<Box<dyn Worker>, SpawnError> {
        let Asked { id, sent, reply, socket } = asked;
        let started = match sent {
            Ok(()) => self.reply(&reply),
            Err(Errno::PIPE | Errno::CONNRESET) => Err(self.death()),
            Err(error) => Err(SpawnError::from_io("ask for a worker", error.into())),
        };
        drop(socket);
        let started = started.map(|(pid, process)| (pid, process.map(Arc::new)));
        match started.and_then(|(pid, process)| self.confirm(id, process.clone()).map(|()| (pid, process))) {
            Ok((pid, process)) => Ok(Box::new(ForkedWorker { pid, id, process, server: Arc::clone(self) })),
            Err(error) => {
                self.forget(id);
                Err(error)
            }
        }
    }

    fn expect(&self, lifeline: Lifeline, on_exit: OnExit) -> Result<u64, SpawnError> {
        let mut state = self.lock();
        if let Some(why) = &state.died {
            return Err(other(io::Error::other(why.clone())));
        }
        let id = state.next;
        state.next += 1;
        state.workers.insert(id, Expected { lifeline, on_exit, is_started: false, process: None });
        Ok(id)
    }

    /// Waits for the answer: the worker's pid, and where there is such a thing the process itself.
    fn reply(&self, reply: &ParentFd) -> Result<(i32, Option<ParentFd>), SpawnError> {
        if !is_ready(reply, PollFlags::IN, Some(ANSWER)) {
            (self.kill)();
            let why = format!("the {} did not answer for {} s", self.what, ANSWER.as_secs());
            return Err(other(io::Error::new(io::ErrorKind::TimedOut, why)));
        }
        let (mut bytes, mut fds) = ([0; REPLY], Vec::new());
        match protocol::receive(reply, &mut bytes, &mut fds) {
            Ok(()) => {
                let pid = protocol::decode_reply(&bytes)
                    .map_err(|error| SpawnError::from_io("fork a worker", error.into()))?;
                Ok((pid, fds.pop().map(ParentFd::new)))
            }
            // It hangs up when it is gone, and if not, it had no room for our end.
            Err(_) if is_ready(&self.control, PollFlags::empty(), Some(Duration::ZERO)) => Err(self.death()),
            Err(_) => Err(SpawnError::from_io("hand descriptors to the worker", Errno::MFILE.into())),
        }
    }

    /// The error for a server that is gone; waits until it is known why, which is soon.
    fn death(&self) -> SpawnError {
        self.has_ended_within(PATIENCE);
        other(io::Error::other(self.lock().died.clone().unwrap_or_else(|| self.epitaph())))
    }

    /// What is said of a server that is gone.
    fn epitaph(&self) -> String {
        format!("the {} died", self.what)
    }

    /// From now on the worker's end is for the listening thread to report, if it has not been already.
    fn confirm(&self, id: u64, process: Option<Arc<ParentFd>>) -> Result<(), SpawnError> {
        let mut state = self.lock();
        match (&state.died, state.workers.contains_key(&id)) {
            // The listener passed over it when it reported the others.
            (Some(why), true) => Err(other(io::Error::other(why.clone()))),
            _ => {
                state.workers.entry(id).and_modify(|worker| {
                    worker.is_started = true;
                    worker.process = process;
                });
                Ok(())
            }
        }
    }

    /// Sees to it that there is no such worker.
    fn forget(&self, id: u64) {
        let worker = self.lock().workers.remove(&id);
        if let Some(worker) = worker {
            worker.lifeline.cut();
            worker.lifeline.wait_for_end(DYING);
        }
    }

    fn send(&self, request: Request, fds: &[std::os::fd::BorrowedFd<'_>]) -> Result<(), Errno> {
        let _sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = protocol::send(&self.control, &request.encode(), fds, SendFlags::empty());
        if sent == Err(Errno::AGAIN) {
            // Stopped, or beside itself; and what of the request has been sent cannot be taken back.
            (self.kill)();
            return Err(Errno::PIPE);
        }
        sent
    }

    /// The thread.
    fn listen(&self, bury: &Mutex<Option<Bury>>) {
        IS_LISTENER.set(true);
        let mut report = [0; Report::LEN];
        // Asked first: whoever waits in `receive` itself is also woken each time the server takes a request.
        while is_ready(&self.control, PollFlags::IN, None)
            && protocol::receive(&self.control, &mut report, &mut Vec::new()).is_ok()
        {
            self.ended(Report::decode(&report));
        }
        let why = self.bury(bury);
        self.died(why);
    }

    fn bury(&self, place: &Mutex<Option<Bury>>) -> Option<String> {
        let bury = place.lock().unwrap_or_else(PoisonError::into_inner).take();
        bury.and_then(|bury| bury(&self.kill))
    }

    fn ended(&self, report: Report) {
        let Some(worker) = self.lock().workers.remove(&report.id) else { return };
        let exit = match report.status.map(ExitStatus::from_raw) {
            None => Exit::Unknown(format!("the {} could not wait for it", self.what)),
            Some(status) => match (status.signal(), status.code()) {
                (Some(signal), _) => Exit::Signal(signal),
                (None, Some(code)) => Exit::Code(code),
                (None, None) => Exit::Unknown(status.to_string()),
            },
        };
        worker.report(exit);
    }

    /// The server is gone: its workers die with it, and are reported.
    fn died(&self, why: Option<String>) {
        let mut state = self.lock();
        let epitaph = self.epitaph();
        state.died = Some(why.map_or_else(|| epitaph.clone(), |why| format!("{epitaph}: {why}")));
        let lost: Vec<Expected> =
            state.workers.extract_if(.., |_, worker| worker.is_started).map(|(_, lost)| lost).collect();
        drop(state);
        self.has_died.notify_all();
        // Where the kernel does not end them with the server, this does.
        lost.iter().for_each(|worker| worker.lifeline.cut());
        let deadline = Instant::now() + DYING;
        for worker in lost {
            worker.lifeline.wait_for_end(deadline.saturating_duration_since(Instant::now()));
            worker.end_group();
            worker.report(Exit::Unknown(epitaph.clone()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts workers by a server. If there is none, each tries to get one.
pub(crate) fn spawn_many(
    server: impl Fn() -> Result<Arc<Server>, SpawnError>,
    starts: Vec<(Ticket, OnExit)>,
) -> Vec<Result<Box<dyn Worker>, SpawnError>> {
    match server() {
        Ok(server) => server.spawn_many(starts),
        Err(error) => {
            let mut error = Some(error);
            let start = |(ticket, on_exit)| error.take().map_or_else(|| server()?.spawn(ticket, on_exit), Err);
            starts.into_iter().map(start).collect()
        }
    }
}

thread_local! {
    /// Whether this thread listens to a server, and so must not wait for news of it.
    static IS_LISTENER: Cell<bool> = const { Cell::new(false) };
}

pub(crate) type Bury = Box<dyn FnOnce(&dyn Fn()) -> Option<String> + Send>;

impl Expected {
    /// Ends what a worker without a server has started: with a server, that sees to it.
    fn end_group(&self) {
        #[cfg(target_os = "linux")]
        if let Some(process) = &self.process {
            crate::sys::kill_group_of(process.as_fd());
        }
    }

    fn report(self, exit: Exit) {
        let Self { lifeline, on_exit, process, .. } = self;
        // Whoever is told may count what is left.
        drop(process);
        let report = ExitReport { exit, last_words: lifeline.last_words() };
        // It is somebody else's code, and others rely on this thread. The panic hook has reported it already.
        let _ = catch_unwind(AssertUnwindSafe(|| on_exit(report)));
    }
}

/// A started worker.
struct ForkedWorker {
    pid: i32,
    id: u64,
    /// The process itself, where there is such a thing.
    process: Option<Arc<ParentFd>>,
    server: Arc<Server>,
}

impl Worker for ForkedWorker {
    fn pid(&self) -> Option<u32> {
        u32::try_from(self.pid).ok()
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let signal = match signal {
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        let sent = match &self.process {
            #[cfg(target_os = "linux")]
            Some(process) => rustix::process::pidfd_send_signal(process, signal),
            // The server passes it on: it knows which numbers are its workers'.
            _ => self.server.send(Request::Signal(self.id, signal.as_raw()), &[]),
        };
        match sent {
            // The worker is gone, or with the server about to.
            Ok(()) | Err(Errno::SRCH | Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether any of `flags`, or a hang-up, is there within `limit`, if there is one.
fn is_ready(socket: &ParentFd, flags: PollFlags, limit: Option<Duration>) -> bool {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut events = [PollFd::new(socket, flags)];
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut events, left.as_ref()) {
            Ok(count) => return count > 0,
            Err(Errno::INTR) => {}
            // What is wrong will be seen again, and told, when it is read from.
            Err(_) => return true,
        }
    }
}

fn explain(error: LaunchError) -> SpawnError {
    match error {
        LaunchError::Io { what, source } => SpawnError::from_io(what, source),
        error => other(io::Error::new(io::ErrorKind::InvalidInput, error)),
    }
}

pub(crate) fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// The error for what cannot be helped by waiting.
pub(crate) fn other(source: io::Error) -> SpawnError {
    SpawnError::Other { what: "start a worker process", source }
}

/// How long a server may take to answer, its own start included: that runs what stands before `init()`.
const ANSWER: Duration = Duration::from_secs(30);

/// How long to wait for what should take no time at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a killed process may take to be gone; on a busy machine some ms.
const DYING: Duration = Duration::from_secs(1);
