//! The worker's end: blocking sends and receives, by one thread.

use std::borrow::Cow;
use std::fmt;
use std::io;

use ipc_channel::IpcError;
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender};
use pool_core::transport::{Channel, Connector, Seq, Ticket};

use crate::decoder::Decoder;
use crate::flow::{Flow, Limits};
use crate::rendezvous::{self, contained, plain};
use crate::ticket::{self, Address};
use crate::wire::{self, Header, Hello, Malformed};

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
        let (to_worker, receiver) = contained(ipc::bytes_channel)??;
        let (sender, from_worker) = contained(ipc::bytes_channel)??;
        rendezvous::greet(&name, Hello { secret, to_worker, from_worker })?;
        let (flow, decoder, message) = (Flow::new(limits), Decoder::new(frame_max), Vec::new());
        Ok(Box::new(IpcChannel { receiver, sender, flow, decoder, message, frame_max, has_ended: false }))
    }
}

struct IpcChannel {
    receiver: IpcBytesReceiver,
    sender: IpcBytesSender,
    flow: Flow,
    decoder: Decoder,
    /// The message being made. Kept, because there is one for each reply.
    message: Vec<u8>,
    frame_max: usize,
    /// Nothing more comes from the parent.
    has_ended: bool,
}

impl fmt::Debug for IpcChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IpcChannel").field("frame_max", &self.frame_max).finish_non_exhaustive()
    }
}

impl Channel for IpcChannel {
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

    fn claim(&mut self, _: Seq) -> bool {
        true
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
}

/// A frame's memory beyond this is given back with the next small one.
const CAPACITY_MAX: usize = 1024 * 1024;

impl IpcChannel {
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
                Err(IpcError::Io(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(IpcError::Disconnected) => {
                    self.has_ended = true;
                    return Ok(false);
                }
                Err(error) => return Err(plain(error)),
            }
        };
        let header = Header::decode(&message).map_err(invalid)?;
        let carries = message.len() > Header::BYTES;
        self.flow.received(&header, message.len(), carries).map_err(invalid)?;
        if carries {
            self.decoder.push(message, Header::BYTES);
        }
        self.has_ended = header.is_end;
        if self.flow.must_tell() && !self.has_ended {
            let header = self.flow.tell();
            // A parent that is gone will be noticed where it matters: what it sent is still to be read.
            let _ = self.transmit(&header, 0, |_| {});
        }
        Ok(true)
    }

    /// Sends a message with `len` bytes that `fill` adds.
    fn transmit(&mut self, header: &Header, len: usize, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.message.clear();
        wire::seal(Header::BYTES + len, &mut self.message);
        self.message.extend(header.encode());
        fill(&mut self.message);
        // Within the credit it does not block, so no signal can interrupt it.
        contained(|| self.sender.send(&self.message))?
    }
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
