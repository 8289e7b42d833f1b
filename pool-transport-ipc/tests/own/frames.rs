//! T1, T2, T4, T6, T8: frames arrive whole and in order, sending never waits, and what a link cannot do it says.

use std::io::ErrorKind;
use std::thread;

use pool_core::transport::{Claim, Closed, Driven, Outgoing, Payload, Seq, Until};
use pool_transport_ipc::Ipc;

use crate::support::{Random, check, guarded, pair, send};

const FRAMES: u64 = 10_000;

#[test]
fn frames_of_all_sizes_arrive_in_order_both_ways_at_once() {
    guarded("both ways", || {
        let (link, events, mut channel) = pair(&Ipc::new());
        let worker = thread::spawn(move || {
            let (mut random, mut frame) = (Random::new(1), Vec::new());
            for place in 0..FRAMES {
                // The parent never waits for us, so we may send first: neither can block the other.
                let reply = random.frame(place, 200_000);
                let (head, body) = reply.split_at(random.below(17) as usize);
                channel.send(head, body).unwrap();
                assert!(channel.recv(&mut frame).unwrap());
                check(&frame, place);
            }
            channel.send(&random.frame(FRAMES, 10), &[]).unwrap();
            assert!(!channel.recv(&mut frame).unwrap(), "the parent has closed");
        });
        let mut random = Random::new(2);
        for place in 0..FRAMES {
            let frame = random.frame(place, 200_000);
            let (head, body) = frame.split_at(random.below(17) as usize);
            send(&*link, Some(place), head, body);
            if random.below(3) > 0 {
                link.flush();
            }
        }
        link.flush();
        for place in 0..=FRAMES {
            check(&events.next_frame(), place);
        }
        link.close();
        worker.join().unwrap();
        assert_eq!(events.next_closed(), Closed::Ours);
    });
}

#[test]
fn huge_frames_pass_both_ways() {
    guarded("huge", || {
        let (link, events, mut channel) = pair(&Ipc::new());
        let huge: Vec<u8> = (0..64 << 20).map(|i: u32| (i ^ (i >> 9)) as u8).collect();
        let worker = thread::spawn(move || {
            let mut frame = Vec::new();
            assert!(channel.recv(&mut frame).unwrap());
            channel.send(b"back", &frame).unwrap();
            assert!(channel.recv(&mut frame).unwrap());
            assert_eq!(frame, b"small");
            assert!(frame.capacity() <= 1 << 20, "the memory of a huge frame is given back: {}", frame.capacity());
        });
        link.send(Outgoing { seq: None, head: b"to", body: &Payload::from(huge.clone()) });
        link.flush();
        let back = events.next_frame();
        assert!(back.starts_with(b"backto") && back[6..] == huge);
        send(&*link, None, b"small", b"");
        link.flush();
        worker.join().unwrap();
        assert_eq!(events.next_closed(), Closed::Eof);
    });
}

#[test]
fn sending_does_not_wait_for_a_worker_that_does_not_read() {
    guarded("nobody reads", || {
        let (link, events, mut channel) = pair(&Ipc::new());
        let mut random = Random::new(3);
        let mut expected = Vec::new();
        // All of this before the other end makes its first read.
        for place in 0..FRAMES {
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
            assert!(channel.recv(&mut frame).unwrap());
            assert!(frame == *expected);
        }
        assert!(channel.recv(&mut frame).unwrap());
        assert!(frame[0] == b'x' && frame[1..] == *large.as_slice());
        drop(channel);
        assert_eq!(events.next_closed(), Closed::Eof);
        // On a closed link these do nothing.
        send(&*link, None, b"late", b"");
        link.flush();
    });
}

#[test]
fn frames_sent_by_several_threads_stay_whole() {
    guarded("several threads", || {
        let (link, _events, mut channel) = pair(&Ipc::new());
        thread::scope(|scope| {
            for thread in 0..4_u8 {
                let link = &link;
                scope.spawn(move || {
                    for n in 0..2_000_u32 {
                        let body = vec![thread; (n as usize * 37) % 30_000];
                        send(&**link, None, &n.to_le_bytes(), &body);
                        link.flush();
                    }
                });
            }
            let (mut frame, mut next) = (Vec::new(), [0_u32; 4]);
            let mut seen = 0;
            while seen < 8_000 {
                assert!(channel.recv(&mut frame).unwrap());
                let n = u32::from_le_bytes(frame[..4].try_into().unwrap());
                assert!(frame[4..].iter().all(|&byte| byte == *frame.last().unwrap()));
                if let Some(&thread) = frame.get(4) {
                    assert!(n >= next[usize::from(thread)], "out of order");
                    next[usize::from(thread)] = n + 1;
                }
                seen += 1;
            }
        });
    });
}

#[test]
fn what_the_worker_sent_before_its_death_arrives_before_the_end() {
    guarded("death", || {
        for seed in 0..200 {
            let (link, events, mut channel) = pair(&Ipc::new());
            let mut random = Random::new(seed);
            let count = random.below(50);
            let worker = thread::spawn(move || {
                for place in 0..count {
                    channel.send(&random.frame(place, 100_000), &[]).unwrap();
                }
            });
            // A write that fails must not hide what is still to be read.
            while !worker.is_finished() {
                send(&*link, None, &[0; 20_000], &[]);
                link.flush();
            }
            worker.join().unwrap();
            for place in 0..count {
                check(&events.next_frame(), place);
            }
            assert_eq!(events.next_closed(), Closed::Eof);
        }
    });
}

#[test]
fn huge_frames_pass_both_ways_at_once() {
    guarded("huge at once", || {
        let (link, events, mut channel) = pair(&Ipc::new());
        let huge: Vec<u8> = (0..64 << 20).map(|i: u32| (i ^ (i >> 9)) as u8).collect();
        let ours = Payload::from(huge.clone());
        let worker = thread::spawn(move || {
            // Neither side reads before it has sent; both find that there is no room soon.
            channel.send(b"here", &huge).unwrap();
            let mut frame = Vec::new();
            assert!(channel.recv(&mut frame).unwrap());
            assert!(frame == huge);
            assert!(frame.capacity() < 2 * huge.len());
        });
        link.send(Outgoing { seq: None, head: b"", body: &ours });
        link.flush();
        let theirs = events.next_frame();
        assert!(theirs.starts_with(b"here") && theirs[4..] == *ours.as_slice());
        worker.join().unwrap();
        assert_eq!(events.next_closed(), Closed::Eof);
    });
}

#[test]
fn frames_that_no_one_reads_at_first_wait_at_the_worker() {
    guarded("worker waits", || {
        // More than the credit, from a worker that has not read the parent's frames: it reads them while it waits,
        // and has them afterwards, in order.
        const COUNT: u64 = 3000;
        let (link, events, mut channel) = pair(&Ipc::new());
        for place in 0..COUNT {
            send(&*link, None, &Random::new(place).frame(place, 500), &[]);
            link.flush();
        }
        for place in 0..COUNT {
            channel.send(&Random::new(place).frame(place, 500), &[]).unwrap();
        }
        let mut frame = Vec::new();
        for place in 0..COUNT {
            assert!(channel.recv(&mut frame).unwrap());
            check(&frame, place);
            check(&events.next_frame(), place);
        }
    });
}

#[test]
fn a_link_that_cannot_revoke_or_be_driven_says_so() {
    guarded("cannot", || {
        let (link, _events, mut channel) = pair(&Ipc::new());
        assert_eq!(link.caps().revocable, None);
        send(&*link, Some(0), b"call", b"");
        assert_eq!((link.revoke(Seq(0)), link.claim_state(Seq(0))), (Claim::Unknown, Claim::Unknown));
        assert!(channel.claim(Seq(0)) && channel.claim(Seq(1)));
        assert_eq!(link.drive(&Until { done: &|| true, deadline: None }), Driven::Unsupported);
        link.interrupt();
    });
}

#[test]
fn neither_side_sends_more_than_the_limit() {
    guarded("limit", || {
        let (link, events, mut channel) = pair(&Ipc::new().frame_max(1000));
        assert_eq!(link.caps().frame_max, 1000);
        let refused = channel.send(&[0; 1], &[0; 1000]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        channel.send(&[7; 1], &[7; 999]).unwrap();
        assert_eq!(events.next_frame(), [7; 1000]);
        send(&*link, None, &[1; 1], &[1; 999]);
        link.flush();
        let mut frame = Vec::new();
        assert!(channel.recv(&mut frame).unwrap());
        send(&*link, None, &[1; 2], &[1; 999]);
        assert!(matches!(events.next_closed(), Closed::Malformed(_)));
        assert!(!channel.recv(&mut frame).unwrap());
    });
}
