//! The worker's end: blocking sends and receives, by one thread. Only while that is at a call, others may look for what
//! the parent asks of it, and take in what has arrived.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ipc_channel::ipc::IpcBytesReceiver;
use ipc_channel::{IpcError, TryRecvError};
use pool_core::transport::{Channel, Connector, Seq, StopRequests, Ticket};

use crate::decoder::Decoder;
use crate::flow::{Flow, Limits};
use crate::link::lock;
use crate::rendezvous::{self, ToParent, contained, plain};
use crate::ticket::{self, Address};
use crate::wire::{self, Header, Malformed};

/// The worker's half of [`Ipc`](crate::Ipc).
#[derive(Clone, Copy, Debug, Default)]
pub struct IpcConnector;

impl Connector for IpcConnector {
    fn name(&self) -> &str {
        ticket::NAME
    }

    fn connect(&self, ticket: Ticket) -> io::Result<Box<dyn Channel>> {
        let Address { frame_max, secret, name } = Address::from_ticket(&ticket)?;
        let limits = Limits::of_system()?;
        let (receiver, sender) = rendezvous::greet(&name, secret)?;
        let (flow, decoder, message) = (Flow::new(limits), Decoder::new(frame_max), Vec::new());
        let asked = Arc::<Asked>::default();
        let end = End {
            receiver,
            sender,
            flow,
            decoder,
            message,
            frame_max,
            asked: Arc::clone(&asked),
            has_ended: false,
        };
        Ok(Box::new(IpcChannel { end: Arc::new(Mutex::new(end)), asked }))
    }
}

/// The calling thread's.
struct IpcChannel {
    end: Arc<Mutex<End>>,
    asked: Arc<Asked>,
}

/// What the parent asks for.
#[derive(Default)]
struct Asked {
    /// The call that was claimed last.
    claimed: AtomicU64,
    /// Those that are to end, of that one and those after it.
    calls: Mutex<BTreeSet<Seq>>,
}

impl Asked {
    fn note(&self, seq: Seq) {
        let (mut calls, claimed) = (lock(&self.calls), self.claimed.load(Ordering::Relaxed));
        calls.retain(|known| known.0 >= claimed);
        calls.insert(seq);
    }
}

/// What those have who look for that.
struct Requests {
    end: Arc<Mutex<End>>,
    asked: Arc<Asked>,
}

struct End {
    receiver: IpcBytesReceiver,
    sender: ToParent,
    flow: Flow,
    decoder: Decoder,
    /// The message being made. Kept, because there is one for each reply.
    message: Vec<u8>,
    frame_max: usize,
    asked: Arc<Asked>,
    /// Nothing more comes from the parent.
    has_ended: bool,
}

impl fmt::Debug for IpcChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IpcChannel").finish_non_exhaustive()
    }
}

impl Channel for IpcChannel {
    fn recv(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        lock(&self.end).recv(frame)
    }

    fn claim(&mut self, seq: Seq) -> bool {
        self.asked.claimed.store(seq.0, Ordering::Relaxed);
        true
    }

    fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        lock(&self.end).send(head, body)
    }

    fn stop_requests(&self) -> Arc<dyn StopRequests> {
        Arc::new(Requests { end: Arc::clone(&self.end), asked: Arc::clone(&self.asked) })
    }
}

impl StopRequests for Requests {
    fn is_asked(&self, seq: Seq) -> bool {
        // Whoever has it looks as well, or waits for the next call: then this one is over.
        if let Ok(mut end) = self.end.try_lock() {
            end.look();
        }
        lock(&self.asked.calls).contains(&seq)
    }
}

/// A frame's memory beyond this is given back with the next small one.
const CAPACITY_MAX: usize = 1024 * 1024;

impl End {
    fn recv(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            match self.decoder.next().map_err(invalid)? {
                Some(Cow::Borrowed(bytes)) => {
                    if frame.capacity() > CAPACITY_MAX {
                        *frame = Vec::new();
                    }
                    frame.clear();
                    frame.extend_from_slice(bytes);
                    return Ok(true);
                }
                Some(Cow::Owned(bytes)) => {
                    *frame = bytes;
                    return Ok(true);
                }
                None => {}
            }
            if !self.receive()? {
                let is_between = self.decoder.is_between_frames();
                return if is_between { Ok(false) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let len = head.len() + body.len();
        let Some(length) = wire::length(len, self.frame_max) else {
            let why = wire::too_long_to_send(len, self.frame_max);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        };
        let mut parts = [&length, head, body];
        let mut left = length.len() + len;
        while left > 0 {
            let taken = left.min(self.flow.piece_max() - Header::BYTES);
            self.wait_for_room(Header::BYTES + taken)?;
            let header = self.flow.send(Header::BYTES + taken);
            self.transmit(&header, taken, |message| take(&mut parts, taken, message))?;
            left -= taken;
        }
        Ok(())
    }

    /// Takes in what has arrived. What is wrong with it will be found where it is waited for.
    fn look(&mut self) {
        while !self.has_ended {
            match contained(|| self.receiver.try_recv()) {
                Ok(Ok(message)) => {
                    if self.take_in(message).is_err() {
                        return;
                    }
                }
                Ok(Err(TryRecvError::IpcError(IpcError::Io(error)))) if is_to_be_tried_again(&error) => {}
                _ => return,
            }
        }
    }

    /// Reads what the parent sends, calls too, until it has taken out enough of ours.
    fn wait_for_room(&mut self, len: usize) -> io::Result<()> {
        while !self.has_ended && !self.flow.has_room(len) {
            self.receive()?;
        }
        if self.has_ended { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    /// Waits for one message; false at the end.
    fn receive(&mut self) -> io::Result<bool> {
        if self.has_ended {
            return Ok(false);
        }
        let message = loop {
            match contained(|| self.receiver.recv())? {
                Ok(message) => break message,
                Err(IpcError::Io(error)) if is_to_be_tried_again(&error) => {}
                Err(IpcError::Disconnected) => {
                    self.has_ended = true;
                    return Ok(false);
                }
                Err(error) => return Err(plain(error)),
            }
        };
        self.take_in(message)?;
        Ok(true)
    }

    fn take_in(&mut self, message: Vec<u8>) -> io::Result<()> {
        let header = Header::decode(&message).map_err(invalid)?;
        let carries = message.len() > Header::BYTES;
        self.flow.received(&header, message.len(), carries).map_err(invalid)?;
        if header.is_request {
            let number = message[Header::BYTES..].try_into();
            let number = number.map_err(|_| invalid(Malformed("a request without a number".to_owned())))?;
            self.asked.note(Seq(u64::from_le_bytes(number)));
        } else if carries {
            self.decoder.push(message, Header::BYTES);
        }
        self.has_ended = header.is_end;
        if self.flow.must_tell() && !self.has_ended {
            let header = self.flow.tell();
            // A parent that is gone will be noticed where it matters: what it sent is still to be read.
            let _ = self.transmit(&header, 0, |_| {});
        }
        Ok(())
    }

    /// Sends a message with `len` bytes that `fill` adds.
    fn transmit(&mut self, header: &Header, len: usize, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        // Within the credit it does not block, so no signal can interrupt it.
        self.sender.send(&mut self.message, Header::BYTES + len, |message| {
            message.extend(header.encode());
            fill(message);
        })
    }
}

/// Whether nothing has come, for a reason that passes. On Windows the read that a look has begun is called off when its
/// thread ends; ipc-channel passes the code of an error on as an HRESULT, which has no kind.
fn is_to_be_tried_again(error: &io::Error) -> bool {
    const ERROR_OPERATION_ABORTED: i32 = 995;
    let is_called_off = error.raw_os_error().is_some_and(|code| code & 0xffff == ERROR_OPERATION_ABORTED);
    error.kind() == io::ErrorKind::Interrupted || cfg!(windows) && is_called_off
}

/// Moves the first `count` bytes of all parts to the end of `to`.
fn take(parts: &mut [&[u8]; 3], mut count: usize, to: &mut Vec<u8>) {
    for part in parts {
        let (taken, rest) = part.split_at(part.len().min(count));
        to.extend_from_slice(taken);
        count -= taken.len();
        *part = rest;
    }
}

fn invalid(Malformed(why): Malformed) -> io::Error {
    ticket::invalid(why)
}
