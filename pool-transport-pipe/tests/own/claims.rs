//! T6 where there is no page for claim words.

use pool_core::transport::{Claim, Connector, Seq};
use pool_transport_pipe::{Pipe, PipeConnector};

use xtests::transport::tools::{guarded, half, send};

#[test]
fn a_link_that_cannot_revoke_says_so_and_its_channel_always_claims() {
    guarded("not revocable", || {
        let (link, _events, mut ticket) = half(&Pipe::new());
        if link.caps().revocable.is_some() {
            // As on a system without a page: the ticket has two handles and no slots.
            ticket.handles.truncate(2);
            ticket.bytes.truncate(5);
            ticket.bytes.extend([0; 4]);
        } else {
            send(&*link, Some(0), b"call", b"");
            assert_eq!((link.revoke(Seq(0)), link.claim_state(Seq(0))), (Claim::Unknown, Claim::Unknown));
        }
        let mut channel = PipeConnector.connect(ticket).unwrap();
        assert!(channel.claim(Seq(0)) && channel.claim(Seq(1)));
    });
}
