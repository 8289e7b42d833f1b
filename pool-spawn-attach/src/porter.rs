//! The door: a thread that listens, asks who comes, and lets in whom the lobby expects.
//!
//! It waits for everybody at once and for nobody in particular: who says nothing is dropped at a deadline, who says
//! something wrong at once. It ends with the pool, and holds nothing that would outlive that.

use std::io;
use std::mem;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use interprocess::local_socket::{ListenerNonblockingMode, ListenerOptions};
use pool_os::Peer;

use crate::greeting::{GREETING_MAX, Greeting, Heard, refusal};
use crate::lobby::{Joined, Lobby};
use crate::name::Place;
use crate::platform::{self, Bell, Connection, Listener, Ring};

/// So many may stand at the door. Who comes next makes the one go that has stood there longest.
const VISITORS_MAX: usize = 32;

/// How long the door stays shut when the system has no descriptor for who comes.
const REST: Duration = Duration::from_millis(100);

/// The door, for its owner. Dropping it closes it, and waits until all is tidied up.
#[derive(Debug)]
pub(crate) struct Door {
    /// Dropping it ends the thread.
    ring: Option<Ring>,
    thread: Option<JoinHandle<()>>,
    /// Last: its directory is removed when nothing is in use there any more.
    pub(crate) place: Place,
}

impl Door {
    pub(crate) fn open(place: Place, lobby: Arc<Lobby>) -> io::Result<Self> {
        let options = ListenerOptions::new().name(place.name.to_socket_name()?);
        let listener = options.nonblocking(ListenerNonblockingMode::Both).create_sync()?;
        let listener = Listener::new(listener);
        let (ring, bell) = platform::bell()?;
        let porter = Porter { lobby, listener, bell, visitors: Vec::new(), rests_until: None };
        let thread = thread::Builder::new().name("pool-porter".to_owned()).spawn(move || porter.run())?;
        Ok(Self { ring: Some(ring), thread: Some(thread), place })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        drop(self.ring.take());
        if let Some(thread) = self.thread.take() {
            // It has reported a panic, if there was one.
            let _ = thread.join();
        }
    }
}

/// Somebody at the door.
struct Visitor {
    connection: Connection,
    peer: Peer,
    said: Vec<u8>,
    until: Instant,
}

/// How far a visitor has come.
enum Step {
    Stays,
    Leaves,
    IsRefused(String),
    Joins(Greeting),
}

struct Porter {
    lobby: Arc<Lobby>,
    listener: Listener,
    bell: Bell,
    /// The one that has stood here longest is the first.
    visitors: Vec<Visitor>,
    rests_until: Option<Instant>,
}

impl Porter {
    fn run(mut self) {
        loop {
            self.answer_the_door();
            self.hear_visitors();
            self.lobby.tidy();
            let deadline = self.visitors.iter().map(|visitor| visitor.until).chain(self.rests_until).min();
            let inside = self.lobby.connections();
            let at_the_door = self.visitors.iter().map(|visitor| &visitor.connection);
            let connections: Vec<_> = at_the_door.chain(inside.iter().map(|connection| &**connection)).collect();
            let listener = self.rests_until.is_none().then_some(&self.listener);
            if !self.bell.wait(listener, &connections, deadline) {
                return self.lobby.close();
            }
        }
    }

    /// Takes in all who have knocked.
    fn answer_the_door(&mut self) {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.rests_until = None;
        loop {
            match self.listener.accept() {
                Ok(stream) => self.meet(Connection::new(stream)),
                Err(error) if platform::is_nothing_yet(&error) => return,
                Err(error) => match error.kind() {
                    // This one has gone; there may be another.
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    // Too few descriptors, say. They still wait when there are some again.
                    _ => {
                        self.rests_until = Some(Instant::now() + REST);
                        return;
                    }
                },
            }
        }
    }

    /// Looks who it is, before a word is heard.
    fn meet(&mut self, connection: Connection) {
        match connection.peer() {
            Ok(peer) => {
                if self.visitors.len() >= VISITORS_MAX {
                    self.visitors.remove(0);
                }
                let until = Instant::now() + self.lobby.greeting_deadline();
                self.visitors.push(Visitor { connection, peer, said: Vec::new(), until });
            }
            Err(why) => connection.say(&refusal(&why)),
        }
    }

    fn hear_visitors(&mut self) {
        let now = Instant::now();
        for mut visitor in mem::take(&mut self.visitors) {
            match visitor.hear(now) {
                Step::Stays => self.visitors.push(visitor),
                Step::Leaves => {}
                Step::IsRefused(why) => visitor.connection.say(&refusal(&why)),
                Step::Joins(greeting) => {
                    let joined = Joined { connection: Arc::new(visitor.connection), peer: visitor.peer };
                    if let Err((why, joined)) = self.lobby.enter(&greeting, joined) {
                        joined.connection.say(&refusal(why));
                    }
                }
            }
        }
    }
}

impl Visitor {
    fn hear(&mut self, now: Instant) -> Step {
        let mut room = [0; GREETING_MAX];
        loop {
            match self.connection.read(&mut room) {
                Ok(0) => return Step::Leaves,
                Ok(count) => self.said.extend_from_slice(&room[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if platform::is_nothing_yet(&error) && now < self.until => return Step::Stays,
                Err(error) if platform::is_nothing_yet(&error) => {
                    return Step::IsRefused("it did not introduce itself in time".to_owned());
                }
                Err(_) => return Step::Leaves,
            }
            // After each piece, so that nobody makes it keep more than a greeting's worth.
            match Greeting::hear(&self.said) {
                Heard::Part => {}
                Heard::Whole(greeting) => return Step::Joins(greeting),
                Heard::Nonsense(why) => return Step::IsRefused(why),
            }
        }
    }
}
