//! T3 and T7: the end comes once, after all that had arrived, whoever wants it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, Weak};
use std::thread;

use pool_core::transport::{Closed, Link};
use pool_transport_ipc::Ipc;

use crate::support::{Event, Random, check, guarded, pair, send};

#[test]
fn close_delivers_what_has_arrived_though_the_workers_end_stays_open() {
    guarded("close", || {
        let (link, events, mut channel) = pair(&Ipc::new());
        let mut random = Random::new(5);
        // Fewer than the credit allows, or the worker would wait.
        for place in 0..10 {
            channel.send(&random.frame(place, 100), &[]).unwrap();
        }
        link.close();
        for place in 0..10 {
            check(&events.next_frame(), place);
        }
        assert_eq!(events.next_closed(), Closed::Ours);
        link.close();
        let mut frame = Vec::new();
        assert!(!channel.recv(&mut frame).unwrap(), "the worker sees the end");
        assert!(channel.send(b"late", b"").is_err(), "and nobody reads from it any more");
        drop(link);
        assert!(events.lock().is_empty(), "{:?}", events.lock());
    });
}

#[test]
fn close_does_not_wait_for_a_worker_that_never_stops_sending() {
    guarded("flood", || {
        let (link, events, mut channel) = pair(&Ipc::new());
        let worker = thread::spawn(move || while channel.send(&[3; 3000], &[]).is_ok() {});
        for _ in 0..100 {
            events.next_frame();
        }
        link.close();
        worker.join().unwrap();
        while let Event::Frame(frame) = events.next() {
            assert_eq!(frame, [3; 3000]);
        }
    });
}

#[test]
fn frames_that_were_not_written_are_dropped_by_close() {
    guarded("unwritten", || {
        let (link, events, mut channel) = pair(&Ipc::new());
        for _ in 0..100 {
            send(&*link, None, &[1; 100_000], &[]);
            link.flush();
        }
        link.close();
        assert_eq!(events.next_closed(), Closed::Ours);
        let (mut frame, mut received) = (Vec::new(), 0);
        let end = loop {
            match channel.recv(&mut frame) {
                Ok(true) => received += 1,
                end => break end,
            }
        };
        // It may have ended in the middle of a frame.
        assert!(received < 100 && end.is_ok() | end.is_err_and(|e| e.kind() == std::io::ErrorKind::UnexpectedEof));
    });
}

#[test]
fn a_callback_may_close_its_link() {
    guarded("close in callback", || {
        for _ in 0..100 {
            let (link, events, mut channel) = pair(&Ipc::new());
            let weak: Weak<dyn Link> = Arc::downgrade(&link);
            events.on_event(move |_| {
                if let Some(link) = weak.upgrade() {
                    link.close();
                    send(&*link, None, b"late", b"");
                    link.flush();
                    link.interrupt();
                }
            });
            channel.send(b"one", b"").unwrap();
            assert_eq!(events.next_frame(), b"one");
            assert_eq!(events.next_closed(), Closed::Ours);
        }
    });
}

#[test]
fn a_callback_may_drop_its_link_and_hears_no_more() {
    guarded("drop in callback", || {
        for round in 0..100 {
            let (link, events, mut channel) = pair(&Ipc::new());
            let slot = Mutex::new(Some(link));
            let dropped = Arc::new(AtomicBool::new(false));
            let flag = Arc::clone(&dropped);
            let go = Arc::new(Barrier::new(2));
            let gone = Arc::clone(&go);
            events.on_event(move |_| {
                assert!(!flag.load(Ordering::SeqCst), "an event after the link was dropped");
                drop(slot.lock().unwrap().take());
                flag.store(true, Ordering::SeqCst);
                gone.wait();
            });
            // Both frames may be in the buffer already when the link is dropped.
            channel.send(b"one", b"").unwrap();
            let more = channel.send(b"two", &[round; 1000]);
            go.wait();
            assert_eq!(events.next_frame(), b"one");
            let mut frame = Vec::new();
            assert!(!channel.recv(&mut frame).unwrap(), "{more:?}");
            // Bounded by the kernel: our read end is gone as soon as nobody reads any more.
            while channel.send(b"more", b"").is_ok() {
                thread::yield_now();
            }
            assert!(events.lock().is_empty());
            assert!(dropped.load(Ordering::SeqCst));
        }
    });
}

#[test]
fn the_end_comes_once_whoever_is_first() {
    guarded("races", || {
        let ipc = Ipc::new();
        for seed in 0..1000 {
            let (link, events, mut channel) = pair(&ipc);
            let mut random = Random::new(seed);
            let (frames, spins) = (random.below(4), [random.below(3000), random.below(3000), random.below(3000)]);
            let start = Barrier::new(3);
            let wait = |spins: u64| {
                start.wait();
                for _ in 0..spins {
                    std::hint::spin_loop();
                }
            };
            thread::scope(|scope| {
                scope.spawn(|| {
                    wait(spins[0]);
                    link.close();
                });
                scope.spawn(|| {
                    wait(spins[1]);
                    link.close();
                    link.flush();
                });
                for place in 0..frames {
                    channel.send(&random.frame(place, 10), &[]).unwrap();
                }
                wait(spins[2]);
                drop(channel);
            });
            for place in 0..frames {
                check(&events.next_frame(), place);
            }
            let why = events.next_closed();
            assert!(matches!(why, Closed::Eof | Closed::Ours), "{why:?}");
            drop(link);
            assert!(events.lock().is_empty(), "seed {seed}: {:?}", events.lock());
        }
    });
}

#[test]
fn a_run_of_frames_is_followed_by_drained() {
    guarded("drained", || {
        let (link, events, mut channel) = pair(&Ipc::new());
        for _ in 0..1000 {
            channel.send(b"frame", b"").unwrap();
        }
        drop(channel);
        let mut log = Vec::new();
        while !matches!(log.last(), Some(Event::Closed(_))) {
            log.extend(events.lock().drain(..));
            thread::yield_now();
        }
        drop(link);
        let frames = log.iter().filter(|event| matches!(event, Event::Frame(_))).count();
        assert_eq!(frames, 1000);
        assert_eq!(log[log.len() - 2..], [Event::Drained, Event::Closed(Closed::Eof)]);
    });
}
