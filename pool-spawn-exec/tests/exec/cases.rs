//! Cases for every system.

use std::io::{BufRead, BufReader};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pool_core::error::Exit;
use pool_core::spawner::{Entry, Signal, SpawnError, Spawner};
use pool_core::transport::Ticket;
use pool_spawn_exec::{Exec, ExecEntry};

use crate::harness::{Case, PATIENCE, bystander, own, read_all, read_some, start, start_with_pipe};

pub(crate) fn all() -> Vec<Case> {
    vec![
        ("bytes_and_handles_arrive_in_order", bytes_and_handles_arrive_in_order),
        (
            "the_largest_ticket_fits_and_a_larger_one_is_refused",
            the_largest_ticket_fits_and_a_larger_one_is_refused,
        ),
        ("standard_input_is_empty", standard_input_is_empty),
        ("standard_output_is_the_parents", standard_output_is_the_parents),
        ("arguments_and_environment_arrive", arguments_and_environment_arrive),
        ("an_exit_code_is_reported", an_exit_code_is_reported),
        ("a_death_before_arriving_is_reported", a_death_before_arriving_is_reported),
        ("last_words_are_reported", last_words_are_reported),
        ("a_killed_worker_is_reported_at_once", a_killed_worker_is_reported_at_once),
        ("a_signal_after_the_end_succeeds", a_signal_after_the_end_succeeds),
        ("a_missing_program_is_named", a_missing_program_is_named),
        ("an_inherited_marker_makes_no_worker", an_inherited_marker_makes_no_worker),
        ("workers_die_with_a_killed_parent", workers_die_with_a_killed_parent),
        ("dropping_the_values_ends_no_worker", dropping_the_values_ends_no_worker),
        ("an_exit_callback_may_spawn", an_exit_callback_may_spawn),
        ("a_panicking_exit_callback_harms_nobody", a_panicking_exit_callback_harms_nobody),
        ("many_threads_may_spawn", many_threads_may_spawn),
        ("a_program_without_init_is_refused", a_program_without_init_is_refused),
    ]
}

fn bytes_and_handles_arrive_in_order() {
    for count in [1, 3, 40] {
        let (readers, writers): (Vec<_>, Vec<_>) = (0..count).map(|_| std::io::pipe().expect("a pipe")).unzip();
        let handles = writers.into_iter().map(Into::into).collect();
        let started = start(&own(), "number the handles", b"number ", handles).expect("started");
        for (index, reader) in readers.into_iter().enumerate() {
            assert_eq!(read_all(reader), format!("number {index}"));
        }
        assert_eq!(started.report().exit, Exit::Code(0));
    }
}

fn the_largest_ticket_fits_and_a_larger_one_is_refused() {
    let largest = pool_os::BYTES_MAX - "number the handles".len() - 2;
    let bytes = vec![b'x'; largest];
    let (started, reader) = start_with_pipe(&own(), "number the handles", &bytes);
    assert_eq!(read_all(reader).len(), largest + 1);
    started.report();
    let refused = start(&own(), "number the handles", &vec![b'x'; largest + 1], vec![]);
    let error = refused.err().expect("one byte too many").to_string();
    assert!(error.contains("65537 bytes") && error.contains("65536"), "{error}");
    let clone = |_| std::io::pipe().expect("a pipe").1.into();
    let refused = start(&own(), "x", b"", (0..=pool_os::HANDLES_MAX).map(clone).collect());
    assert!(matches!(refused.err(), Some(SpawnError::Other { .. })));
}

fn standard_input_is_empty() {
    let (started, reader) = start_with_pipe(&own(), "read stdin", b"");
    assert_eq!(read_all(reader), "0 bytes");
    assert_eq!(started.report().exit, Exit::Code(0));
}

fn standard_output_is_the_parents() {
    let mut printer = bystander("printer").spawn().expect("it starts");
    let out = read_all(printer.stdout.take().expect("piped"));
    assert_eq!(out.trim_end(), "hello from the worker");
    assert!(printer.wait().expect("it ends").success());
}

fn arguments_and_environment_arrive() {
    let exec = own().arg("one").args(["two", "three"]).env("FLAVOUR", "plain").env("PROCESS_POOL_WORKER", "x");
    let (started, reader) = start_with_pipe(&exec, "surroundings", b"");
    let text = read_all(reader);
    assert!(text.ends_with(r#""one", "two", "three"] Ok("plain")"#), "{text}");
    started.report();
    let (started, reader) = start_with_pipe(&own(), "surroundings", b"");
    let text = read_all(reader);
    assert!(!text.contains(','), "no arguments but the name: {text}");
    started.report();
}

fn an_exit_code_is_reported() {
    for code in [0, 1, 42] {
        let started = start(&own(), "exit", &[code], vec![]).expect("started");
        let report = started.report();
        assert_eq!((report.exit, report.last_words), (Exit::Code(i32::from(code)), None));
    }
}

fn a_death_before_arriving_is_reported() {
    let exec = if cfg!(windows) {
        Exec::program("cmd").args(["/c", "exit 7"])
    } else {
        Exec::program("sh").args(["-c", "exit 7"])
    };
    assert!(!exec.caps().same_image);
    for _ in 0..20 {
        let started = start(&exec, "nobody reads this", &[0; 1000], vec![]).expect("started");
        assert_eq!(started.report().exit, Exit::Code(7));
    }
}

fn last_words_are_reported() {
    let started = start(&own(), "say", "it cannot be hélped".as_bytes(), vec![]).expect("started");
    let report = started.report();
    assert_eq!((report.exit, report.last_words.as_deref()), (Exit::Code(3), Some("it cannot be hélped")));
    let started = start(&own(), "say", &[b'y'; 20_000], vec![]).expect("started");
    assert_eq!(started.report().last_words.expect("some").len(), pool_os::LAST_WORDS_MAX);
}

fn a_killed_worker_is_reported_at_once() {
    let exec = own();
    let mut delays = Vec::new();
    for signal in [Signal::Kill, Signal::Terminate].repeat(10) {
        let (started, mut reader) = start_with_pipe(&exec, "busy", b"");
        assert_eq!(read_some(&mut reader, 2), "up");
        let start = Instant::now();
        started.worker.signal(signal).expect("sent");
        let exit = started.report().exit;
        delays.push(start.elapsed());
        match signal {
            _ if cfg!(windows) => assert_eq!(exit, Exit::Code(1)),
            Signal::Kill => assert_eq!(exit, Exit::Signal(9)),
            Signal::Terminate => assert_eq!(exit, Exit::Signal(15)),
        }
    }
    delays.sort();
    println!("from signal to report: {:?} .. {:?}", delays[0], delays[delays.len() - 1]);
    assert!(delays[0] < Duration::from_millis(if cfg!(windows) { 100 } else { 3 }), "{delays:?}");
}

fn a_signal_after_the_end_succeeds() {
    let started = start(&own(), "exit", &[0], vec![]).expect("started");
    started.report();
    started.worker.signal(Signal::Terminate).expect("nobody to hit");
    started.worker.signal(Signal::Kill).expect("nobody to hit");
}

fn a_missing_program_is_named() {
    let folder = std::env::temp_dir();
    for path in [folder.join("no-such-program"), "no-such-program".into(), folder] {
        let exec = Exec::program(&path);
        for result in [exec.check(), start(&exec, "x", b"", vec![]).map(drop)] {
            let Err(SpawnError::Program { path: named, .. }) = result else { panic!("{path:?}: {result:?}") };
            assert_eq!(named, path);
        }
    }
}

fn an_inherited_marker_makes_no_worker() {
    let (started, reader) = start_with_pipe(&own(), "have a child", b"");
    assert_eq!(read_all(reader), "not a byte of mine is lost");
    assert_eq!(started.report().exit, Exit::Code(0));
    assert!(!ExecEntry.is_worker());
}

fn workers_die_with_a_killed_parent() {
    let mut parent = bystander("parent").spawn().expect("it starts");
    let mut lines = BufReader::new(parent.stdout.take().expect("piped"));
    let mut pids = Vec::new();
    for _ in 0..3 {
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line");
        pids.push(line.trim().parse::<i32>().expect("a pid"));
    }
    #[cfg(unix)]
    crate::unix::stop(pids[2]);
    parent.kill().expect("killed");
    parent.wait().expect("it ends");
    let start = Instant::now();
    // The workers share the pipe, so its end is theirs.
    assert_eq!(read_all(lines), "");
    println!("the last of {pids:?} was gone after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(1));
}

fn dropping_the_values_ends_no_worker() {
    let exec = own();
    let (started, mut reader) = start_with_pipe(&exec, "idle", b"");
    drop(exec);
    drop(started.worker);
    assert_eq!(read_some(&mut reader, 2), "up");
    assert!(started.exit.recv_timeout(Duration::from_millis(100)).is_err(), "it lives");
}

/// This also is the way that children go where one thread cannot wait for all.
fn an_exit_callback_may_spawn() {
    let exec = own();
    for signal in [None, Some(Signal::Kill), Some(Signal::Terminate)] {
        let (tell, told) = mpsc::channel();
        let inner = exec.clone();
        let ticket = Ticket { transport: "exit".to_owned(), bytes: vec![5], handles: vec![] };
        let on_exit = Box::new(move |_| {
            let job = if signal.is_some() { "busy" } else { "say" };
            tell.send(start_with_pipe(&inner, job, b"words")).expect("the case waits");
        });
        exec.spawn(ticket, on_exit).expect("started");
        let (started, mut reader) = told.recv_timeout(PATIENCE).expect("reported");
        let Some(signal) = signal else {
            let report = started.report();
            assert_eq!((report.exit, report.last_words.as_deref()), (Exit::Code(3), Some("words")));
            continue;
        };
        assert_eq!(read_some(&mut reader, 2), "up");
        started.worker.signal(signal).expect("sent");
        let expected = if signal == Signal::Kill { Exit::Signal(9) } else { Exit::Signal(15) };
        assert_eq!(started.report().exit, if cfg!(windows) { Exit::Code(1) } else { expected });
        started.worker.signal(signal).expect("nobody to hit");
    }
}

fn a_panicking_exit_callback_harms_nobody() {
    let exec = own();
    let (other, mut reader) = start_with_pipe(&exec, "idle", b"");
    assert_eq!(read_some(&mut reader, 2), "up");
    let ticket = Ticket { transport: "exit".to_owned(), bytes: vec![0], handles: vec![] };
    exec.spawn(ticket, Box::new(|_| panic!("on purpose"))).expect("started");
    let next = start(&exec, "exit", &[9], vec![]).expect("started");
    assert_eq!(next.report().exit, Exit::Code(9));
    other.worker.signal(Signal::Kill).expect("sent");
    other.report();
}

fn many_threads_may_spawn() {
    let exec = own();
    std::thread::scope(|scope| {
        for code in 0..8u8 {
            let exec = exec.clone();
            scope.spawn(move || {
                for _ in 0..10 {
                    let started = start(&exec, "exit", &[code], vec![]).expect("started");
                    assert_eq!(started.report().exit, Exit::Code(i32::from(code)));
                }
            });
        }
    });
}

fn a_program_without_init_is_refused() {
    assert!(matches!(Exec::new().check(), Err(SpawnError::InitNotCalled)));
    assert!(matches!(start(&Exec::new(), "exit", &[0], vec![]).map(drop), Err(SpawnError::InitNotCalled)));
    own().check().expect("now it has called it");
}
