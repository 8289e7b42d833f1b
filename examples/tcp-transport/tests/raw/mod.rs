//! A worker's end that says what no `Channel` would. It knows the wire by heart, so that a change there is
//! noticed.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pool_core::transport::Ticket;

pub(crate) const FRAME: u8 = 1;
pub(crate) const ASK: u8 = 2;

/// What the worker shows, and what the parent shows in return.
pub(crate) type Secrets = [[u8; 16]; 2];

/// All that a ticket says: the secrets, where the parent listens, the lease and the largest frame.
pub(crate) type Terms = (Secrets, SocketAddr, Duration, u64);

pub(crate) fn terms(ticket: &Ticket) -> Terms {
    postcard::from_bytes(&ticket.bytes).expect("a ticket")
}

/// Both connections.
pub(crate) struct Raw {
    pub(crate) calls: TcpStream,
    pub(crate) replies: TcpStream,
}

impl Raw {
    /// Connects as the worker would.
    pub(crate) fn connect(ticket: &Ticket) -> io::Result<Self> {
        let ([knock, _], address, ..) = terms(ticket);
        let dial = || -> io::Result<TcpStream> {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(&knock)?;
            stream.read_exact(&mut [0; 16])?;
            Ok(stream)
        };
        Ok(Self { calls: dial()?, replies: dial()? })
    }

    /// Announces so many bytes, and says these.
    pub(crate) fn say(&mut self, kind: u8, len: u64, bytes: &[u8]) -> io::Result<()> {
        self.replies.write_all(&[&[kind], &len.to_le_bytes()[..], bytes].concat())
    }

    /// What the parent answers; none at the end.
    pub(crate) fn answer(&mut self) -> io::Result<Option<u8>> {
        let mut answer = [0];
        Ok((self.replies.read(&mut answer)? == 1).then_some(answer[0]))
    }
}

/// What a side says next; none at the end.
pub(crate) fn hear(mut stream: &TcpStream) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut header = [0; 9];
    if stream.read(&mut header[..1])? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut header[1..])?;
    let [kind, len @ ..] = header;
    let mut bytes = vec![0; u64::from_le_bytes(len) as usize];
    stream.read_exact(&mut bytes)?;
    Ok(Some((kind, bytes)))
}
