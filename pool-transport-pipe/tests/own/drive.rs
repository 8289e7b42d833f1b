//! T8: a caller that waits does the link's work, and nothing gets lost when callers come and go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use pool_core::transport::{Channel, Closed, Driven, Link, Until};
use pool_transport_pipe::Pipe;

use crate::support::{Event, Random, Recorder, check, guarded, pair, send};

fn drive(link: &dyn Link, done: &dyn Fn() -> bool) -> Driven {
    link.drive(&Until { done, deadline: None })
}

/// Sends back what it gets.
fn echo(mut channel: Box<dyn Channel>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut frame = Vec::new();
        while channel.recv(&mut frame).unwrap() {
            if channel.send(&frame, &[]).is_err() {
                return;
            }
        }
    })
}

fn has_frame(events: &Recorder) -> bool {
    events.lock().iter().any(|event| matches!(event, Event::Frame(_)))
}

#[test]
fn a_driver_gets_its_answer_itself() {
    guarded("answer", || {
        let (link, events, channel) = pair(&Pipe::new());
        let by_me = Arc::new(AtomicU64::new(0));
        let (me, count) = (thread::current().id(), Arc::clone(&by_me));
        events.on_event(move |event| {
            if matches!(event, Event::Frame(_)) && thread::current().id() == me {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let worker = echo(channel);
        let mut random = Random::new(7);
        for place in 0..2000 {
            let frame = random.frame(place, 100_000);
            send(&*link, Some(place), &frame, &[]);
            link.flush();
            assert_eq!(drive(&*link, &|| has_frame(&events)), Driven::Done);
            check(&events.next_frame(), place);
        }
        // An answer that comes before we wait goes to the own thread, on a busy machine many do; not all.
        assert!(by_me.load(Ordering::Relaxed) > 0);
        link.close();
        worker.join().unwrap();
    });
}

#[test]
fn a_drive_ends_when_done_at_its_deadline_or_with_the_link() {
    guarded("ends", || {
        let (link, events, channel) = pair(&Pipe::new());
        assert_eq!(drive(&*link, &|| true), Driven::Done);
        let start = Instant::now();
        for millis in [0, 1, 20] {
            let deadline = start + Duration::from_millis(millis);
            assert_eq!(link.drive(&Until { done: &|| false, deadline: Some(deadline) }), Driven::TimedOut);
            assert!(Instant::now() >= deadline);
        }
        drop(channel);
        assert_eq!(drive(&*link, &|| false), Driven::Busy);
        assert_eq!(events.next_closed(), Closed::Eof);
        assert_eq!(drive(&*link, &|| false), Driven::Busy);
        assert_eq!(drive(&*link, &|| true), Driven::Done);
    });
}

#[test]
fn a_second_driver_is_told_that_there_is_one() {
    guarded("second", || {
        let pipe = Pipe::new();
        let (link, events, channel) = pair(&pipe);
        let (other, _other_events, _other_channel) = pair(&pipe);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let driver = scope.spawn(|| drive(&*link, &|| stop.load(Ordering::SeqCst)));
            // The driver is in when a second one, who asks for nothing, is refused.
            while link.drive(&Until { done: &|| false, deadline: Some(Instant::now()) }) != Driven::Busy {
                thread::yield_now();
            }
            let busy = other.drive(&Until { done: &|| false, deadline: Some(Instant::now()) });
            assert_eq!(busy, Driven::Busy, "one driver for all links of a reactor");
            stop.store(true, Ordering::SeqCst);
            link.interrupt();
            assert_eq!(driver.join().unwrap(), Driven::Done);
        });
        drop(channel);
        assert_eq!(events.next_closed(), Closed::Eof);
    });
}

#[test]
fn a_driver_sees_what_others_did_for_it() {
    guarded("others", || {
        for _ in 0..300 {
            let (link, events, channel) = pair(&Pipe::new());
            let ended = || events.lock().iter().any(|event| matches!(event, Event::Closed(_)));
            thread::scope(|scope| {
                // The closing thread delivers; the driver has to notice.
                let driver = scope.spawn(|| drive(&*link, &ended));
                link.close();
                assert!(matches!(driver.join().unwrap(), Driven::Done | Driven::Busy));
            });
            drop(channel);
        }
    });
}

#[test]
fn nothing_is_lost_while_drivers_come_and_go() {
    guarded("come and go", || {
        const FRAMES: u64 = 100_000;
        let (link, events, mut channel) = pair(&Pipe::new());
        let next = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&next);
        let busy = AtomicBool::new(false);
        let entered = Arc::new(AtomicBool::new(false));
        events.on_event(move |event| {
            // One event at a time, whichever thread it is on.
            assert!(!entered.swap(true, Ordering::SeqCst));
            if let Event::Frame(frame) = event {
                check(frame, counter.fetch_add(1, Ordering::SeqCst));
            }
            assert!(entered.swap(false, Ordering::SeqCst));
        });
        let total = || next.load(Ordering::SeqCst);
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut random = Random::new(8);
                for place in 0..FRAMES {
                    let size = if place % 500 == 0 { 100_000 } else { 50 };
                    channel.send(&random.frame(place, size), &[]).unwrap();
                }
                // Stays open until the other side closes.
                assert!(!channel.recv(&mut Vec::new()).unwrap());
            });
            let drivers: Vec<_> = (0..2_u64)
                .map(|driver| {
                    let (link, busy, total) = (&link, &busy, &total);
                    scope.spawn(move || {
                        let mut random = Random::new(20 + driver);
                        while total() < FRAMES {
                            let target = FRAMES.min(total() + 1 + random.below(50));
                            match drive(&**link, &|| total() >= target) {
                                Driven::Done => {}
                                Driven::Busy => {
                                    busy.store(true, Ordering::Relaxed);
                                    thread::yield_now();
                                }
                                other => panic!("{other:?}"),
                            }
                        }
                    })
                })
                .collect();
            drivers.into_iter().for_each(|driver| driver.join().unwrap());
            link.close();
        });
        assert_eq!(total(), FRAMES);
        let closed = events.lock().iter().filter(|event| matches!(event, Event::Closed(_))).count();
        assert_eq!(closed, 1);
    });
}

#[test]
fn interrupt_brings_the_driver_back() {
    guarded("interrupt", || {
        const ROUNDS: u64 = 10_000;
        let (link, _events, _channel) = pair(&Pipe::new());
        let asked = AtomicU64::new(0);
        let (answer, answers) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let answer = answer;
                for round in 1..=ROUNDS {
                    assert_eq!(drive(&*link, &|| asked.load(Ordering::Relaxed) >= round), Driven::Done);
                    answer.send(round).unwrap();
                }
            });
            let mut random = Random::new(9);
            for round in 1..=ROUNDS {
                // Often the driver is not in yet, or just on its way into the wait.
                for _ in 0..random.below(20_000) {
                    std::hint::spin_loop();
                }
                asked.store(round, Ordering::Relaxed);
                link.interrupt();
                let answered = answers.recv_timeout(Duration::from_secs(10));
                assert_eq!(answered, Ok(round), "the driver was not woken");
            }
        });
    });
}

#[test]
fn interrupts_and_frames_do_not_get_in_each_others_way() {
    guarded("mixed", || {
        const ROUNDS: u64 = 5_000;
        let pipe = Pipe::new();
        let (link, events, channel) = pair(&pipe);
        let (noise, noise_events, noise_channel) = pair(&pipe);
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
                // Frames of another link on the same reactor, which the own thread and the driver share.
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
            for place in 0..ROUNDS {
                send(&*link, Some(place), &random.frame(place, 1000), &[]);
                link.flush();
                assert_eq!(drive(&*link, &|| has_frame(&events)), Driven::Done);
                check(&events.next_frame(), place);
            }
            stop.store(true, Ordering::Relaxed);
        });
        noise.close();
        link.close();
        worker.join().unwrap();
        noisy.join().unwrap();
    });
}

#[test]
fn a_driver_that_leaves_in_the_middle_of_much_leaves_it_to_the_own_thread() {
    guarded("left over", || {
        let (link, events, mut channel) = pair(&Pipe::new());
        let worker = thread::spawn(move || {
            for _ in 0..20 {
                channel.send(&[1; 1_000_000], &[]).unwrap();
                channel.send(b"small", &[]).unwrap();
            }
        });
        for _ in 0..20 {
            // Satisfied by the first frame, whatever else has been read by then.
            drive(&*link, &|| has_frame(&events));
            assert_eq!(events.next_frame().len(), 1_000_000);
            assert_eq!(events.next_frame(), b"small");
        }
        worker.join().unwrap();
        assert_eq!(events.next_closed(), Closed::Eof);
    });
}
