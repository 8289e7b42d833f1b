//! T2 and T7 with a worker in a process of its own, which can be killed and stopped.

use std::io::{PipeReader, Read, Write};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};

use pool_core::spawner::{Arrival, Entry, ExitReport, Signal, Spawner, Worker};
use pool_core::transport::{Closed, Ticket};
use pool_spawn_exec::{Exec, ExecEntry};

use super::bench::{Bench, Candidate};
use super::recorder::Event;
use super::tools::{Half, Random, check};

/// In a worker of a case: does what it was started for, and ends the process. Elsewhere returns.
pub(super) fn work(candidate: &Candidate) {
    match ExecEntry.arrive() {
        Arrival::Worker { ticket, .. } => {
            play(candidate, ticket);
        }
        Arrival::Unusable(why) => {
            eprintln!("unusable: {why}");
            std::process::exit(97);
        }
        Arrival::NotAWorker => {}
    }
}

/// Is killed, or ends the process.
pub(crate) fn play(candidate: &Candidate, mut ticket: Ticket) -> ! {
    let line = ticket.handles.pop().expect("the way to tell the case");
    let mut line = std::fs::File::from(line);
    let mut channel = candidate.transport().connector().connect(ticket).expect("the worker connects");
    let mut random = Random::new(11);
    match std::env::args().nth(1).as_deref() {
        Some("send") => {
            for place in 0..50 {
                channel.send(&random.frame(place, 1000), &[]).expect("sent");
            }
        }
        Some("send a lot") => {
            channel.send(&random.frame(0, 1000), &[]).expect("sent");
            line.write_all(b"!").expect("told");
            // Killed somewhere in here, if it is well timed; the parent takes all this and throws it away.
            channel.send(&vec![9; HALF], &vec![9; HALF]).expect("sent");
        }
        other => panic!("no such role: {other:?}"),
    }
    line.write_all(b"!").expect("told");
    // Is killed.
    loop {
        std::thread::park();
    }
}

/// Half of the frame that is not to be finished.
const HALF: usize = 32 << 20;

/// A worker in a process of its own.
struct Errand {
    worker: Box<dyn Worker>,
    exit: Receiver<ExitReport>,
    line: PipeReader,
}

impl Errand {
    /// Starts a worker that connects with this ticket and does this.
    fn start(ticket: Ticket, role: &str) -> Self {
        // Nobody arrives here: this only notes that `init()` was called.
        pool_core::WorkerMain::new().run();
        let (line, told) = std::io::pipe().expect("a pipe");
        let mut ticket = ticket;
        ticket.handles.push(told.into());
        let (tell, exit) = mpsc::channel();
        let on_exit = Box::new(move |report| drop(tell.send(report)));
        let worker = Exec::new().arg(role).spawn(ticket, on_exit).expect("the worker starts");
        Self { worker, exit, line }
    }

    /// Waits until the worker says something.
    fn is_told(&mut self) {
        self.line.read_exact(&mut [0]).expect("the worker says so");
    }

    /// Waits until the worker waits for room, where that can be seen.
    fn is_asleep(&self, bench: &Bench<'_>) {
        #[cfg(target_os = "linux")]
        {
            use crate::processes::{eventually_within, state};

            let pid = self.worker.pid().expect("a child");
            eventually_within(bench.patience(), "it has no room", || state(pid).expect("it lives") == 'S');
        }
        let _ = bench;
    }

    /// Kills the worker, and waits until it is gone.
    fn kill(&self, bench: &Bench<'_>) {
        self.worker.signal(Signal::Kill).expect("sent");
        self.exit.recv_timeout(bench.patience()).expect("it ends");
    }
}

#[track_caller]
fn check_fifty(events: &super::recorder::Recorder) {
    let mut random = Random::new(11);
    for place in 0..50 {
        // As the worker does, so that both have the same numbers.
        let expected = random.frame(place, 1000);
        let frame = events.next_frame();
        check(&frame, place);
        assert!(frame == expected);
    }
}

pub(super) fn a_killed_worker_is_seen_after_what_it_sent(bench: &Bench<'_>) {
    for _ in 0..bench.many(20) {
        let (_link, events, ticket): Half = bench.half();
        let mut errand = Errand::start(ticket, "send");
        errand.is_told();
        errand.kill(bench);
        check_fifty(&events);
        assert_eq!(events.next_closed(), Closed::Eof);
    }
}

pub(super) fn a_frame_that_a_killed_worker_did_not_finish_is_not_delivered(bench: &Bench<'_>) {
    let mut cut = 0;
    for _ in 0..bench.many(20).max(4) {
        let (_link, events, ticket) = bench.half();
        // While the receiver is busy with the first frame nobody reads, and the second does not find room.
        let (release, busy) = mpsc::channel::<()>();
        let busy = Mutex::new(Some(busy));
        events.on_event(move |_| {
            let busy = busy.lock().expect("nobody panics").take();
            // Comes as an error, when the case lets go of the other end.
            let _ = busy.map(|busy| busy.recv());
        });
        let mut errand = Errand::start(ticket, "send a lot");
        errand.is_told();
        errand.is_asleep(bench);
        errand.kill(bench);
        drop(release);
        check(&events.next_frame(), 0);
        match events.next() {
            Event::Frame(frame) => {
                assert!(frame.len() == 2 * HALF && frame.iter().all(|byte| *byte == 9), "a part of a frame");
            }
            // Where it cannot be told when the worker is in the middle, it may not have begun.
            Event::Closed(Closed::Truncated | Closed::Eof) => cut += 1,
            other => panic!("{other:?}"),
        }
    }
    println!("cut off {cut} times");
    assert!(cut > 0, "none was killed in time");
}

#[cfg(target_os = "linux")]
pub(super) fn close_does_not_wait_for_a_stopped_worker(bench: &Bench<'_>) {
    use rustix::process::{Pid, kill_process};

    let (link, events, ticket) = bench.half();
    let mut errand = Errand::start(ticket, "send");
    errand.is_told();
    let pid =
        errand.worker.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).expect("a child");
    kill_process(pid, rustix::process::Signal::STOP).expect("stopped");
    // More than there is room for: what the worker does not take waits here.
    super::tools::send(&*link, None, &vec![1; 10 << 20], &[]);
    link.flush();
    link.close();
    check_fifty(&events);
    assert_eq!(events.next_closed(), Closed::Ours);
    drop(link);
    errand.kill(bench);
}

#[cfg(not(target_os = "linux"))]
pub(super) fn close_does_not_wait_for_a_stopped_worker(_: &Bench<'_>) {
    crate::trial::skip("processes are stopped on Linux only");
}
