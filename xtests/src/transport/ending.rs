//! T3, T7, T11, T12, T13: the end comes once, after all that had arrived, whoever wants it, and both sides know.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use pool_core::transport::{Closed, Link};

use super::bench::Bench;
use super::recorder::Event;
use super::tools::{Random, check, connect, send};

pub(super) fn the_end_comes_once_whoever_is_first(bench: &Bench<'_>) {
    let transport = bench.transport();
    for seed in 0..bench.many(1000) {
        let (link, events, mut channel) = bench.pair_of(&*transport);
        let mut random = Random::new(seed);
        let (frames, spins) = (random.below(4), [random.below(3000), random.below(3000), random.below(3000)]);
        let start = Barrier::new(3);
        let wait = |spins: u64| {
            start.wait();
            for _ in 0..spins {
                std::hint::spin_loop();
            }
        };
        // Sometimes nobody but the worker ends it.
        let closes = seed % 4 > 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                wait(spins[0]);
                if closes {
                    link.close();
                }
            });
            scope.spawn(|| {
                wait(spins[1]);
                if closes {
                    link.close();
                }
                link.flush();
            });
            for place in 0..frames {
                channel.send(&random.frame(place, 10), &[]).expect("sent");
            }
            wait(spins[2]);
            drop(channel);
        });
        for place in 0..frames {
            check(&events.next_frame(), place);
        }
        let why = events.next_closed();
        assert!(matches!(why, Closed::Eof | Closed::Ours), "{why:?}");
        link.close();
        drop(link);
        events.is_silent();
    }
}

pub(super) fn close_may_be_called_again_and_again(bench: &Bench<'_>) {
    let (link, events, _channel) = bench.pair();
    for _ in 0..3 {
        link.close();
    }
    assert_eq!(events.next_closed(), Closed::Ours);
    link.close();
    drop(link);
    events.is_silent();
}

pub(super) fn a_callback_that_drops_its_link_hears_no_more(bench: &Bench<'_>) {
    for round in 0..bench.many(100) {
        let (link, events, mut channel) = bench.pair();
        let slot = Mutex::new(Some(link));
        let dropped = Arc::new(AtomicBool::new(false));
        let late = Arc::new(AtomicBool::new(false));
        let (flag, after) = (Arc::clone(&dropped), Arc::clone(&late));
        let go = Arc::new(Barrier::new(2));
        let gone = Arc::clone(&go);
        events.on_event(move |_| {
            let taken = slot.lock().expect("nobody panics").take();
            let Some(link) = taken else {
                after.store(flag.load(Ordering::SeqCst), Ordering::SeqCst);
                return;
            };
            drop(link);
            flag.store(true, Ordering::SeqCst);
            gone.wait();
        });
        // Both frames may be in the buffer already when the link is dropped.
        channel.send(b"one", b"").expect("sent");
        // The link may be gone by now.
        let _ = channel.send(b"two", &vec![1; round as usize]);
        go.wait();
        assert_eq!(events.next_frame(), b"one");
        // Until the worker has noticed, and a little longer than the event took.
        let _ = channel.recv(&mut Vec::new());
        drop(channel);
        assert!(!late.load(Ordering::SeqCst), "an event after the link was dropped");
        events.is_silent();
    }
}

pub(super) fn a_dropped_link_whose_worker_never_comes_is_silent(bench: &Bench<'_>) {
    for _ in 0..10 {
        let (link, events, ticket) = bench.half();
        drop(link);
        drop(ticket);
        events.is_silent();
    }
}

pub(super) fn close_delivers_what_has_arrived_though_the_workers_end_stays_open(bench: &Bench<'_>) {
    let transport = bench.transport();
    let (link, events, ticket) = bench.half_of(&*transport);
    // Somebody else's, such as a process that the worker has started.
    let elsewhere: Vec<_> = ticket.handles.iter().map(|handle| handle.try_clone().expect("another")).collect();
    let mut channel = connect(&*transport, ticket);
    let mut random = Random::new(5);
    // Few enough for any transport to take them while nobody reads.
    for place in 0..10 {
        channel.send(&random.frame(place, 100), &[]).expect("sent");
    }
    link.close();
    for place in 0..10 {
        check(&events.next_frame(), place);
    }
    assert_eq!(events.next_closed(), Closed::Ours);
    drop(elsewhere);
}

pub(super) fn what_the_worker_sent_arrives_however_fast_the_close_was(bench: &Bench<'_>) {
    let transport = bench.transport();
    for _ in 0..bench.many(300) {
        let (link, events, ticket) = bench.half_of(&*transport);
        let mut channel = connect(&*transport, ticket);
        channel.send(b"hello", b"").expect("sent");
        link.close();
        assert_eq!(events.next_frame(), b"hello");
        assert_eq!(events.next_closed(), Closed::Ours);
    }
}

pub(super) fn close_does_not_wait_for_a_worker_that_never_stops_sending(bench: &Bench<'_>) {
    let (link, events, mut channel) = bench.pair();
    let worker = thread::spawn(move || while channel.send(&[3; 3000], &[]).is_ok() {});
    for _ in 0..100 {
        events.next_frame();
    }
    link.close();
    worker.join().expect("the worker gives up");
    while let Event::Frame(frame) = events.next() {
        assert_eq!(frame, [3; 3000]);
    }
}

pub(super) fn frames_that_were_not_written_are_dropped_by_close(bench: &Bench<'_>) {
    let (link, events, mut channel) = bench.pair();
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
    assert!(received < 100 && end.is_ok() | end.is_err_and(|e| e.kind() == ErrorKind::UnexpectedEof));
}

pub(super) fn a_link_whose_worker_never_comes_closes_all_the_same(bench: &Bench<'_>) {
    let transport = bench.transport();
    for _ in 0..bench.many(100) {
        let (link, events, ticket) = bench.half_of(&*transport);
        send(&*link, None, b"for nobody", &[]);
        link.flush();
        link.close();
        assert_eq!(events.next_closed(), Closed::Ours);
        // The worker comes too late. Where the ticket is but a name, it may be anybody's by now.
        if !ticket.handles.is_empty()
            && let Ok(mut channel) = transport.connector().connect(ticket)
        {
            while channel.recv(&mut Vec::new()).is_ok_and(|is_frame| is_frame) {}
        }
    }
}

pub(super) fn a_run_of_frames_is_followed_by_drained(bench: &Bench<'_>) {
    let (link, events, mut channel) = bench.pair();
    let frames = bench.many(1000) as usize;
    for _ in 0..frames {
        channel.send(b"frame", b"").expect("sent");
    }
    let deadline = Instant::now() + bench.patience();
    let count = |log: &[Event]| log.iter().filter(|event| matches!(event, Event::Frame(_))).count();
    let mut log: Vec<Event> = Vec::new();
    // Nothing more is at hand: this is told without anything else happening.
    while count(&log) < frames || log.last() != Some(&Event::Drained) {
        assert!(Instant::now() < deadline, "{} frames, then {:?}", count(&log), log.last());
        log.extend(events.lock().drain(..));
        thread::yield_now();
    }
    for _ in 0..frames {
        channel.send(b"frame", b"").expect("sent");
    }
    drop(channel);
    while !log.iter().any(|event| matches!(event, Event::Closed(_))) {
        assert!(Instant::now() < deadline, "no end");
        log.extend(events.lock().drain(..));
        thread::yield_now();
    }
    drop(link);
    let end = log.iter().position(|event| matches!(event, Event::Closed(_))).expect("it is there");
    assert_eq!(count(&log[..end]), 2 * frames);
    assert_eq!(log[end - 1], Event::Drained);
}

pub(super) fn events_come_one_at_a_time(bench: &Bench<'_>) {
    let (link, events, mut channel) = bench.pair();
    let inside = AtomicBool::new(false);
    let twice = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&twice);
    events.on_event(move |_| {
        if inside.swap(true, Ordering::SeqCst) {
            seen.store(true, Ordering::SeqCst);
        }
        thread::yield_now();
        inside.store(false, Ordering::SeqCst);
    });
    let frames = bench.many(2000);
    let worker = thread::spawn(move || {
        for n in 0..frames {
            channel.send(&n.to_le_bytes(), b"").expect("sent");
        }
        channel
    });
    for n in 0..frames {
        // What the parent does meanwhile must not bring events from a second thread.
        send(&*link, None, b"x", b"");
        link.flush();
        link.interrupt();
        assert_eq!(events.next_frame(), n.to_le_bytes());
    }
    let channel = worker.join().expect("all was sent");
    link.close();
    drop(channel);
    assert!(!twice.load(Ordering::SeqCst), "two events at once");
}

pub(super) fn a_callback_may_close_its_link(bench: &Bench<'_>) {
    for _ in 0..bench.many(100) {
        let (link, events, mut channel) = bench.pair();
        let weak: Weak<dyn Link> = Arc::downgrade(&link);
        events.on_event(move |_| {
            if let Some(link) = weak.upgrade() {
                link.close();
                send(&*link, None, b"late", b"");
                link.flush();
                link.interrupt();
            }
        });
        channel.send(b"one", b"").expect("sent");
        assert_eq!(events.next_frame(), b"one");
        assert_eq!(events.next_closed(), Closed::Ours);
    }
}

pub(super) fn the_worker_learns_of_the_end(bench: &Bench<'_>) {
    for ending in ["close", "drop", "drop in a callback"] {
        let transport = bench.transport();
        let (link, events, ticket) = bench.half_of(&*transport);
        // Somebody else's, such as a process that the worker has started.
        let elsewhere: Vec<_> = ticket.handles.iter().map(|handle| handle.try_clone().expect("another")).collect();
        let mut channel = connect(&*transport, ticket);
        for _ in 0..3 {
            send(&*link, None, b"before", b"");
        }
        link.flush();
        let mut frame = Vec::new();
        for _ in 0..3 {
            assert!(channel.recv(&mut frame).expect("received") && frame == b"before");
        }
        let (go, gone) = mpsc::channel();
        let waits = thread::spawn(move || {
            if ending == "drop in a callback" {
                gone.recv().expect("the case says when");
                channel.send(b"the last one", b"").expect("sent");
            }
            assert!(!channel.recv(&mut frame).expect("the end"));
            assert!(!channel.recv(&mut frame).expect("the end"), "and again");
            channel
        });
        match ending {
            "close" => link.close(),
            "drop" => drop(link),
            _ => {
                let slot = Mutex::new(Some(link));
                events.on_event(move |_| {
                    let link = slot.lock().expect("nobody panics").take();
                    drop(link);
                });
                go.send(()).expect("the worker waits");
            }
        }
        let mut channel = waits.join().expect("the worker sees the end");
        let deadline = Instant::now() + bench.patience();
        // What is on its way at that moment may still find room, but not for long.
        while channel.send(b"late", b"").is_ok() {
            assert!(Instant::now() < deadline, "it sends to nobody");
            thread::yield_now();
        }
        drop((channel, elsewhere));
    }
}

/// However much it sends: it would fill whatever room there is.
pub(super) fn a_sending_worker_learns_of_the_end(bench: &Bench<'_>) {
    let (link, events, mut channel) = bench.pair();
    let worker = thread::spawn(move || {
        let mut sent = 0_u64;
        while channel.send(&[5; 1000], &[]).is_ok() {
            sent += 1;
        }
        sent
    });
    events.next_frame();
    drop(link);
    assert!(worker.join().expect("it ends") > 0);
}

pub(super) fn one_name_and_no_other(bench: &Bench<'_>) {
    let transport = bench.transport();
    let (_link, _events, ticket) = bench.half_of(&*transport);
    assert_eq!((ticket.transport.as_str(), transport.connector().name()), (transport.name(), transport.name()));
    let named = pool_core::transport::Ticket { transport: format!("not {}", transport.name()), ..ticket };
    let start = Instant::now();
    assert!(transport.connector().connect(named).is_err(), "a ticket of another transport is refused");
    assert!(start.elapsed() < Duration::from_secs(5), "and at once");
}
