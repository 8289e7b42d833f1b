//! T8: a caller that waits does the link's work, and nothing gets lost when callers come and go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use pool_core::transport::{Channel, Driven, Link, Until};

use super::bench::Bench;
use super::recorder::Event;
use super::tools::{Pair, Random, check, send};
use crate::trial::skip;

fn drive(link: &dyn Link, done: &dyn Fn() -> bool) -> Driven {
    link.drive(&Until { done, deadline: None })
}

/// Asks for nothing, and does not stay.
fn look_in(link: &dyn Link) -> Driven {
    link.drive(&Until { done: &|| false, deadline: Some(Instant::now()) })
}

/// A link that can be driven; skips the case if there is none.
fn drivable(bench: &Bench<'_>) -> Pair {
    let pair = bench.pair();
    if !pair.0.caps().drivable {
        skip("this link cannot be driven");
    }
    pair
}

/// Sends back what it gets.
fn echo(mut channel: Box<dyn Channel>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut frame = Vec::new();
        while channel.recv(&mut frame).expect("received") {
            if channel.send(&frame, &[]).is_err() {
                return;
            }
        }
    })
}

pub(super) fn a_link_that_cannot_be_driven_says_so(bench: &Bench<'_>) {
    let (link, events, channel) = bench.pair();
    if link.caps().drivable {
        skip("this link can be driven");
    }
    assert_eq!(look_in(&*link), Driven::Unsupported);
    assert_eq!(drive(&*link, &|| false), Driven::Unsupported);
    link.interrupt();
    drop((events, channel));
}

pub(super) fn a_driver_gets_its_answer_itself(bench: &Bench<'_>) {
    let (link, events, channel) = drivable(bench);
    let by_me = Arc::new(AtomicU64::new(0));
    let (me, count) = (thread::current().id(), Arc::clone(&by_me));
    events.on_event(move |event| {
        if matches!(event, Event::Frame(_)) && thread::current().id() == me {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let worker = echo(channel);
    let mut random = Random::new(7);
    for place in 0..bench.many(2000) {
        let frame = random.frame(place, 100_000);
        send(&*link, Some(place), &frame, &[]);
        link.flush();
        assert_eq!(drive(&*link, &|| events.has_frame()), Driven::Done);
        check(&events.next_frame(), place);
    }
    // An answer that comes before we wait goes to the own thread, on a busy machine many do; not all.
    assert!(by_me.load(Ordering::Relaxed) > 0);
    link.close();
    worker.join().expect("the worker ends");
}

pub(super) fn a_drive_ends_when_done_at_its_deadline_or_with_the_link(bench: &Bench<'_>) {
    let (link, _events, channel) = drivable(bench);
    assert_eq!(drive(&*link, &|| true), Driven::Done);
    let start = Instant::now();
    for millis in [0, 1, 20] {
        let deadline = start + Duration::from_millis(millis);
        assert_eq!(link.drive(&Until { done: &|| false, deadline: Some(deadline) }), Driven::TimedOut);
        assert!(Instant::now() >= deadline);
        assert!(start.elapsed() < bench.patience(), "much too late");
    }
    drop(channel);
    assert_eq!(drive(&*link, &|| false), Driven::Busy);
    assert_eq!(drive(&*link, &|| false), Driven::Busy);
    assert_eq!(drive(&*link, &|| true), Driven::Done);
}

pub(super) fn a_second_driver_is_told_that_there_is_one(bench: &Bench<'_>) {
    let (link, _events, _channel) = drivable(bench);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let driver = scope.spawn(|| {
            loop {
                // The other one may be in just now.
                match drive(&*link, &|| stop.load(Ordering::SeqCst)) {
                    Driven::Busy => thread::yield_now(),
                    driven => return driven,
                }
            }
        });
        // The driver is in when a second one, who asks for nothing, is refused.
        while look_in(&*link) != Driven::Busy {
            thread::yield_now();
        }
        stop.store(true, Ordering::SeqCst);
        link.interrupt();
        assert_eq!(driver.join().expect("it returns"), Driven::Done);
    });
}

pub(super) fn a_driver_sees_what_others_did_for_it(bench: &Bench<'_>) {
    drivable(bench);
    for _ in 0..bench.many(300) {
        let (link, events, _channel) = bench.pair();
        thread::scope(|scope| {
            // The closing thread delivers; the driver has to notice.
            let driver = scope.spawn(|| drive(&*link, &|| events.has_closed()));
            link.close();
            let driven = driver.join().expect("it returns");
            assert!(matches!(driven, Driven::Done | Driven::Busy));
        });
    }
}

pub(super) fn nothing_is_lost_while_drivers_come_and_go(bench: &Bench<'_>) {
    let frames = bench.many(100_000);
    let (link, events, mut channel) = drivable(bench);
    let next = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&next);
    let entered = AtomicBool::new(false);
    events.on_event(move |event| {
        // One event at a time, whichever thread it is on.
        assert!(!entered.swap(true, Ordering::SeqCst));
        if let Event::Frame(frame) = event {
            check(frame, counter.fetch_add(1, Ordering::SeqCst));
        }
        assert!(entered.swap(false, Ordering::SeqCst));
    });
    let total = || next.load(Ordering::SeqCst);
    let deadline = Instant::now() + 2 * bench.patience();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut random = Random::new(8);
            for place in 0..frames {
                let size = if place % 500 == 0 { 100_000 } else { 50 };
                channel.send(&random.frame(place, size), &[]).expect("sent");
            }
            // Stays open until the other side closes.
            assert!(!channel.recv(&mut Vec::new()).expect("the end"));
        });
        let drivers: Vec<_> = (0..2_u64)
            .map(|driver| {
                let (link, total) = (&link, &total);
                scope.spawn(move || {
                    let mut random = Random::new(20 + driver);
                    while total() < frames {
                        assert!(Instant::now() < deadline, "{} of {frames} came", total());
                        let target = frames.min(total() + 1 + random.below(50));
                        let until = Until { done: &|| total() >= target, deadline: Some(deadline) };
                        match link.drive(&until) {
                            Driven::Done => {}
                            Driven::Busy => thread::yield_now(),
                            other => panic!("{other:?}"),
                        }
                    }
                })
            })
            .collect();
        drivers.into_iter().for_each(|driver| driver.join().expect("it got all"));
        link.close();
    });
    assert_eq!(total(), frames);
    let closed = events.lock().iter().filter(|event| matches!(event, Event::Closed(_))).count();
    assert_eq!(closed, 1);
}

pub(super) fn interrupt_brings_the_driver_back(bench: &Bench<'_>) {
    let rounds = bench.many(10_000);
    let (link, _events, _channel) = drivable(bench);
    let asked = AtomicU64::new(0);
    let (answer, answers) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let answer = answer;
            for round in 1..=rounds {
                assert_eq!(drive(&*link, &|| asked.load(Ordering::Relaxed) >= round), Driven::Done);
                answer.send(round).expect("the case waits");
            }
        });
        let mut random = Random::new(9);
        for round in 1..=rounds {
            // Often the driver is not in yet, or just on its way into the wait.
            for _ in 0..random.below(20_000) {
                std::hint::spin_loop();
            }
            asked.store(round, Ordering::Relaxed);
            link.interrupt();
            let answered = answers.recv_timeout(bench.patience());
            assert_eq!(answered, Ok(round), "the driver was not woken");
        }
    });
}

pub(super) fn interrupts_and_frames_do_not_get_in_each_others_way(bench: &Bench<'_>) {
    drivable(bench);
    let transport = bench.transport();
    let (link, events, channel) = bench.pair_of(&*transport);
    let (noise, noise_events, noise_channel) = bench.pair_of(&*transport);
    let (worker, noisy) = (echo(channel), echo(noise_channel));
    let stop = AtomicBool::new(false);
    let start = Barrier::new(3);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            while !stop.load(Ordering::Relaxed) {
                link.interrupt();
                thread::yield_now();
            }
        });
        scope.spawn(|| {
            start.wait();
            // Frames of another link of the same transport, which may share what serves them.
            let mut place = 0;
            while !stop.load(Ordering::Relaxed) {
                send(&*noise, None, &Random::new(place).frame(place, 100), &[]);
                noise.flush();
                check(&noise_events.next_frame(), place);
                place += 1;
            }
        });
        start.wait();
        let mut random = Random::new(10);
        for place in 0..bench.many(5_000) {
            send(&*link, Some(place), &random.frame(place, 1000), &[]);
            link.flush();
            assert_eq!(drive(&*link, &|| events.has_frame()), Driven::Done);
            check(&events.next_frame(), place);
        }
        stop.store(true, Ordering::Relaxed);
    });
    noise.close();
    link.close();
    worker.join().expect("the worker ends");
    noisy.join().expect("the other worker ends");
}

pub(super) fn a_driver_that_leaves_in_the_middle_of_much_leaves_it_to_the_link(bench: &Bench<'_>) {
    let (link, events, mut channel) = drivable(bench);
    let worker = thread::spawn(move || {
        for _ in 0..20 {
            channel.send(&[1; 1_000_000], &[]).expect("sent");
            channel.send(b"small", &[]).expect("sent");
        }
    });
    for _ in 0..20 {
        // Satisfied by the first frame, whatever else has been read by then.
        drive(&*link, &|| events.has_frame());
        assert_eq!(events.next_frame().len(), 1_000_000);
        assert_eq!(events.next_frame(), b"small");
    }
    worker.join().expect("all was sent");
}
