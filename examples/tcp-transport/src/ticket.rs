//! What a worker is told so that it finds its link and is let in.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pool_core::transport::Ticket;

/// The name under which workers know this transport.
pub(crate) const NAME: &str = "tcp";

/// 128 bits by chance.
pub(crate) type Secret = [u8; 16];

/// What both ends of a link know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// How long the worker may be silent.
    pub(crate) lease: Duration,
    pub(crate) frame_max: usize,
    /// What the worker shows.
    pub(crate) knock: Secret,
    /// What the parent shows in return.
    pub(crate) answer: Secret,
}

impl Terms {
    /// Terms with fresh secrets.
    pub(crate) fn new(lease: Duration, frame_max: usize) -> io::Result<Self> {
        let mut secrets = [0; 32];
        getrandom::fill(&mut secrets).map_err(|error| io::Error::other(error.to_string()))?;
        let [knock, answer] = *secrets.as_chunks().0 else { unreachable!("invariant: twice 16 is 32") };
        Ok(Self { lease, frame_max, knock, answer })
    }

    pub(crate) fn to_ticket(&self, address: SocketAddr) -> Ticket {
        // Both are bounded where they are set.
        let (lease, frame_max) = (self.lease.as_millis() as u32, self.frame_max as u32);
        let numbers = [lease.to_le_bytes(), frame_max.to_le_bytes()].concat();
        let bytes = [&numbers, &self.knock[..], &self.answer[..], address.to_string().as_bytes()].concat();
        Ticket { transport: NAME.to_owned(), bytes, handles: Vec::new() }
    }

    pub(crate) fn from_ticket(ticket: &Ticket) -> io::Result<(Self, SocketAddr)> {
        let parse = || {
            let (lease, rest) = ticket.bytes.split_first_chunk()?;
            let (frame_max, rest) = rest.split_first_chunk()?;
            let (knock, rest) = rest.split_first_chunk()?;
            let (answer, address) = rest.split_first_chunk()?;
            let terms = Self {
                lease: Duration::from_millis(u32::from_le_bytes(*lease).into()),
                frame_max: usize::try_from(u32::from_le_bytes(*frame_max)).ok()?,
                knock: *knock,
                answer: *answer,
            };
            Some((terms, std::str::from_utf8(address).ok()?.parse().ok()?))
        };
        let ours = ticket.transport == NAME && ticket.handles.is_empty();
        let error = || io::Error::new(io::ErrorKind::InvalidData, "the ticket is not of the transport `tcp`");
        ours.then(parse).flatten().ok_or_else(error)
    }
}
