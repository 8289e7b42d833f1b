//! What a ticket of this transport says and carries.
//!
//! Handles, in order: the worker's read end, its write end, and the claim page if there is one.

use std::io;

use pool_core::transport::{Handle, Ticket};
use pool_link::claims::SLOTS;

/// The transport's name, in tickets and in start method names such as `exec+pipe`.
pub(crate) const NAME: &str = "pipe";
const VERSION: u8 = 1;
const BYTES: usize = 9;

/// What the worker's end is made of.
#[derive(Debug)]
pub(crate) struct WorkerEnd {
    pub(crate) frame_max: usize,
    pub(crate) read: Handle,
    pub(crate) write: Handle,
    pub(crate) page: Option<Handle>,
}

impl WorkerEnd {
    pub(crate) fn into_ticket(self) -> Ticket {
        let slots = if self.page.is_some() { SLOTS as u32 } else { 0 };
        let mut bytes = vec![VERSION];
        bytes.extend((self.frame_max as u32).to_le_bytes());
        bytes.extend(slots.to_le_bytes());
        let handles = [self.read, self.write].into_iter().chain(self.page).collect();
        Ticket { transport: NAME.to_owned(), bytes, handles }
    }

    pub(crate) fn from_ticket(ticket: Ticket) -> io::Result<Self> {
        if ticket.transport != NAME {
            return Err(invalid(format!("a ticket of transport {:?}, not {NAME:?}", ticket.transport)));
        }
        let Ok(bytes) = <[u8; BYTES]>::try_from(ticket.bytes) else {
            return Err(invalid("a ticket of the wrong length".to_owned()));
        };
        let [version, rest @ ..] = bytes;
        if version != VERSION {
            return Err(invalid(format!("a ticket of version {version}, not {VERSION}")));
        }
        let [a, b, c, d, slots @ ..] = rest;
        let slots = u32::from_le_bytes(slots) as usize;
        let handles = ticket.handles.len();
        let mut handles = match (handles, slots) {
            (2, 0) | (3, SLOTS) => ticket.handles.into_iter(),
            _ => return Err(invalid(format!("a ticket with {handles} handles for {slots} slots"))),
        };
        let mut next = || handles.next().ok_or_else(|| invalid("a ticket without handles".to_owned()));
        let (read, write) = (next()?, next()?);
        Ok(Self { frame_max: u32::from_le_bytes([a, b, c, d]) as usize, read, write, page: handles.next() })
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
