//! Cases for every system that can fork, and for both start methods.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use pool_core::error::Exit;
use pool_core::spawner::{Entry, Signal, SpawnError};
use pool_spawn_fork::{Fork, ForkServer, ForkServerEntry};

use crate::harness::{Method, Named, bystander, read_all, start, start_up, start_with_pipe};

pub(crate) fn all() -> Vec<Named> {
    vec![
        (
            "the_largest_ticket_fits_and_a_larger_one_is_refused",
            the_largest_ticket_fits_and_a_larger_one_is_refused,
        ),
        ("standard_output_is_the_parents", standard_output_is_the_parents),
        ("a_worker_has_no_arguments_but_its_name", a_worker_has_no_arguments_but_its_name),
        ("a_panic_is_an_exit_code", a_panic_is_an_exit_code),
        ("long_last_words_are_cut", long_last_words_are_cut),
        ("a_killed_worker_is_reported_at_once", a_killed_worker_is_reported_at_once),
        ("an_inherited_marker_makes_no_worker", an_inherited_marker_makes_no_worker),
        ("workers_die_with_a_killed_parent", workers_die_with_a_killed_parent),
        ("what_is_not_ready_is_refused", what_is_not_ready_is_refused),
        ("a_hook_makes_workers_differ", a_hook_makes_workers_differ),
        ("a_panicking_hook_is_told", a_panicking_hook_is_told),
    ]
}

fn the_largest_ticket_fits_and_a_larger_one_is_refused(method: Method) {
    let spawner = method.spawner();
    let largest = pool_os::BYTES_MAX - "number the handles".len() - 2;
    let bytes = vec![b'x'; largest];
    let (started, reader) = start_with_pipe(&*spawner, "number the handles", &bytes);
    assert_eq!(read_all(reader).len(), largest + 1);
    started.report();
    let refused = start(&*spawner, "number the handles", &vec![b'x'; largest + 1], vec![]);
    let error = refused.err().expect("one byte too many").to_string();
    assert!(error.contains("65537 bytes") && error.contains("65536"), "{error}");
    let clone = |_| std::io::pipe().expect("a pipe").1.into();
    let refused = start(&*spawner, "x", b"", (0..=pool_os::HANDLES_MAX).map(clone).collect());
    assert!(matches!(refused.err(), Some(SpawnError::Other { .. })));
}

fn standard_output_is_the_parents(method: Method) {
    let mut printer = bystander("printer", method).spawn().expect("it starts");
    let out = read_all(printer.stdout.take().expect("piped"));
    // The fork server's workers begin with its own `main`, not with a copy of what was held back here.
    let expected = match method {
        Method::ForkServer => "hello from the worker. hello from the worker. []",
        Method::Fork => "[hello from the worker. hello from the worker. ]",
    };
    assert_eq!(out, expected);
    assert!(printer.wait().expect("it ends").success());
}

fn a_worker_has_no_arguments_but_its_name(method: Method) {
    let (started, reader) = start_with_pipe(&*method.spawner(), "surroundings", b"");
    let own: Vec<_> = std::env::args_os().collect();
    assert_eq!(read_all(reader), format!("{own:?}"));
    started.report();
}

fn a_panic_is_an_exit_code(method: Method) {
    let spawner = method.spawner();
    let started = start(&*spawner, "panic", b"", vec![]).expect("started");
    assert_eq!(started.report().exit, Exit::Code(101));
    let started = start(&*spawner, "return", &[0], vec![]).expect("started");
    assert_eq!(started.report().exit, Exit::Code(0));
}

fn long_last_words_are_cut(method: Method) {
    let spawner = method.spawner();
    let started = start(&*spawner, "say", &[b'y'; 20_000], vec![]).expect("started");
    assert_eq!(started.report().last_words.expect("some").len(), pool_os::LAST_WORDS_MAX);
}

fn a_killed_worker_is_reported_at_once(method: Method) {
    let spawner = method.spawner();
    let mut delays = Vec::new();
    for signal in [Signal::Kill, Signal::Terminate].repeat(10) {
        let (started, _) = start_up(&*spawner, "busy");
        let start = Instant::now();
        started.worker.signal(signal).expect("sent");
        let exit = started.report().exit;
        delays.push(start.elapsed());
        assert_eq!(exit, Exit::Signal(if signal == Signal::Kill { 9 } else { 15 }));
    }
    delays.sort();
    println!("from signal to report: {:?} .. {:?}", delays[0], delays[delays.len() - 1]);
    assert!(delays[0] < Duration::from_millis(3), "{delays:?}");
}

fn an_inherited_marker_makes_no_worker(method: Method) {
    let (started, reader) = start_with_pipe(&*method.spawner(), "have a child", b"");
    assert_eq!(read_all(reader), "not a byte of mine is lost");
    assert_eq!(started.report().exit, Exit::Code(0));
    assert!(!ForkServerEntry.is_worker());
}

fn workers_die_with_a_killed_parent(method: Method) {
    // The server may be stopped too.
    for stops_server in [false, cfg!(target_os = "linux")] {
        let mut parent = bystander("parent", method).spawn().expect("it starts");
        let mut lines = BufReader::new(parent.stdout.take().expect("piped"));
        let mut pids = Vec::new();
        for _ in 0..3 {
            let mut line = String::new();
            lines.read_line(&mut line).expect("a line");
            pids.push(line.trim().parse::<i32>().expect("a pid"));
        }
        #[cfg(target_os = "linux")]
        {
            crate::linux::stop(pids[2]);
            if stops_server {
                crate::linux::stop(crate::linux::parent_of(pids[0]));
            }
        }
        parent.kill().expect("killed");
        parent.wait().expect("it ends");
        let start = Instant::now();
        // They share the pipe, so its end is theirs.
        assert_eq!(read_all(lines), "");
        println!("{pids:?} and their server (stopped: {stops_server}) were gone after {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}

fn what_is_not_ready_is_refused(method: Method) {
    match method {
        Method::ForkServer => {
            assert!(matches!(ForkServer::new().check(), Err(SpawnError::InitNotCalled)));
            let refused = start(&ForkServer::new(), "exit", &[0], vec![]);
            assert!(matches!(refused.map(drop), Err(SpawnError::InitNotCalled)));
        }
        Method::Fork => {
            let refused = start(&Fork::new(), "exit", &[0], vec![]).map(drop).expect_err("not prepared");
            assert!(refused.to_string().contains("no pool was built"), "{refused}");
            let fork = Fork::new();
            fork.prepare_with(|_, _| 0).expect("the first time");
            let refused = fork.prepare_with(|_, _| 0).expect_err("the second time");
            assert!(refused.to_string().contains("another pool's"), "{refused}");
        }
    }
}

fn a_hook_makes_workers_differ(method: Method) {
    let spawner = method.spawner();
    let rolls = [(); 2].map(|()| {
        let (started, reader) = start_with_pipe(&*spawner, "dice", b"");
        let text = read_all(reader);
        started.report();
        let (dice, other) = text.split_once(' ').expect("two numbers");
        (dice.to_owned(), other.to_owned())
    });
    assert_eq!(rolls[0].0, rolls[1].0, "copied");
    assert_ne!(rolls[0].1, rolls[1].1, "rolled again");
}

fn a_panicking_hook_is_told(method: Method) {
    let report = start(&*method.spawner(), "return", &[0], vec![]).expect("started").report();
    assert!(matches!(report.exit, Exit::Code(1..)), "{report:?}");
    assert!(report.last_words.is_some_and(|words| words.contains("hook")));
}
