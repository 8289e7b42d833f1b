//! T1, T2, T4, T5: frames arrive whole and in order, sending never waits, and what is too long ends the link.

use std::io::ErrorKind;
use std::thread;

use pool_core::transport::{Closed, Outgoing, Payload};

use super::bench::Bench;
use super::recorder::Event;
use super::tools::{Random, check, connect, send};

const FRAMES: u64 = 10_000;

pub(super) fn frames_of_all_sizes_arrive_in_order_both_ways_at_once(bench: &Bench<'_>) {
    let frames = bench.many(FRAMES);
    let (link, events, mut channel) = bench.pair();
    let worker = thread::spawn(move || {
        let (mut random, mut frame) = (Random::new(1), Vec::new());
        for place in 0..frames {
            // The parent never waits for us, so we may send first: neither can block the other.
            let reply = random.frame(place, 200_000);
            let (head, body) = reply.split_at(random.below(17) as usize);
            channel.send(head, body).expect("sent");
            assert!(channel.recv(&mut frame).expect("received"));
            check(&frame, place);
        }
        // Ends when everything was looked at.
        assert!(channel.recv(&mut frame).expect("received"));
    });
    let mut random = Random::new(2);
    for place in 0..frames {
        let frame = random.frame(place, 200_000);
        let (head, body) = frame.split_at(random.below(17) as usize);
        send(&*link, Some(place), head, body);
        if random.below(3) > 0 {
            link.flush();
        }
    }
    link.flush();
    for place in 0..frames {
        check(&events.next_frame(), place);
    }
    send(&*link, None, b"that is all", b"");
    link.flush();
    worker.join().expect("the worker got what was sent");
    let event = events.next();
    assert!(!matches!(event, Event::Frame(_)), "that nobody has sent: {event:?}");
}

pub(super) fn empty_frames_are_frames_too(bench: &Bench<'_>) {
    let (link, events, mut channel) = bench.pair();
    let mut frame = vec![1];
    for _ in 0..3 {
        send(&*link, None, b"", b"");
        link.flush();
        assert!(channel.recv(&mut frame).expect("received") && frame.is_empty());
        channel.send(b"", b"").expect("sent");
        assert_eq!(events.next_frame(), b"");
    }
}

pub(super) fn huge_frames_pass_both_ways(bench: &Bench<'_>) {
    let (link, events, mut channel) = bench.pair();
    let huge = bench.huge();
    let worker = thread::spawn(move || {
        let mut frame = Vec::new();
        assert!(channel.recv(&mut frame).expect("received"));
        channel.send(b"back", &frame).expect("sent");
        assert!(channel.recv(&mut frame).expect("received"));
        assert_eq!(frame, b"small");
        assert!(frame.capacity() <= 1 << 20, "the memory of a huge frame is given back: {}", frame.capacity());
    });
    link.send(Outgoing { seq: None, head: b"to", body: &Payload::from(huge.clone()) });
    link.flush();
    let back = events.next_frame();
    assert!(back.starts_with(b"backto") && back[6..] == huge);
    send(&*link, None, b"small", b"");
    link.flush();
    worker.join().expect("the worker got what was sent");
}

pub(super) fn huge_frames_pass_both_ways_at_once(bench: &Bench<'_>) {
    let (link, events, mut channel) = bench.pair();
    let huge = bench.huge();
    let ours = Payload::from(huge.clone());
    let worker = thread::spawn(move || {
        // Neither side reads before it has sent; both find that there is no room soon.
        channel.send(b"here", &huge).expect("sent");
        let mut frame = Vec::new();
        assert!(channel.recv(&mut frame).expect("received"));
        assert!(frame == huge);
        assert!(frame.capacity() < 2 * huge.len());
    });
    link.send(Outgoing { seq: None, head: b"", body: &ours });
    link.flush();
    let theirs = events.next_frame();
    assert!(theirs.starts_with(b"here") && theirs[4..] == *ours.as_slice());
    worker.join().expect("the worker got what was sent");
}

pub(super) fn frames_sent_by_several_threads_stay_whole(bench: &Bench<'_>) {
    let each = bench.many(2_000) as u32;
    let (link, _events, mut channel) = bench.pair();
    thread::scope(|scope| {
        for thread in 0..4_u8 {
            let link = &link;
            scope.spawn(move || {
                for n in 0..each {
                    let body = vec![thread; (n as usize * 37) % 30_000];
                    send(&**link, None, &n.to_le_bytes(), &body);
                    link.flush();
                }
            });
        }
        let (mut frame, mut next) = (Vec::new(), [0_u32; 4]);
        for _ in 0..4 * each {
            assert!(channel.recv(&mut frame).expect("received"));
            let n = u32::from_le_bytes(frame[..4].try_into().expect("four bytes"));
            assert_eq!(frame.len(), 4 + (n as usize * 37) % 30_000);
            assert!(frame[4..].iter().all(|byte| Some(byte) == frame.last()));
            if let Some(&thread) = frame.get(4) {
                assert!(n >= next[usize::from(thread)], "out of order");
                next[usize::from(thread)] = n + 1;
            }
        }
    });
}

pub(super) fn what_was_sent_before_the_worker_connects_arrives(bench: &Bench<'_>) {
    let transport = bench.transport();
    let (link, _events, ticket) = bench.half_of(&*transport);
    for place in 0..100 {
        send(&*link, None, &Random::new(place).frame(place, 100_000), &[]);
        link.flush();
    }
    let mut channel = connect(&*transport, ticket);
    let mut frame = Vec::new();
    for place in 0..100 {
        assert!(channel.recv(&mut frame).expect("received"));
        check(&frame, place);
    }
}

pub(super) fn what_the_worker_sent_before_its_end_arrives_before_the_links(bench: &Bench<'_>) {
    for seed in 0..bench.many(200) {
        let (link, events, mut channel) = bench.pair();
        let mut random = Random::new(seed);
        let count = 1 + random.below(50);
        let worker = thread::spawn(move || {
            for place in 0..count {
                channel.send(&random.frame(place, 100_000), &[]).expect("sent");
            }
        });
        // A write that fails must not hide what is still to be read.
        let mut sent = 0;
        while !worker.is_finished() {
            if sent < 200 {
                send(&*link, None, &[0; 20_000], &[]);
                sent += 1;
            }
            link.flush();
            thread::yield_now();
        }
        worker.join().expect("all was sent");
        for place in 0..count {
            check(&events.next_frame(), place);
        }
        assert_eq!(events.next_closed(), Closed::Eof);
    }
}

pub(super) fn sending_does_not_wait_for_a_worker_that_does_not_read(bench: &Bench<'_>) {
    let frames = bench.many(FRAMES).max(3_000);
    let (link, _events, mut channel) = bench.pair();
    let mut random = Random::new(3);
    let mut expected = Vec::new();
    // All of this before the other end makes its first read.
    for place in 0..frames {
        let mut frame = random.frame(place, 1);
        frame.resize(10_000, place as u8);
        send(&*link, None, &[], &frame);
        link.flush();
        expected.push(frame);
    }
    let large = Payload::from(vec![5; 300_000]);
    link.send(Outgoing { seq: None, head: b"x", body: &large });
    link.flush();
    let mut frame = Vec::new();
    for expected in &expected {
        assert!(channel.recv(&mut frame).expect("received"));
        assert!(frame == *expected);
    }
    assert!(channel.recv(&mut frame).expect("received"));
    assert!(frame[0] == b'x' && frame[1..] == *large.as_slice());
}

/// The worker may have to wait, and must not wait for ever: the parent always reads.
pub(super) fn two_that_do_not_read_at_first_do_not_hold_each_other_up(bench: &Bench<'_>) {
    let count = bench.many(3_000);
    let (link, events, mut channel) = bench.pair();
    for place in 0..count {
        send(&*link, None, &Random::new(place).frame(place, 500), &[]);
        link.flush();
    }
    for place in 0..count {
        channel.send(&Random::new(place).frame(place, 500), &[]).expect("sent");
    }
    let mut frame = Vec::new();
    for place in 0..count {
        assert!(channel.recv(&mut frame).expect("received"));
        check(&frame, place);
        check(&events.next_frame(), place);
    }
}

pub(super) fn on_a_closed_link_sending_does_nothing(bench: &Bench<'_>) {
    for closes in [true, false] {
        let (link, events, mut channel) = bench.pair();
        channel.send(b"hello, and that is all", b"").expect("sent");
        if closes {
            link.close();
        } else {
            drop(channel);
        }
        while let Event::Frame(_) = events.next() {}
        for seq in 0..3 {
            send(&*link, Some(seq), b"late", b"");
            link.flush();
        }
    }
}

pub(super) fn neither_side_sends_more_than_the_limit(bench: &Bench<'_>) {
    let transport = bench.limited(1000);
    assert_eq!(transport.frame_max(), 1000);
    let (link, events, mut channel) = bench.pair_of(&*transport);
    assert_eq!(link.caps().frame_max, 1000);
    let refused = channel.send(&[0; 1], &[0; 1000]).expect_err("one byte too many");
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    channel.send(&[7; 1], &[7; 999]).expect("still usable, and no byte too many");
    assert_eq!(events.next_frame(), [7; 1000]);
    send(&*link, None, &[1; 1], &[1; 999]);
    link.flush();
    let mut frame = Vec::new();
    assert!(channel.recv(&mut frame).expect("received") && frame == [1; 1000]);
    send(&*link, None, &[1; 2], &[1; 999]);
    link.flush();
    let Closed::Malformed(why) = events.next_closed() else { panic!("no reason") };
    assert!(!why.is_empty());
    assert!(!channel.recv(&mut frame).expect("the end"), "the worker sees it too");
}
