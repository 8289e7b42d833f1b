//! T6: a call is started or taken back, never both and never neither.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use pool_core::transport::{Claim, Seq};

use super::bench::Bench;
use super::tools::send;
use crate::trial::skip;

pub(super) fn a_link_that_cannot_revoke_says_so_and_its_channel_always_claims(bench: &Bench<'_>) {
    let (link, _events, mut channel) = bench.pair();
    if link.caps().revocable.is_some() {
        skip("this link can revoke");
    }
    send(&*link, Some(0), b"call", b"");
    assert_eq!((link.revoke(Seq(0)), link.claim_state(Seq(0))), (Claim::Unknown, Claim::Unknown));
    assert!(channel.claim(Seq(0)) && channel.claim(Seq(1)));
}

pub(super) fn parent_and_worker_agree_on_every_call(bench: &Bench<'_>) {
    let window = bench.window();
    let calls = bench.many(20_000);
    let deadline = Instant::now() + bench.patience();
    let (link, _events, mut channel) = bench.pair();
    let (received, mut revoked) = (AtomicU64::new(0), Vec::new());
    thread::scope(|scope| {
        let received = &received;
        let worker = scope.spawn(move || {
            let (mut frame, mut claimed) = (Vec::new(), Vec::new());
            while received.load(Ordering::Relaxed) < calls {
                assert!(channel.recv(&mut frame).expect("received"));
                let seq = u64::from_le_bytes(frame[..8].try_into().expect("eight bytes"));
                if channel.claim(Seq(seq)) {
                    claimed.push(seq);
                }
                received.store(seq + 1, Ordering::Release);
            }
            claimed
        });
        for seq in 0..calls {
            while received.load(Ordering::Acquire) + window <= seq {
                link.flush();
                assert!(Instant::now() < deadline, "the worker gets nothing");
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
        let claimed = worker.join().expect("the worker got every call");
        revoked.sort_unstable();
        revoked.dedup();
        assert!(!revoked.is_empty() && !claimed.is_empty(), "both sides win sometimes");
        let mut all = [claimed, revoked].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..calls), "each call has exactly one fate");
    });
}

pub(super) fn a_claimed_call_is_started_and_a_revoked_one_is_not_claimed(bench: &Bench<'_>) {
    let window = bench.window().min(16);
    let (link, _events, mut channel) = bench.pair();
    let mut frame = Vec::new();
    for seq in 0..window {
        send(&*link, Some(seq), b"call", b"");
        link.flush();
        assert!(channel.recv(&mut frame).expect("received"));
        assert_eq!(link.claim_state(Seq(seq)), Claim::Queued, "looking changes nothing");
        let (first, last) = if seq % 2 == 0 { (Claim::Started, true) } else { (Claim::Revoked, false) };
        if seq % 2 == 1 {
            assert_eq!(link.revoke(Seq(seq)), first);
        }
        assert_eq!(channel.claim(Seq(seq)), last);
        // Final, however often anybody asks.
        for _ in 0..2 {
            assert_eq!((link.revoke(Seq(seq)), link.claim_state(Seq(seq))), (first, first));
        }
    }
}

pub(super) fn claims_can_be_asked_for_after_the_worker_is_gone(bench: &Bench<'_>) {
    bench.window();
    let (link, events, mut channel) = bench.pair();
    for seq in 0..3 {
        send(&*link, Some(seq), b"call", b"");
    }
    link.flush();
    assert!(channel.recv(&mut Vec::new()).expect("received"));
    assert!(channel.claim(Seq(0)));
    drop(channel);
    let asks = |link: &dyn pool_core::transport::Link| {
        assert_eq!(link.revoke(Seq(0)), Claim::Started);
        assert_eq!(link.claim_state(Seq(1)), Claim::Queued);
    };
    asks(&*link);
    // Whether or not the link has noticed: this is not about when it does.
    link.close();
    asks(&*link);
    assert_eq!(link.revoke(Seq(1)), Claim::Revoked);
    assert_eq!(link.claim_state(Seq(1)), Claim::Revoked);
    assert_eq!(link.revoke(Seq(2)), Claim::Revoked);
    drop(events);
}

/// One call waits while many later ones are sent and taken back: numbers go far beyond what the link can decide.
pub(super) fn what_it_cannot_decide_it_does_not_decide(bench: &Bench<'_>) {
    let window = bench.window();
    let calls = 6 * window;
    let (link, _events, mut channel) = bench.pair();
    let (mut revoked, mut unsettled) = (BTreeSet::new(), 1);
    send(&*link, Some(0), &0_u64.to_le_bytes(), b"");
    let mut sent = 1;
    while sent < calls && unsettled < window {
        let seq = sent;
        send(&*link, Some(seq), &seq.to_le_bytes(), b"");
        match link.revoke(Seq(seq)) {
            Claim::Revoked => assert!(revoked.insert(seq)),
            Claim::Unknown if seq >= window => unsettled += 1,
            other => panic!("{seq}: {other:?}, and nobody has claimed it"),
        }
        sent += 1;
    }
    link.flush();
    let mut frame = Vec::new();
    for seq in 0..sent {
        assert!(channel.recv(&mut frame).expect("received"));
        assert_eq!(channel.claim(Seq(seq)), !revoked.contains(&seq), "{seq}");
    }
    println!("{sent} calls, {} taken back, {unsettled} left to the worker", revoked.len());
}
