//! The parent's sending side of one link: never blocks, keeps the order, goes on when the worker has read.

use std::fmt;
use std::io;

use ipc_channel::ipc::IpcBytesSender;
use pool_core::transport::{Payload, Seq};

use crate::flow::{Flow, Limits};
use crate::queue::OutQueue;
use crate::rendezvous::contained;
use crate::wire::{Header, Malformed};

/// What waits to be sent, and the way to send it once there is one.
pub(crate) struct Out {
    queue: OutQueue,
    /// What is to be asked for; it goes before frames that wait.
    requests: Vec<Seq>,
    flow: Flow,
    way: Way,
    /// The message being made. Kept, because there is one for each call.
    message: Vec<u8>,
}

enum Way {
    /// The worker has not connected yet.
    NotYet,
    To(IpcBytesSender),
    /// Nothing can or may be sent any more.
    Shut,
}

impl Out {
    pub(crate) fn new(limits: Limits) -> Self {
        let (queue, requests, message) = (OutQueue::default(), Vec::new(), Vec::new());
        Self { queue, requests, flow: Flow::new(limits), way: Way::NotYet, message }
    }

    /// Asks the worker for the end of a call. False if it will not hear of it.
    pub(crate) fn ask(&mut self, seq: Seq) -> io::Result<bool> {
        if matches!(self.way, Way::Shut) {
            return Ok(false);
        }
        self.requests.push(seq);
        self.flush().map(|()| true)
    }

    pub(crate) fn push(&mut self, length: &[u8], head: &[u8], body: &Payload) {
        if !matches!(self.way, Way::Shut) {
            self.queue.push(length, head, body);
        }
    }

    /// The worker has connected.
    pub(crate) fn connect(&mut self, sender: IpcBytesSender) -> io::Result<()> {
        let was_shut = matches!(self.way, Way::Shut);
        self.way = Way::To(sender);
        if was_shut {
            self.shut();
        }
        self.flush()
    }

    /// Sends as much as there is credit for.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if !matches!(self.way, Way::To(_)) {
            return Ok(());
        }
        while let Some(seq) = self.requests.first().copied()
            && self.flow.has_room(Header::BYTES + REQUEST)
        {
            self.requests.remove(0);
            let header = Header { is_request: true, ..self.flow.send(Header::BYTES + REQUEST) };
            self.message.clear();
            self.message.extend(header.encode());
            self.message.extend(seq.0.to_le_bytes());
            self.transmit()?;
        }
        while self.queue.len() > 0 {
            let taken = self.queue.len().min(self.flow.piece_max() - Header::BYTES);
            if !self.flow.has_room(Header::BYTES + taken) {
                break;
            }
            let header = self.flow.send(Header::BYTES + taken);
            self.message.clear();
            self.message.extend(header.encode());
            self.queue.take(taken, &mut self.message);
            self.transmit()?;
        }
        if self.flow.must_tell() {
            let header = self.flow.tell();
            self.message.clear();
            self.message.extend(header.encode());
            self.transmit()?;
        }
        Ok(())
    }

    /// Looks at a message that has arrived, and sends what it has made room for.
    pub(crate) fn received(&mut self, message: &[u8]) -> Result<io::Result<()>, Malformed> {
        let header = Header::decode(message)?;
        if header.is_end || header.is_request {
            return Err(Malformed("a message that only a parent sends".to_owned()));
        }
        self.flow.received(&header, message.len(), message.len() > Header::BYTES)?;
        Ok(self.flush())
    }

    /// Tells the worker that nothing follows, and drops what was not sent.
    pub(crate) fn shut(&mut self) {
        if let Way::To(sender) = &self.way {
            let end = Header { is_end: true, ..self.flow.tell() };
            // A worker that is gone need not be told.
            let _ = contained(|| sender.send(&end.encode()));
        }
        self.way = Way::Shut;
        self.requests = Vec::new();
        self.queue.clear();
        self.message = Vec::new();
    }

    fn transmit(&mut self) -> io::Result<()> {
        let Way::To(sender) = &self.way else { return Ok(()) };
        match contained(|| sender.send(&self.message))? {
            Err(error) if is_gone(&error) => {
                // What the worker sent before is still to be read, and whoever reads will find the end.
                self.shut();
                Ok(())
            }
            sent => sent,
        }
    }
}

/// The number of a call.
const REQUEST: usize = 8;

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").field("queued", &self.queue.len()).field("flow", &self.flow).finish_non_exhaustive()
    }
}

/// Whether the error means that nobody will ever read what is sent.
fn is_gone(error: &io::Error) -> bool {
    // On Windows ipc-channel passes the code of an error on as an HRESULT, which has no kind.
    let error = match error.raw_os_error() {
        Some(code) if cfg!(windows) => &io::Error::from_raw_os_error(code & 0xffff),
        _ => error,
    };
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
