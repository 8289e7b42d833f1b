//! A ticket as bytes and handles, and back.
//!
//! The bytes are the transport's name, after its length in two bytes, and the ticket's own.

use pool_core::transport::Ticket;
use pool_os::Parcel;

/// # Errors
/// If the transport's name is too long to be one.
pub(crate) fn pack(ticket: Ticket) -> Result<Parcel, &'static str> {
    let name = ticket.transport.as_bytes();
    let len = u16::try_from(name.len()).map_err(|_| "the transport's name is too long")?;
    let bytes = [len.to_le_bytes().as_slice(), name, &ticket.bytes].concat();
    Ok(Parcel { bytes, handles: ticket.handles })
}

/// # Errors
/// What is wrong with the bytes.
pub(crate) fn unpack(parcel: Parcel) -> Result<Ticket, &'static str> {
    const SHORT: &str = "the ticket is cut short";
    let (len, rest) = parcel.bytes.split_first_chunk::<2>().ok_or(SHORT)?;
    let (name, bytes) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len))).ok_or(SHORT)?;
    let transport = std::str::from_utf8(name).map_err(|_| "the transport's name is not text")?.to_owned();
    Ok(Ticket { transport, bytes: bytes.to_vec(), handles: parcel.handles })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_survives_the_journey() {
        for (transport, bytes) in [("pipe", vec![1, 2, 3]), ("", vec![]), ("x", vec![0; 300])] {
            let ticket = Ticket { transport: transport.to_owned(), bytes: bytes.clone(), handles: vec![] };
            let back = unpack(pack(ticket).expect("packed")).expect("unpacked");
            assert_eq!((back.transport.as_str(), back.bytes), (transport, bytes));
        }
    }

    #[test]
    fn cut_off_tickets_are_refused() {
        for bytes in [vec![], vec![1], vec![1, 0], vec![9, 0, b'a'], vec![1, 0, 0xff]] {
            assert!(unpack(Parcel { bytes, handles: vec![] }).is_err());
        }
    }
}
