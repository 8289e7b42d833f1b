//! The parent's write side of one link: never blocks, keeps the order, goes on when there is room again.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use pool_core::transport::Payload;
use pool_os::parent_fds::ParentFd;

use crate::link::Key;
use crate::lock;
use crate::out::OutQueue;
use crate::reactor::Reactor;

/// What waits to be written, and the descriptor to write it to.
pub(crate) struct Output {
    state: Mutex<State>,
}

struct State {
    queue: OutQueue,
    /// `None` once nothing can or may be written any more.
    fd: Option<Arc<ParentFd>>,
    /// The pipe is full, and the reactor will call [`Output::writable`] when it no longer is. Until then
    /// there is no point in trying.
    waits: bool,
}

impl Output {
    pub(crate) fn new(fd: Arc<ParentFd>) -> Self {
        Self { state: Mutex::new(State { queue: OutQueue::default(), fd: Some(fd), waits: false }) }
    }

    pub(crate) fn push(&self, header: &[u8], head: &[u8], body: &Payload) {
        let mut state = lock(&self.state);
        if state.fd.is_some() {
            state.queue.push(header, head, body);
        }
    }

    /// Writes what the pipe takes; the reactor is asked to see to the rest.
    pub(crate) fn flush(&self, reactor: &Reactor, key: Key) -> io::Result<()> {
        let mut state = lock(&self.state);
        if state.waits {
            return Ok(());
        }
        state.write(reactor, key)
    }

    /// The reactor's answer: there is room.
    pub(crate) fn writable(&self, reactor: &Reactor, key: Key) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.waits = false;
        state.write(reactor, key)
    }

    /// Closes the pipe and drops what was not written.
    pub(crate) fn shut(&self, reactor: &Reactor, key: Key) {
        lock(&self.state).shut(reactor, key);
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

impl State {
    fn write(&mut self, reactor: &Reactor, key: Key) -> io::Result<()> {
        while !self.queue.is_empty() {
            let Some(fd) = &self.fd else { return Ok(()) };
            match self.queue.write_with(|slices| Ok(rustix::io::writev(fd, slices)?)) {
                Ok((offered, taken)) if taken == offered => {}
                // Less than offered: the pipe is full, and the next call would only say so.
                Ok(_) => return self.wait(reactor, key),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return self.wait(reactor, key),
                    io::ErrorKind::BrokenPipe => {
                        // The worker is gone, or will not read. What it sent before is still to be read,
                        // and the read side will find the end.
                        self.shut(reactor, key);
                        return Ok(());
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    fn wait(&mut self, reactor: &Reactor, key: Key) -> io::Result<()> {
        let Some(fd) = &self.fd else { return Ok(()) };
        reactor.want_write(key, fd)?;
        self.waits = true;
        Ok(())
    }

    fn shut(&mut self, reactor: &Reactor, key: Key) {
        if let Some(fd) = self.fd.take() {
            reactor.forget_write(key, &fd);
        }
        self.queue.clear();
    }
}
