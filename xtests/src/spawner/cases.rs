//! The laws that every system lets us judge.

use std::io::{BufRead, BufReader, PipeReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use pool_core::error::Exit;
use pool_core::spawner::{ExitReport, Signal, Spawner};
use pool_core::transport::{Handle, Ticket};

use super::bench::Bench;
use super::jobs::{WORKER, bystander, named};
use super::tools::{Started, read_all, read_some};
use crate::gate::{Gate, Visitor};

/// How a worker ends that was sent this.
fn ended_by(signal: Signal) -> Exit {
    match signal {
        // There is nothing else.
        Signal::Terminate if cfg!(unix) => Exit::Signal(15),
        Signal::Kill | Signal::Terminate => Exit::KILLED,
    }
}

/// Ends a worker that a case is done with, whatever it is worth.
pub(super) fn end(started: &Started) {
    // Only its end counts here.
    let _ = started.worker.signal(Signal::Kill);
    drop(started.exit.recv_timeout(Duration::from_secs(5)));
}

/// What it has written so far is over, and no process has its end any more.
#[track_caller]
fn is_gone(bench: &Bench<'_>, reader: PipeReader) {
    assert_eq!(read_all(bench.patience(), reader), "");
}

/// It has its end, and has written nothing more: as far as that can be seen without waiting for it.
#[cfg(unix)]
#[track_caller]
fn lives(mut reader: PipeReader) {
    rustix::io::ioctl_fionbio(&reader, true).expect("set");
    let read = reader.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(read, Err(std::io::ErrorKind::WouldBlock), "it lives");
}

#[cfg(not(unix))]
fn lives(_: PipeReader) {}

pub(super) fn every_exit_is_reported(bench: &Bench<'_>) {
    let spawner = bench.spawner();
    for round in 0..bench.many(30) {
        // Some end before anybody could look.
        let job = if round % 2 == 0 { "exit" } else { "return" };
        let started = bench.start(&*spawner, job, &[0], vec![]).expect("started");
        started.report();
    }
    // All at once.
    let many: Vec<_> = (0..8).map(|_| bench.start(&*spawner, "return", &[0], vec![]).expect("started")).collect();
    many.iter().for_each(|started| drop(started.report()));
}

pub(super) fn no_exit_is_reported_before_the_end(bench: &Bench<'_>) {
    let spawner = bench.spawner();
    for job in ["idle", "busy"] {
        let (started, mut reader) = bench.start_up(&*spawner, job);
        assert!(started.exit.try_recv().is_err(), "it lives");
        started.worker.signal(Signal::Kill).expect("sent");
        started.report();
        // Its end of the pipe was closed with the rest of it, before: this does not wait.
        #[cfg(unix)]
        rustix::io::ioctl_fionbio(&reader, true).expect("set");
        assert_eq!(reader.read(&mut [0]).expect("the end"), 0);
    }
}

pub(super) fn bytes_and_handles_arrive_in_order(bench: &Bench<'_>) {
    let spawner = bench.spawner();
    for count in [1, 3, 40] {
        let (readers, writers): (Vec<_>, Vec<_>) = (0..count).map(|_| std::io::pipe().expect("a pipe")).unzip();
        let handles = writers.into_iter().map(Into::into).collect();
        let started = bench.start(&*spawner, "number the handles", b"number ", handles).expect("started");
        for (index, reader) in readers.into_iter().enumerate() {
            assert_eq!(read_all(bench.patience(), reader), format!("number {index} of {count}"));
        }
        end(&started);
    }
}

pub(super) fn no_other_worker_has_the_handles(bench: &Bench<'_>) {
    let spawner = bench.spawner();
    let (before, before_reader) = bench.start_up(&*spawner, "idle");
    let (started, reader) = bench.start_up(&*spawner, "idle");
    let (after, after_reader) = bench.start_up(&*spawner, "idle");
    // With its own end, its worker's alone: the others live.
    end(&started);
    is_gone(bench, reader);
    end(&before);
    is_gone(bench, before_reader);
    end(&after);
    is_gone(bench, after_reader);
}

pub(super) fn a_signal_ends_the_worker_and_no_other(bench: &Bench<'_>) {
    let spawner = bench.spawner();
    let (other, other_reader) = bench.start_up(&*spawner, "idle");
    for signal in [Signal::Kill, Signal::Terminate].repeat(bench.many(10).max(2) as usize) {
        let (started, reader) = bench.start_up(&*spawner, "busy");
        started.worker.signal(signal).expect("sent");
        is_gone(bench, reader);
        drop(started.exit.recv_timeout(bench.patience()));
    }
    lives(other_reader);
    assert!(other.exit.try_recv().is_err(), "the other one lives");
    end(&other);
}

pub(super) fn a_signal_after_the_end_succeeds(bench: &Bench<'_>) {
    let spawner = bench.spawner();
    let started = bench.start(&*spawner, "return", &[0], vec![]).expect("started");
    let (killed, _reader) = bench.start_up(&*spawner, "idle");
    end(&killed);
    drop(started.exit.recv_timeout(bench.patience()));
    for ended in [&started, &killed] {
        ended.worker.signal(Signal::Terminate).expect("nobody to hit");
    }
    drop(spawner);
    for ended in [&started, &killed] {
        ended.worker.signal(Signal::Kill).expect("nobody to hit");
    }
}

pub(super) fn workers_die_with_a_killed_parent(bench: &Bench<'_>) {
    let mut parent = bystander("parent", bench.candidate.name()).spawn().expect("it starts");
    let mut lines = BufReader::new(parent.stdout.take().expect("piped"));
    let mut pids = Vec::new();
    for _ in 0..3 {
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line");
        pids.push(line.trim().parse::<u32>().expect("a pid"));
    }
    #[cfg(target_os = "linux")]
    super::linux::stop(pids[2]);
    parent.kill().expect("killed");
    parent.wait().expect("it ends");
    let start = Instant::now();
    // The workers share the pipe, so its end is theirs.
    assert_eq!(read_all(bench.patience(), lines), "");
    println!("the last of {pids:?} was gone after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(1));
}

pub(super) fn standard_input_is_empty(bench: &Bench<'_>) {
    let spawner = bench.spawner();
    let (started, reader) = bench.start_with_pipe(&*spawner, "read stdin", b"");
    assert_eq!(read_all(bench.patience(), reader), "0 bytes");
    end(&started);
}

pub(super) fn standard_output_and_error_are_the_parents(bench: &Bench<'_>) {
    let mut printer = bystander("printer", bench.candidate.name());
    let mut printer = printer.stderr(std::process::Stdio::piped()).spawn().expect("it starts");
    let out = read_all(bench.patience(), printer.stdout.take().expect("piped"));
    let err = read_all(bench.patience(), printer.stderr.take().expect("piped"));
    assert_eq!((out.trim_end(), err.trim_end()), ("hello from the worker", "hello from the worker"));
    printer.wait().expect("it ends");
}

pub(super) fn dropping_the_values_ends_no_worker(bench: &Bench<'_>) {
    let spawner = bench.spawner();
    let (first, reader) = bench.start_up(&*spawner, "idle");
    let (second, second_reader) = bench.start_up(&*spawner, "idle");
    let pid = second.worker.pid();
    drop(spawner);
    drop(second.worker);
    first.worker.signal(Signal::Kill).expect("sent");
    assert!(first.exit.recv_timeout(bench.patience()).is_ok(), "it is reported all the same");
    is_gone(bench, reader);
    assert!(second.exit.recv_timeout(Duration::from_millis(100)).is_err(), "it lives");
    lives(second_reader);
    // It would end with this process; nothing is to be left before.
    let is_there = pid.is_some_and(crate::runner::kill_if_there);
    assert!(is_there || cfg!(not(target_os = "linux")), "it lives");
    drop(second.exit.recv_timeout(bench.patience()));
}

pub(super) fn an_exit_code_is_reported(bench: &Bench<'_>) {
    let spawner = bench.spawner();
    for code in [0, 1, 42] {
        for job in ["exit", "return"] {
            let started = bench.start(&*spawner, job, &[code], vec![]).expect("started");
            let Some(report) = reported(bench, &started) else { return };
            assert_eq!((report.exit, report.last_words), (Exit::Code(i32::from(code)), None));
        }
    }
}

/// The report, if one comes: that it does is another law's affair.
fn reported(bench: &Bench<'_>, started: &Started) -> Option<ExitReport> {
    started.exit.recv_timeout(bench.patience()).ok()
}

pub(super) fn a_signal_is_reported(bench: &Bench<'_>) {
    let spawner = bench.spawner();
    for signal in [Signal::Kill, Signal::Terminate] {
        let (started, _reader) = bench.start_up(&*spawner, "idle");
        started.worker.signal(signal).expect("sent");
        let Some(report) = reported(bench, &started) else { return };
        assert_eq!(report.exit, ended_by(signal));
    }
    if cfg!(unix) {
        let started = bench.start(&*spawner, "abort", b"", vec![]).expect("started");
        let Some(report) = reported(bench, &started) else { return };
        assert_eq!(report.exit, Exit::Signal(6));
    }
}

pub(super) fn last_words_are_reported(bench: &Bench<'_>) {
    let spawner = bench.spawner();
    let words = "it cannot be hélped";
    let started = bench.start(&*spawner, "say", words.as_bytes(), vec![]).expect("started");
    let Some(report) = reported(bench, &started) else { return };
    assert_eq!((report.exit, report.last_words.as_deref()), (Exit::Code(3), Some(words)));
    let started = bench.start(&*spawner, "say", &[b'y'; 20_000], vec![]).expect("started");
    let Some(report) = reported(bench, &started) else { return };
    let long = report.last_words.expect("some");
    // They may be cut, but not away.
    assert!(long.len() > 100 && long.len() <= 20_000 && long.bytes().all(|byte| byte == b'y'));
}

pub(super) fn an_exit_callback_may_spawn(bench: &Bench<'_>) {
    let spawner = bench.spawner();
    for signal in [None, Some(Signal::Kill), Some(Signal::Terminate)] {
        let (tell, told) = mpsc::channel();
        let (inner, patience) = (Arc::clone(&spawner), bench.patience());
        let ticket = Ticket { transport: named("exit"), bytes: vec![5], handles: vec![] };
        let on_exit = Box::new(move |_| {
            let job = if signal.is_some() { "idle" } else { "say" };
            let (reader, writer) = std::io::pipe().expect("a pipe");
            let started = super::tools::start(&*inner, patience, job, b"words", vec![writer.into()]);
            tell.send((started.expect("started"), reader)).expect("the case waits");
        });
        spawner.spawn(ticket, on_exit).expect("started");
        let (started, mut reader) = told.recv_timeout(bench.patience()).expect("reported");
        let expected = match signal {
            None => (Exit::Code(3), Some("words")),
            Some(signal) => {
                assert_eq!(read_some(&mut reader, 2), "up");
                started.worker.signal(signal).expect("sent");
                (ended_by(signal), None)
            }
        };
        let report = started.exit.recv_timeout(bench.patience()).expect("reported too");
        assert_eq!((report.exit, report.last_words.as_deref()), expected);
    }
}

pub(super) fn a_panicking_exit_callback_harms_nobody(bench: &Bench<'_>) {
    let spawner = bench.spawner();
    let (other, _reader) = bench.start_up(&*spawner, "idle");
    let ticket = Ticket { transport: named("exit"), bytes: vec![0], handles: vec![] };
    let (unwinds, unwound) = mpsc::channel::<()>();
    let panics = move |_| {
        let _unwinds = &unwinds;
        panic!("on purpose");
    };
    spawner.spawn(ticket, Box::new(panics)).expect("started");
    // It is dropped when the panic has been told about, which takes some time.
    assert_eq!(unwound.recv_timeout(bench.patience()), Err(RecvTimeoutError::Disconnected));
    let next = bench.start(&*spawner, "return", &[9], vec![]).expect("started");
    let report = next.exit.recv_timeout(bench.patience()).expect("reported");
    assert_eq!(report.exit, Exit::Code(9));
    other.worker.signal(Signal::Kill).expect("sent");
    other.exit.recv_timeout(bench.patience()).expect("reported");
}

pub(super) fn many_threads_may_spawn(bench: &Bench<'_>) {
    let spawner = &*bench.spawner();
    let rounds = bench.many(10).max(2);
    std::thread::scope(|scope| {
        for code in 0..8u8 {
            scope.spawn(move || {
                for _ in 0..rounds {
                    let started = bench.start(spawner, "exit", &[code], vec![]).expect("started");
                    let report = started.exit.recv_timeout(bench.patience()).expect("reported");
                    assert_eq!(report.exit, Exit::Code(i32::from(code)));
                }
            });
        }
    });
}

pub(super) fn a_large_ticket_arrives_whole_or_is_refused(bench: &Bench<'_>) {
    let spawner = bench.spawner();
    for len in [1 << 10, 60_000, 70_000, 1 << 20, 16 << 20] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let bytes = vec![b'x'; len];
        match bench.start(&*spawner, "number the handles", &bytes, vec![writer.into()]) {
            Ok(started) => {
                let text = read_all(bench.patience(), reader);
                assert!(text.len() == len + "0 of 1".len() && text.ends_with("x0 of 1"), "{}", text.len());
                end(&started);
            }
            Err(error) => assert!(len > 60_000, "{len} are not too many: {error}"),
        }
    }
    for count in [2, 40, 300] {
        let (mut readers, writers): (Vec<_>, Vec<Handle>) =
            (0..count).map(|_| std::io::pipe().map(|(read, write)| (read, write.into())).expect("a pipe")).unzip();
        match bench.start(&*spawner, "number the handles", b"x", writers) {
            Ok(started) => {
                let last = readers.pop().expect("the last");
                assert_eq!(read_all(bench.patience(), last), format!("x{} of {count}", count - 1));
                end(&started);
            }
            Err(error) => assert!(count > 40, "{count} are not too many: {error}"),
        }
    }
}

/// A worker that waits until it may end so, and the process that it has started.
#[track_caller]
fn with_another(bench: &Bench<'_>, spawner: &dyn Spawner, gate: &Gate, end: &str) -> (Started, Visitor, Visitor) {
    let order = format!("{} {} {end}", gate.port(), bench.candidate.name());
    let started = bench.start(spawner, "start another", order.as_bytes(), vec![]).expect("started");
    let (one, two) = (gate.arrival(), gate.arrival());
    let (worker, other) = if one.word == WORKER { (one, two) } else { (two, one) };
    (started, worker, other)
}

pub(super) fn what_a_worker_started_ends_with_it(bench: &Bench<'_>) {
    let (spawner, gate) = (bench.spawner(), Gate::new());
    for end in ["returns", "aborts"] {
        let (started, worker, other) = with_another(bench, &*spawner, &gate, end);
        worker.pass();
        drop(started.exit.recv_timeout(bench.patience()));
        assert!(other.is_gone_within(bench.patience()), "what a worker has left that {end}");
    }
    for signal in [Signal::Terminate, Signal::Kill] {
        let (started, _worker, other) = with_another(bench, &*spawner, &gate, "returns");
        started.worker.signal(signal).expect("sent");
        drop(started.exit.recv_timeout(bench.patience()));
        assert!(other.is_gone_within(bench.patience()), "what a worker has left that got {signal:?}");
    }
}

pub(super) fn what_a_neighbour_started_lives_on(bench: &Bench<'_>) {
    let (spawner, gate) = (bench.spawner(), Gate::new());
    let (neighbour, _its_turn, theirs) = with_another(bench, &*spawner, &gate, "returns");
    let (started, worker, other) = with_another(bench, &*spawner, &gate, "returns");
    worker.pass();
    drop(started.exit.recv_timeout(bench.patience()));
    assert!(other.is_gone_within(bench.patience()), "what it has started ends with it");
    assert!(!theirs.is_gone_within(Duration::from_millis(20)), "it has nothing to do with it");
    end(&neighbour);
}
