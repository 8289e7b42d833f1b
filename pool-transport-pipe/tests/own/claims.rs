//! T6: a call is started or taken back, never both and never neither.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use pool_core::transport::{Claim, Closed, Connector, Seq};
use pool_transport_pipe::{Pipe, PipeConnector};

use crate::support::{guarded, half, pair, send};

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

#[test]
fn parent_and_worker_agree_on_every_call() {
    guarded("agree", || {
        const CALLS: u64 = 20_000;
        let (link, events, mut channel) = pair(&Pipe::new());
        let Some(window) = link.caps().revocable else { return };
        let (received, mut revoked) = (AtomicU64::new(0), Vec::new());
        thread::scope(|scope| {
            let received = &received;
            let worker = scope.spawn(move || {
                let (mut frame, mut claimed) = (Vec::new(), Vec::new());
                while channel.recv(&mut frame).unwrap() {
                    let seq = u64::from_le_bytes(frame[..8].try_into().unwrap());
                    if channel.claim(Seq(seq)) {
                        claimed.push(seq);
                    }
                    received.store(seq + 1, Ordering::Release);
                }
                claimed
            });
            for seq in 0..CALLS {
                while received.load(Ordering::Acquire) + (window as u64) <= seq {
                    thread::yield_now();
                }
                send(&*link, Some(seq), &seq.to_le_bytes(), b"");
                if seq % 5 == 0 {
                    link.flush();
                }
                // Sometimes at once, sometimes one that is on its way already.
                let candidate = seq - (seq % 7).min(seq);
                if link.revoke(Seq(candidate)) == Claim::Revoked {
                    revoked.push(candidate);
                }
            }
            link.flush();
            while received.load(Ordering::Acquire) < CALLS {
                thread::yield_now();
            }
            link.close();
            let claimed = worker.join().unwrap();
            revoked.sort_unstable();
            revoked.dedup();
            let mut all = [claimed, revoked].concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..CALLS), "each call has exactly one fate");
        });
        assert_eq!(events.next_closed(), Closed::Ours);
    });
}

#[test]
fn claims_can_be_asked_for_after_the_worker_is_gone() {
    guarded("gone", || {
        let (link, events, mut channel) = pair(&Pipe::new());
        if link.caps().revocable.is_none() {
            return;
        }
        for seq in 0..3 {
            send(&*link, Some(seq), b"call", b"");
        }
        link.flush();
        assert!(channel.claim(Seq(0)));
        drop(channel);
        assert_eq!(events.next_closed(), Closed::Eof);
        assert_eq!(link.revoke(Seq(0)), Claim::Started);
        assert_eq!(link.claim_state(Seq(1)), Claim::Queued);
        assert_eq!(link.revoke(Seq(1)), Claim::Revoked);
        assert_eq!(link.claim_state(Seq(1)), Claim::Revoked);
        link.close();
        assert_eq!(link.revoke(Seq(2)), Claim::Revoked);
    });
}
