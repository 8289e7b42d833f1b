//! Cases for every system.

use std::time::{Duration, Instant};

use pool_core::error::Exit;
use pool_core::spawner::{Entry, Signal, SpawnError, Spawner};
use pool_spawn_exec::{Exec, ExecEntry};

use crate::harness::{Case, own, read_all, read_some, start, start_with_pipe};

pub(crate) fn all() -> Vec<Case> {
    vec![
        (
            "the_largest_ticket_fits_and_a_larger_one_is_refused",
            the_largest_ticket_fits_and_a_larger_one_is_refused,
        ),
        ("arguments_and_environment_arrive", arguments_and_environment_arrive),
        ("names_and_arguments_may_hold_anything", names_and_arguments_may_hold_anything),
        ("a_death_before_arriving_is_reported", a_death_before_arriving_is_reported),
        ("long_last_words_are_cut", long_last_words_are_cut),
        ("a_killed_worker_is_reported_at_once", a_killed_worker_is_reported_at_once),
        ("a_missing_program_is_named", a_missing_program_is_named),
        ("an_inherited_marker_makes_no_worker", an_inherited_marker_makes_no_worker),
        ("a_program_without_init_is_refused", a_program_without_init_is_refused),
    ]
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

fn names_and_arguments_may_hold_anything() {
    let folder = std::env::temp_dir().join(format!("pool exec {} & größer, 日本語", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder");
    let program = folder.join(format!("ein Wörker (✓) %PATH% $HOME{}", std::env::consts::EXE_SUFFIX));
    std::fs::copy(std::env::current_exe().expect("a path"), &program).expect("a copy of this program");
    let args = [
        "",
        " ",
        "two words",
        "tab\t",
        "\"",
        r"C:\",
        r"C:\a b\",
        r#"\\" \\\"#,
        "größer 日本 \u{1f980}",
        "*",
        "%PATH%",
        "^&|<>",
    ];
    let exec = Exec::program(&program).args(args).env("FLAVOUR", "süß & \"sauer\" 酸");
    let (started, reader) = start_with_pipe(&exec, "surroundings", b"");
    let text = read_all(reader);
    assert_eq!(started.report().exit, Exit::Code(0));
    let expected = format!("{:?} {:?}", [&["-"], &args[..]].concat(), Ok::<_, ()>("süß & \"sauer\" 酸"));
    let (_, expected) = expected.split_once(", ").expect("a program's name, and arguments");
    assert!(text.ends_with(expected), "{text}\n{expected}");
    std::fs::remove_dir_all(&folder).expect("removed");
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

fn long_last_words_are_cut() {
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
            Signal::Terminate if cfg!(unix) => assert_eq!(exit, Exit::Signal(15)),
            Signal::Kill | Signal::Terminate => assert_eq!(exit, Exit::KILLED),
        }
    }
    delays.sort();
    println!("from signal to report: {:?} .. {:?}", delays[0], delays[delays.len() - 1]);
    assert!(delays[0] < Duration::from_millis(if cfg!(windows) { 100 } else { 3 }), "{delays:?}");
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

fn a_program_without_init_is_refused() {
    assert!(matches!(Exec::new().check(), Err(SpawnError::InitNotCalled)));
    assert!(matches!(start(&Exec::new(), "exit", &[0], vec![]).map(drop), Err(SpawnError::InitNotCalled)));
    own().check().expect("now it has called it");
}
