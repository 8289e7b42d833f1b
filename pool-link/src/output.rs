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
use crate::stream::{Room, Stream};

/// What waits to be written, and the descriptor to write it to.
pub(crate) struct Output {
    state: Mutex<State>,
}

struct State {
    queue: OutQueue,
    stream: Arc<dyn Stream>,
    /// `None` once nothing can or may be written any more.
    fd: Option<Arc<ParentFd>>,
    /// There is no room, and somebody will call [`Output::writable`] when there is. Until then there is no point in
    /// trying.
    waits: bool,
    /// Those that wait are told by an edge at the reading side.
    is_announced: bool,
}

impl Output {
    pub(crate) fn new(fd: Arc<ParentFd>, stream: Arc<dyn Stream>) -> Self {
        Self {
            state: Mutex::new(State {
                queue: OutQueue::default(),
                stream,
                fd: Some(fd),
                waits: false,
                is_announced: false,
            }),
        }
    }

    pub(crate) fn push(&self, header: &[u8], head: &[u8], body: &Payload) {
        self.with(|state| {
            if state.fd.is_some() {
                state.queue.push(header, head, body);
            }
        });
    }

    /// Writes what the stream takes; the reactor is asked to see to the rest.
    pub(crate) fn flush(&self, reactor: &Reactor, key: Key) -> io::Result<()> {
        self.with(|state| if state.waits { Ok(()) } else { state.write(reactor, key) })
    }

    /// The reactor's answer: there is room.
    pub(crate) fn writable(&self, reactor: &Reactor, key: Key) -> io::Result<()> {
        self.with(|state| {
            state.waits = false;
            state.write(reactor, key)
        })
    }

    /// An edge at the reading side: there may be room, if that is how it is told.
    pub(crate) fn hear(&self, reactor: &Reactor, key: Key) -> io::Result<()> {
        self.with(|state| {
            if !(state.waits && state.is_announced) {
                return Ok(());
            }
            state.waits = false;
            state.write(reactor, key)
        })
    }

    /// Closes the stream and drops what was not written.
    pub(crate) fn shut(&self, reactor: &Reactor, key: Key) {
        self.with(|state| state.shut(reactor, key));
    }

    /// What is done with is dropped after the lock is free.
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let value = f(&mut state);
        let done = state.queue.take_done();
        drop(state);
        drop(done);
        value
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
            let stream = &self.stream;
            match self.queue.write_with(|slices| stream.write(fd, slices)) {
                Ok((offered, taken)) if taken == offered => {}
                // Less than offered: it is full, and the next call would only say so.
                Ok(_) if self.waits_for_room(reactor, key)? => return Ok(()),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock if self.waits_for_room(reactor, key)? => return Ok(()),
                    io::ErrorKind::WouldBlock => {}
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

    /// False if there is room by now.
    fn waits_for_room(&mut self, reactor: &Reactor, key: Key) -> io::Result<bool> {
        let Some(fd) = &self.fd else { return Ok(true) };
        let room = self.stream.want_room();
        match room {
            Room::There => return Ok(false),
            Room::Announced => {}
            Room::Watch => reactor.want_write(key, fd)?,
        }
        self.is_announced = room == Room::Announced;
        self.waits = true;
        Ok(true)
    }

    fn shut(&mut self, reactor: &Reactor, key: Key) {
        if let Some(fd) = self.fd.take() {
            self.stream.close();
            reactor.forget_write(key, &fd);
        }
        self.queue.clear();
    }
}
