//! T1, T2, T4, T5: frames arrive whole and in order, sending never waits, and what is no frame ends the link.

use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::sync::Arc;
use std::thread;

use pool_core::transport::{Closed, Connector, Link, Outgoing, Payload, Ticket, Transport};
use pool_transport_pipe::{Pipe, PipeConnector};

use crate::support::{Event, Random, Recorder, check, guarded, half, pair, send};

const FRAMES: u64 = 10_000;

#[test]
fn frames_of_all_sizes_arrive_in_order_both_ways_at_once() {
    guarded("both ways", || {
        let (link, events, mut channel) = pair(&Pipe::new());
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
        let (link, events, mut channel) = pair(&Pipe::new());
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
        let (link, events, mut channel) = pair(&Pipe::new());
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
        let (link, _events, mut channel) = pair(&Pipe::new());
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
            let (link, events, mut channel) = pair(&Pipe::new());
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

/// The raw ends of a worker, to send what no `Channel` would.
fn raw(pipe: &Pipe) -> (Arc<dyn Link>, Arc<Recorder>, PipeReader, PipeWriter) {
    let (link, events, ticket) = half(pipe);
    let mut handles = ticket.handles.into_iter();
    let (read, write) = (handles.next().unwrap(), handles.next().unwrap());
    (link, events, PipeReader::from(read), PipeWriter::from(write))
}

#[test]
fn an_end_in_the_middle_of_a_frame_is_told_apart() {
    guarded("truncated", || {
        let whole = [&3_u32.to_le_bytes()[..], b"abc"].concat();
        for rest in [&[1_u8, 2][..], &9_u32.to_le_bytes(), &[9, 0, 0, 0, 1], &[0, 0, 16, 0, 1, 2, 3]] {
            let (_link, events, _read, mut write) = raw(&Pipe::new());
            write.write_all(&[&whole, rest].concat()).unwrap();
            drop(write);
            assert_eq!(events.next_frame(), b"abc");
            assert_eq!(events.next_closed(), Closed::Truncated, "{rest:?}");
        }
    });
}

#[test]
fn a_frame_beyond_the_limit_ends_the_link_and_nothing_after_it_is_read() {
    guarded("too long", || {
        let pipe = Pipe::new().frame_max(1000);
        for length in [1001, u32::MAX, 0x2074_6547] {
            let (link, events, mut read, mut write) = raw(&pipe);
            write.write_all(&[&2_u32.to_le_bytes()[..], b"ok", &u32::to_le_bytes(length)].concat()).unwrap();
            assert_eq!(events.next_frame(), b"ok");
            let Closed::Malformed(why) = events.next_closed() else { panic!("not malformed") };
            assert!(why.contains(&length.to_string()) && why.contains("1000"), "{why}");
            assert_eq!(read.read(&mut [0]).unwrap(), 0, "the worker sees the end too");
            link.close();
            drop(link);
            assert!(events.lock().is_empty());
        }
    });
}

#[test]
fn a_length_is_not_believed_before_the_bytes_arrive() {
    guarded("liar", || {
        let (link, events, _read, mut write) = raw(&Pipe::new());
        write.write_all(&(1_u32 << 30).to_le_bytes()).unwrap();
        write.write_all(&[1; 5000]).unwrap();
        // Nothing to see from here but that it ends like any other; the decoder's own test counts the memory.
        drop(write);
        assert_eq!(events.next_closed(), Closed::Truncated);
        drop(link);
    });
}

#[test]
fn neither_side_sends_more_than_the_limit() {
    guarded("limit", || {
        let pipe = Pipe::new().frame_max(1000);
        let (link, events, mut channel) = pair(&pipe);
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

#[test]
fn a_worker_refuses_what_is_no_frame() {
    guarded("garbage to the worker", || {
        let (pipe, mut frame) = (Pipe::new().frame_max(1000), Vec::new());
        for (bytes, kind) in [
            (&b"GET / HTTP/1.1"[..], ErrorKind::InvalidData),
            (&[4, 0, 0, 0, 1], ErrorKind::UnexpectedEof),
            (&[4, 0], ErrorKind::UnexpectedEof),
        ] {
            let (_link, _events, mut ticket) = half(&pipe);
            let (read, mut write) = std::io::pipe().unwrap();
            ticket.handles[0] = read.into();
            let mut channel = PipeConnector.connect(ticket).unwrap();
            write.write_all(bytes).unwrap();
            drop(write);
            assert_eq!(channel.recv(&mut frame).unwrap_err().kind(), kind, "{bytes:?}");
        }
    });
}

#[test]
fn a_ticket_that_is_not_ours_is_refused() {
    guarded("ticket", || {
        let pipe = Pipe::new();
        let spoil: [fn(&mut Ticket); 5] = [
            |ticket| ticket.transport = "ipc".to_owned(),
            |ticket| ticket.bytes[0] = 99,
            |ticket| ticket.bytes.truncate(3),
            |ticket| ticket.handles.truncate(1),
            |ticket| ticket.bytes[5] ^= 1,
        ];
        for spoil in spoil {
            let (_link, events, mut ticket) = half(&pipe);
            spoil(&mut ticket);
            let refused = PipeConnector.connect(ticket).map(|_| ()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidData);
            assert_eq!(events.next(), Event::Closed(Closed::Eof), "the handles are closed");
        }
        assert_eq!((pipe.name(), PipeConnector.name()), ("pipe", "pipe"));
    });
}
