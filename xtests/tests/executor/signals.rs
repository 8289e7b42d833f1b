//! Signals: what workers make of them, whatever their parent does; and that the parent's are left alone.

use std::mem::MaybeUninit;
use std::ptr;

use process_pool::error::Exit;
use xtests::calls::{lost, run, submit};
use xtests::gate::{Gate, wait_at};
use xtests::runner::Subject;

/// Those that ask a process to end.
const ENDING: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

/// What a process does with its signals, as the system tells: those it blocks, ignores and handles.
fn signals((): ()) -> [u64; 3] {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("it tells");
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is told");
        u64::from_str_radix(line.trim(), 16).expect("a number")
    };
    [set("SigBlk:"), set("SigIgn:"), set("SigCgt:")]
}

fn has(set: u64, signal: i32) -> bool {
    set >> (signal - 1) & 1 == 1
}

/// Makes this process, and the calling thread, deaf to what asks it to end.
fn be_deaf() {
    for signal in ENDING {
        // SAFETY: no handler is installed.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `all` is writable; the call fills it.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: `all` is filled, and no old set is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut()) };
}

pub(crate) fn workers_hear_signals_that_their_parent_does_not(subject: &Subject) {
    be_deaf();
    let (pool, gate) = (subject.pool(1), Gate::new());
    let [blocked, ignored, handled] = run(&pool, signals, ());
    assert_eq!(blocked, 0, "{blocked:x}");
    for signal in ENDING {
        assert!(!has(ignored, signal) && !has(handled, signal), "{signal}: {ignored:x}, {handled:x}");
    }
    let call = submit(&pool, wait_at, gate.port());
    let _visitor = gate.arrival();
    pool.terminate_workers();
    assert_eq!(lost(call.result()).exit, Exit::Signal(libc::SIGTERM));
}

/// A broken pipe is an error there, as in any program in Rust; and what would stop a process in the background is one, too.
pub(crate) fn no_terminal_stops_a_worker(subject: &Subject) {
    let pool = subject.pool(1);
    let [_, ignored, _] = run(&pool, signals, ());
    for signal in [libc::SIGPIPE, libc::SIGTTIN, libc::SIGTTOU] {
        assert!(has(ignored, signal), "{signal}: {ignored:x}");
    }
}

pub(crate) fn the_parents_signals_are_left_alone(subject: &Subject) {
    // With its first thread the C library takes a signal for itself.
    std::thread::spawn(|| {}).join().expect("it does not panic");
    let before = signals(());
    let pool = subject.pool(2);
    crate::tools::all_there(&pool);
    assert_eq!(signals(()), before);
    drop(pool);
    assert_eq!(signals(()), before);
}
