//! What a ticket of this transport says and carries.
//!
//! Handles, in order: the segment, the worker's bell to hear, and the parent's to ring.

use std::io;

use pool_core::transport::{Handle, Ticket};

use crate::NAME;

const VERSION: u8 = 2;
const BYTES: usize = 5;

/// What the worker's end is made of.
#[derive(Debug)]
pub(crate) struct WorkerEnd {
    pub(crate) frame_max: usize,
    pub(crate) segment: Handle,
    pub(crate) hear: Handle,
    pub(crate) ring: Handle,
}

impl WorkerEnd {
    pub(crate) fn into_ticket(self) -> Ticket {
        let mut bytes = vec![VERSION];
        bytes.extend((self.frame_max as u32).to_le_bytes());
        Ticket { transport: NAME.to_owned(), bytes, handles: vec![self.segment, self.hear, self.ring] }
    }

    pub(crate) fn from_ticket(ticket: Ticket) -> io::Result<Self> {
        if ticket.transport != NAME {
            return Err(invalid(format!("a ticket of transport {:?}, not {NAME:?}", ticket.transport)));
        }
        let Ok([version, frame_max @ ..]) = <[u8; BYTES]>::try_from(ticket.bytes) else {
            return Err(invalid("a ticket of the wrong length".to_owned()));
        };
        if version != VERSION {
            return Err(invalid(format!("a ticket of version {version}, not {VERSION}")));
        }
        let handles = <[Handle; 3]>::try_from(ticket.handles);
        let [segment, hear, ring] =
            handles.map_err(|handles| invalid(format!("a ticket with {} handles", handles.len())))?;
        Ok(Self { frame_max: u32::from_le_bytes(frame_max) as usize, segment, hear, ring })
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
