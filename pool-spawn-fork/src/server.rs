//! The server: a process without threads that forks workers on request, and reports their ends.
//!
//! It holds no descriptor but the control socket and the pipe that tells of ended children, and for a moment
//! those of the request at hand. Workers are its children until it has reaped them, so a signal it passes on
//! never hits anybody else. It never waits for the parent: what cannot be sent at once is kept.
//!
//! What a worker has started ends with it: the group that it leads, and on Linux what has left the group too
//! (`strays`). The end of a worker is reported without waiting for that of its processes.
//!
//! # After the fork
//! The server has one thread, so its child may do anything. What it does first is to give up all that is the
//! server's: [`serve`] drops that before it returns.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use rustix::net::SendFlags;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process, kill_process_group, setpgid, waitpid,
};

use crate::alone::Alone;
use crate::protocol::{self, Report, Request};
use crate::strays::{self, Strays};
use crate::sys::{self, FamilyWatch};

/// What a forked worker begins with.
#[derive(Debug)]
pub(crate) struct Forked {
    /// Its own socket.
    pub(crate) socket: OwnedFd,
    /// Its parent, without which it must not live.
    pub(crate) server: Pid,
}

/// Serves until the parent has gone or wants nothing more, and ends with the process. Returns in each worker.
///
/// # Errors
/// If it could not begin.
pub(crate) fn serve(alone: &Alone, control: OwnedFd, parent: Option<Pid>) -> io::Result<Forked> {
    // Found out once, for all workers: they say it in their greeting. If it cannot be, they will say so.
    let _ = pool_image::identity();
    let (reader, writer) = io::pipe()?;
    let (reader, writer) = (non_blocking(reader.into())?, non_blocking(writer.into())?);
    let ended = FamilyWatch::start(reader, writer);
    #[cfg(target_os = "linux")]
    // Not to be killed: it has to end what the workers have started. This signal tells a process that is stopped, too.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::CONT));
    let server = Server {
        control,
        parent,
        ended,
        workers: BTreeMap::new(),
        strays: Strays::watch(),
        unsent: Vec::new(),
        is_finishing: false,
        leaves_by: None,
    };
    Ok(server.run(alone))
}

struct Server {
    control: OwnedFd,
    parent: Option<Pid>,
    ended: FamilyWatch,
    /// Those that are not reaped yet. (No `HashMap`: it would fix the seed that all of a worker's maps have.)
    workers: BTreeMap<u64, Pid>,
    /// What dead ones have left.
    strays: Strays,
    /// Reports on their way.
    unsent: Vec<u8>,
    is_finishing: bool,
    /// Set when there is nothing left to do: until when strays are waited for that will not die.
    leaves_by: Option<Instant>,
}

impl Server {
    fn run(mut self, alone: &Alone) -> Forked {
        loop {
            // The end of the control socket tells of the parent's, but not while somebody else has the parent's end: a
            // process, say, that was forked from it.
            if getppid() != self.parent {
                self.die();
            }
            self.send_reports();
            if self.may_leave() {
                sys::leave(0);
            }
            let (has_ended, has_request) = self.wait();
            if has_ended {
                self.reap();
            }
            // Dropping `self`, in the worker, is what gives up the server's descriptors and its handler.
            if has_request && let Some(forked) = self.take_request(alone) {
                return forked;
            }
        }
    }

    /// Whether nothing is left to do, nor anybody who could be waited for.
    fn may_leave(&mut self) -> bool {
        if !self.is_finishing || !self.workers.is_empty() || !self.unsent.is_empty() {
            return false;
        }
        let by = *self.leaves_by.get_or_insert_with(|| Instant::now() + DYING);
        !self.kill_strays() || Instant::now() >= by
    }

    /// Waits for something to do: whether somebody may have ended, and whether there is a request.
    fn wait(&mut self) -> (bool, bool) {
        let mut control = PollFlags::IN;
        if !self.unsent.is_empty() {
            control |= PollFlags::OUT;
        }
        let mut events = [PollFd::new(self.ended.reader(), PollFlags::IN), PollFd::new(&self.control, control)];
        match poll(&mut events, self.leaves_by.map(left_until).as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR | Errno::AGAIN | Errno::NOMEM) => return (false, false),
            Err(_) => self.die(),
        }
        let is_ready = |event: &PollFd<'_>| !event.revents().difference(PollFlags::OUT).is_empty();
        (is_ready(&events[0]), is_ready(&events[1]))
    }

    fn send_reports(&mut self) {
        while !self.unsent.is_empty() {
            match rustix::net::send(&self.control, &self.unsent, SendFlags::DONTWAIT | protocol::QUIETLY) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => return,
                Err(_) => self.die(),
            }
        }
    }

    fn reap(&mut self) {
        // One byte may stand for several ends, and several for one.
        while let Ok(1..) | Err(Errno::INTR) = read(self.ended.reader(), &mut [0; 64]) {}
        loop {
            let ended = match sys::ended_child() {
                Ok(Some(ended)) => ended,
                Ok(None) => break,
                // No children: then no workers either, unless the kernel did not keep them for us.
                Err(_) => return self.report(|_| true, None),
            };
            // It is not reaped yet: its number is still its own, and that of the group that it leads.
            if self.workers.values().any(|worker| *worker == ended) {
                let _ = kill_process_group(ended, Signal::KILL);
            }
            // Whatever else is a child of this process, nobody else is here to wait for it.
            match waitpid(Some(ended), WaitOptions::NOHANG) {
                Ok(Some((_, status))) => self.report(|worker| worker == ended, Some(status.as_raw())),
                Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(_) => self.report(|worker| worker == ended, None),
            }
        }
        // Those that there are have been left by somebody who was reaped just now.
        self.kill_strays();
    }

    /// Whether there are any.
    fn kill_strays(&self) -> bool {
        self.strays.kill(|child| self.workers.values().any(|worker| *worker == child))
    }

    /// Has the end of those workers reported.
    fn report(&mut self, is_one: impl Fn(Pid) -> bool, status: Option<i32>) {
        let unsent = &mut self.unsent;
        self.workers.retain(|id, pid| {
            if is_one(*pid) {
                unsent.extend(Report { id: *id, status }.encode());
            }
            !is_one(*pid)
        });
    }

    /// Does what is asked for. `Some` in a worker.
    fn take_request(&mut self, alone: &Alone) -> Option<Forked> {
        let (mut header, mut fds) = ([0; Request::HEADER], Vec::new());
        let mut payload = Vec::new();
        // A request is sent at once, so waiting for the rest of it is no waiting.
        let request = protocol::receive(&self.control, &mut header, &mut fds).ok().and_then(|()| {
            payload.resize(Request::payload(&header)?, 0);
            protocol::receive(&self.control, &mut payload, &mut fds).ok()?;
            Request::decode(&header, &payload)
        });
        match request {
            Some(Request::Spawn(id)) => return self.spawn(alone, id, fds),
            Some(Request::Signal(id, signal)) => self.signal(id, signal),
            Some(Request::Finish) => self.is_finishing = true,
            // The parent is gone. (It sends nothing but requests.)
            None => self.die(),
        }
        None
    }

    fn spawn(&mut self, alone: &Alone, id: u64, fds: Vec<OwnedFd>) -> Option<Forked> {
        let mut fds = fds.into_iter();
        // Without the reply socket nothing can be said; its end in the parent says so.
        let reply = fds.next()?;
        let Some(socket) = fds.next() else {
            answer(&reply, Err(Errno::MFILE));
            return None;
        };
        let server = getpid();
        match sys::fork(alone) {
            Ok(None) => {
                // In a group of its own, a worker does not get the terminal's Ctrl-C, nor what is meant for the
                // server's group. It cannot fail for a process that is new and leads no session.
                let _ = setpgid(None, None);
                strays::adopt();
                Some(Forked { socket, server })
            }
            Ok(Some(pid)) => {
                self.workers.insert(id, pid);
                answer(&reply, Ok(pid));
                None
            }
            Err(error) => {
                answer(&reply, Err(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN)));
                None
            }
        }
    }

    fn signal(&self, id: u64, signal: i32) {
        if let (Some(pid), Some(signal)) = (self.workers.get(&id), Signal::from_named_raw(signal)) {
            // Not reaped, so the number is its own. It may refuse if it has changed its rights; the parent has
            // no other way either.
            let _ = kill_process(*pid, signal);
        }
    }

    /// The parent is gone: ends the workers, what they have started, and this process.
    fn die(&mut self) -> ! {
        for worker in self.workers.values() {
            // One that has just been forked may lead no group yet.
            let _ = kill_process(*worker, Signal::KILL);
            let _ = kill_process_group(*worker, Signal::KILL);
        }
        let by = Instant::now() + DYING;
        while (self.kill_strays() || !self.workers.is_empty()) && Instant::now() < by {
            let _ = poll(&mut [PollFd::new(self.ended.reader(), PollFlags::IN)], Some(&left_until(by)));
            self.reap();
        }
        let _ = kill_process(getpid(), Signal::KILL);
        std::process::abort();
    }
}

/// Answers a request to fork. The reply fits the socket's empty buffer; if the parent is gone, so are we soon.
fn answer(reply: &OwnedFd, result: Result<Pid, Errno>) {
    let bytes = protocol::encode_reply(result.map(Pid::as_raw_pid));
    #[cfg(target_os = "linux")]
    if let Ok(pid) = result
        // It is our child, so nobody else can have the number.
        && let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        && protocol::send(reply, &bytes, &[std::os::fd::AsFd::as_fd(&process)], SendFlags::DONTWAIT).is_ok()
    {
        return;
    }
    let _ = protocol::send(reply, &bytes, &[], SendFlags::DONTWAIT);
}

fn non_blocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(fd)
}

fn left_until(by: Instant) -> Timespec {
    Timespec::try_from(by.saturating_duration_since(Instant::now())).expect("invariant: less than a second")
}

/// How long killed processes are waited for. They take no time, unless the kernel does not let go of one.
const DYING: Duration = Duration::from_millis(500);
