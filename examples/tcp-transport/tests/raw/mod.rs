//! A worker's end that says what no `Channel` would. It knows the wire by heart, so that a change there is
//! noticed.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use pool_core::transport::Ticket;

pub(crate) const FRAME: u8 = 1;
pub(crate) const ASK: u8 = 3;

/// Where in a ticket's bytes the worker's secret is; the parent's and the address follow.
pub(crate) const KNOCK: std::ops::Range<usize> = 8..24;

pub(crate) fn address(ticket: &Ticket) -> SocketAddr {
    let text = std::str::from_utf8(&ticket.bytes[KNOCK.end + 16..]).expect("text");
    text.parse().expect("an address")
}

/// A connection.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    /// Connects as the worker would.
    pub(crate) fn connect(ticket: &Ticket) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address(ticket))?;
        stream.write_all(&ticket.bytes[KNOCK])?;
        stream.read_exact(&mut [0; 16])?;
        Ok(Self(stream))
    }

    /// Announces so many bytes, and says these.
    pub(crate) fn say(&mut self, kind: u8, len: usize, bytes: &[u8]) -> io::Result<()> {
        let len = u32::try_from(len).expect("it fits").to_le_bytes();
        self.0.write_all(&[&[kind], &len[..], bytes].concat())
    }

    /// The next message; none at the end.
    pub(crate) fn hear(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let mut header = [0; 5];
        if self.0.read(&mut header[..1])? == 0 {
            return Ok(None);
        }
        self.0.read_exact(&mut header[1..])?;
        let [kind, len @ ..] = header;
        let mut bytes = vec![0; u32::from_le_bytes(len) as usize];
        self.0.read_exact(&mut bytes)?;
        Ok(Some((kind, bytes)))
    }
}
