//! T14: a worker that is at a call can see that it is to stop.

use std::thread;

use pool_core::transport::{Channel, Link, Seq, StopRequests};

use super::bench::Bench;
use super::tools::{Pair, Random, send};
use crate::processes::eventually_within;
use crate::trial::skip;

/// Sends a call, which the worker claims.
fn begin(link: &dyn Link, channel: &mut dyn Channel, seq: u64) {
    send(link, Some(seq), b"call", b"");
    link.flush();
    assert!(channel.recv(&mut Vec::new()).expect("received"));
    assert!(channel.claim(Seq(seq)));
}

fn pair_that_asks(bench: &Bench<'_>) -> Pair {
    let pair = bench.pair();
    if !pair.0.caps().asks {
        skip("this link cannot ask for anything");
    }
    pair
}

fn wait_for(bench: &Bench<'_>, requests: &dyn StopRequests, seq: u64) {
    eventually_within(bench.patience(), "the worker sees it", || requests.is_asked(Seq(seq)));
}

pub(super) fn a_link_that_cannot_ask_says_so(bench: &Bench<'_>) {
    let (link, _events, mut channel) = bench.pair();
    if link.caps().asks {
        skip("this link can ask for the end of a call");
    }
    let requests = channel.stop_requests();
    begin(&*link, &mut *channel, 0);
    assert!(!link.ask_to_stop(Seq(0)));
    assert!(!requests.is_asked(Seq(0)));
}

pub(super) fn the_call_that_is_asked_to_stop_can_see_it_and_no_other(bench: &Bench<'_>) {
    let (link, _events, mut channel) = pair_that_asks(bench);
    let requests = channel.stop_requests();
    for seq in 0..30 {
        begin(&*link, &mut *channel, seq);
        assert!(!requests.is_asked(Seq(seq)), "{seq}: another was");
        if seq % 3 != 0 {
            assert!(link.ask_to_stop(Seq(seq)));
            thread::scope(|scope| drop(scope.spawn(|| wait_for(bench, &*requests, seq))));
            assert!(requests.is_asked(Seq(seq)) && link.ask_to_stop(Seq(seq)), "it may be said again");
        }
        channel.send(b"answer", &seq.to_le_bytes()).expect("sent");
    }
}

/// Calls wait behind the one that is to stop, large ones too.
pub(super) fn what_arrives_while_the_worker_looks_is_received_in_order(bench: &Bench<'_>) {
    let (link, _events, mut channel) = pair_that_asks(bench);
    let requests = channel.stop_requests();
    begin(&*link, &mut *channel, 0);
    let mut random = Random::new(14);
    let frames: Vec<_> = (0..bench.many(200)).map(|place| random.frame(place, 300_000)).collect();
    let (some, others) = frames.split_at(frames.len() / 2);
    for frame in some {
        send(&*link, None, frame, b"");
        link.flush();
        assert!(!requests.is_asked(Seq(0)));
    }
    assert!(link.ask_to_stop(Seq(0)));
    for frame in others {
        send(&*link, None, frame, b"");
    }
    link.flush();
    wait_for(bench, &*requests, 0);
    channel.send(b"answer", b"").expect("sent");
    let mut found = Vec::new();
    for (place, frame) in frames.iter().enumerate() {
        assert!(channel.recv(&mut found).expect("received"));
        assert!(found == *frame, "frame {place}");
    }
}

pub(super) fn looking_does_not_wait_for_a_parent_that_is_gone(bench: &Bench<'_>) {
    let (link, events, mut channel) = pair_that_asks(bench);
    let requests = channel.stop_requests();
    begin(&*link, &mut *channel, 0);
    drop((link, events));
    requests.is_asked(Seq(0));
    drop(channel);
    requests.is_asked(Seq(0));
}
