//! The thread of a link: waits for the worker, then for what it says, and delivers. Grants calls, and ends the
//! link.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use pool_core::transport::{Closed, Seq};

use crate::link::Line;
use crate::wire::{Inbox, Kind};

pub(crate) const LISTENER: Token = Token(0);
pub(crate) const WAKER: Token = Token(1);

/// The whole life of the thread.
pub(crate) fn run(line: &Line, mut poll: Poll, listener: TcpListener) {
    let why = match let_in(line, &mut poll, listener) {
        Ok(stream) => Watch::new(line, poll, stream).run(),
        Err(why) => why,
    };
    line.finish(why);
}

/// Somebody who has connected and not yet shown the secret.
struct Guest {
    stream: TcpStream,
    said: Vec<u8>,
}

/// So many of them are listened to at a time. The worker says its secret at once; who is slow makes room.
const GUESTS: usize = 16;

/// When to look again whether there is a descriptor for who has connected.
const SHORTAGE: Duration = Duration::from_millis(20);

/// Waits for the worker. Strangers are dropped.
fn let_in(line: &Line, poll: &mut Poll, listener: TcpListener) -> Result<Arc<TcpStream>, Closed> {
    let (mut events, mut guests, mut count) = (Events::with_capacity(GUESTS), VecDeque::new(), WAKER.0);
    loop {
        if let Some(why) = line.desk().ending.clone() {
            return Err(why);
        }
        let mut patience = None;
        loop {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    count += 1;
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(count), interest).map_err(broken)?;
                    guests.push_back(Guest { stream, said: Vec::new() });
                    guests.drain(..guests.len().saturating_sub(GUESTS));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    patience = Some(SHORTAGE);
                    break;
                }
            }
        }
        guests.retain_mut(|guest| guest.listen(line.terms.knock.len()));
        if let Some(at) = guests.iter().position(|guest| is_same(&guest.said, &line.terms.knock)) {
            let stream = guests.swap_remove_back(at).expect("invariant: it was found there").stream;
            stream.set_nodelay(true).map_err(broken)?;
            let stream = Arc::new(stream);
            line.connect(&stream);
            return Ok(stream);
        }
        guests.retain(|guest| guest.said.len() < line.terms.knock.len());
        wait(poll, &mut events, patience)?;
    }
}

impl Guest {
    /// Reads up to so many bytes; false if no more will come.
    fn listen(&mut self, len: usize) -> bool {
        loop {
            let mut bytes = vec![0; len - self.said.len()];
            match self.stream.read(&mut bytes) {
                Ok(0) => return self.said.len() == len,
                Ok(count) => self.said.extend(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }
}

/// Whether it is the secret, in a time that does not tell how much of it is right.
fn is_same(said: &[u8], secret: &[u8]) -> bool {
    said.len() == secret.len() && said.iter().zip(secret).fold(0, |odd, (a, b)| odd | (a ^ b)) == 0
}

/// What reads once the worker has come.
struct Watch<'a> {
    line: &'a Line,
    poll: Poll,
    stream: Arc<TcpStream>,
    inbox: Inbox,
    buffer: Vec<u8>,
    /// When the worker was last heard.
    heard: Instant,
}

/// How much is read before others have a turn: those who want the link to end. More than a system keeps for a
/// connection, so that what has arrived when the end is wanted is read.
const TURN: usize = 32 << 20;

impl<'a> Watch<'a> {
    fn new(line: &'a Line, poll: Poll, stream: Arc<TcpStream>) -> Self {
        let (inbox, buffer) = (Inbox::default(), vec![0; 64 * 1024]);
        Self { line, poll, stream, inbox, buffer, heard: Instant::now() }
    }

    /// Works until the link ends.
    fn run(mut self) -> Closed {
        let mut events = Events::with_capacity(4);
        loop {
            // Both before the look at what there is: what came before the end was wanted is delivered, and a
            // worker that is heard in this moment is not silent.
            let (ending, now) = (self.line.desk().ending.clone(), Instant::now());
            let is_all = match self.read() {
                Ok(is_all) => is_all,
                Err(why) => return why,
            };
            if let Some(why) = ending {
                return why;
            }
            let expiry = self.heard + self.line.terms.lease;
            if now >= expiry {
                return Closed::Io(format!(
                    "it was silent for longer than {:?}, its lease",
                    self.line.terms.lease
                ));
            }
            if is_all && let Err(why) = wait(&mut self.poll, &mut events, Some(expiry - now)) {
                return why;
            }
            self.line.desk().flush();
        }
    }

    /// Reads and delivers for a turn. Whether that was all there is.
    fn read(&mut self) -> Result<bool, Closed> {
        let (mut left, mut frames) = (TURN, 0);
        let ended = loop {
            match (&*self.stream).read(&mut self.buffer) {
                Ok(0) => break Err(self.gone()),
                Ok(count) => {
                    self.heard = Instant::now();
                    self.inbox.push(&self.buffer[..count]);
                    match self.deliver() {
                        Ok(count) => frames += count,
                        Err(what) => break Err(Closed::Malformed(what)),
                    }
                    left = left.saturating_sub(count);
                    if left == 0 || self.line.desk().is_dropped {
                        break Ok(false);
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => break Ok(true),
                    ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => break Err(self.gone()),
                    _ => break Err(broken(error)),
                },
            }
        };
        if frames > 0 && !self.line.desk().is_dropped {
            self.line.events.drained();
        }
        ended
    }

    /// Does what whole messages say, and tells how many were frames.
    fn deliver(&mut self) -> Result<usize, String> {
        let mut frames = 0;
        while let Some((kind, bytes)) = self.inbox.next(self.line.terms.frame_max)? {
            match kind {
                Kind::Frame => {
                    // First: the worker may go on while we deliver, and the link may be gone afterwards.
                    self.line.say(Kind::Receipt);
                    if self.line.desk().is_dropped {
                        break;
                    }
                    self.line.events.frame(bytes);
                    frames += 1;
                }
                Kind::Ask => {
                    let seq = bytes.as_ref().try_into().map_err(|_| "a question about no call".to_owned())?;
                    self.line.claim(Seq(u64::from_le_bytes(seq)));
                }
                Kind::Beat => {}
                Kind::Receipt | Kind::Yes | Kind::No => return Err(format!("{kind:?}, as only a parent says")),
            }
        }
        Ok(frames)
    }

    fn gone(&self) -> Closed {
        if self.inbox.is_between() { Closed::Eof } else { Closed::Truncated }
    }
}

fn wait(poll: &mut Poll, events: &mut Events, patience: Option<Duration>) -> Result<(), Closed> {
    match poll.poll(events, patience) {
        Err(error) if error.kind() != ErrorKind::Interrupted => Err(broken(error)),
        _ => Ok(()),
    }
}

fn broken(error: io::Error) -> Closed {
    Closed::Io(format!("cannot listen to the worker: {error}"))
}
