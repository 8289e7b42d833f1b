//! What a ticket of this transport says. It carries no handles: a worker that got it by whatever way can connect.

use std::io;

use pool_core::transport::Ticket;

use crate::wire::Secret;

/// The transport's name, in tickets and in context names such as `exec+ipc`.
pub(crate) const NAME: &str = "ipc";
const VERSION: u8 = 1;
/// Version, frame limit, secret.
const FIXED: usize = 1 + 4 + size_of::<Secret>();

/// Where the worker finds its parent, and how it proves to be the one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) frame_max: usize,
    pub(crate) secret: Secret,
    /// That of the one-shot server: on most Unix systems the path of a socket.
    pub(crate) name: String,
}

impl Address {
    pub(crate) fn to_ticket(&self) -> Ticket {
        let mut bytes = vec![VERSION];
        bytes.extend((self.frame_max as u32).to_le_bytes());
        bytes.extend(self.secret);
        bytes.extend(self.name.as_bytes());
        Ticket { transport: NAME.to_owned(), bytes, handles: Vec::new() }
    }

    pub(crate) fn from_ticket(ticket: &Ticket) -> io::Result<Self> {
        if ticket.transport != NAME {
            return Err(invalid(format!("a ticket of transport {:?}, not {NAME:?}", ticket.transport)));
        }
        if !ticket.handles.is_empty() {
            return Err(invalid(format!("a ticket with {} handles", ticket.handles.len())));
        }
        let Some((fixed, name)) = ticket.bytes.split_first_chunk::<FIXED>() else {
            return Err(invalid("a ticket that is too short".to_owned()));
        };
        let [version, a, b, c, d, secret @ ..] = *fixed;
        if version != VERSION {
            return Err(invalid(format!("a ticket of version {version}, not {VERSION}")));
        }
        // ipc-channel panics on a name with a zero byte.
        let name = str::from_utf8(name).ok().filter(|name| !name.is_empty() && !name.contains('\0'));
        let name = name.ok_or_else(|| invalid("a ticket without a name".to_owned()))?.to_owned();
        Ok(Self { frame_max: u32::from_le_bytes([a, b, c, d]) as usize, secret, name })
    }
}

pub(crate) fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_and_others_are_refused() {
        let address = Address { frame_max: 77, secret: [3; 16], name: "/tmp/x/socket".to_owned() };
        assert_eq!(Address::from_ticket(&address.to_ticket()).unwrap(), address);
        let spoil: [fn(&mut Ticket); 5] = [
            |ticket| ticket.transport = "pipe".to_owned(),
            |ticket| ticket.bytes[0] = 99,
            |ticket| ticket.bytes.truncate(FIXED),
            |ticket| ticket.bytes.truncate(3),
            |ticket| ticket.bytes.push(0),
        ];
        for spoil in spoil {
            let mut ticket = address.to_ticket();
            spoil(&mut ticket);
            assert_eq!(Address::from_ticket(&ticket).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
