//! `test_shutdown.py`: the end of a pool, and of a program.

use std::process::Stdio;
use std::sync::mpsc;

use process_pool::{Shutdown, SubmitError, TaskError, TaskHandle, as_completed};
use xtests::calls::{exit, same, submit};
use xtests::gate::{Gate, PATIENCE, wait_at};
use xtests::runner::{Subject, skip};

use crate::programs::{command_for, printed};

const NO_WAIT: Shutdown = Shutdown { wait: false, cancel_futures: false, timeout: None, grace: None };

/// A program that returns from `main` has done what it submitted, and ends without a word.
pub(crate) fn interpreter_shutdown(subject: &Subject) {
    for _ in 0..3 {
        let output = command_for(subject, "drops its pool", "the first").output().expect("it runs");
        let text = printed(output);
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["the first", "the last"]);
    }
}

/// A shutdown that does not wait, and the end of `main`: what runs is finished, and then the program ends.
pub(crate) fn hang_gh83386(subject: &Subject) {
    let gate = Gate::new();
    let mut command = command_for(subject, "shuts down without waiting", &gate.port().to_string());
    let program = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    gate.arrival().pass();
    assert_eq!(printed(program.wait_with_output().expect("it ends")), "done\n");
}

/// There it is refused. Here a pool in a static works until the process is gone, and holds nothing up.
pub(crate) fn submit_after_interpreter_shutdown(subject: &Subject) {
    if cfg!(not(unix)) {
        skip("no handler is registered on this system");
    }
    let output = command_for(subject, "submits at exit", "").output().expect("it runs");
    assert_eq!(printed(output), "144 at exit\n");
}

/// With a shutdown that waits; as in CPython's, which gives what runs a tenth of a second.
pub(crate) fn cancel_futures(subject: &Subject) {
    let (pool, gate) = (subject.pool(2), Gate::new());
    let running: Vec<_> = (0..2).map(|_| submit(&pool, wait_at, gate.port())).collect();
    let visitors = gate.arrivals(2);
    let queued: Vec<_> = (0..50).map(|n| submit(&pool, same, n)).collect();
    let (sender, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pool.shutdown(Shutdown { cancel_futures: true, ..Shutdown::default() });
            sender.send(()).expect("the case listens");
        });
        // Those who wait are told, though the shutdown goes on.
        let cancelled =
            as_completed(queued, None).filter(|handle| handle.as_ref().is_ok_and(TaskHandle::cancelled));
        assert_eq!(cancelled.count(), 50);
        assert!(ended.try_recv().is_err() && running.iter().all(TaskHandle::running));
        drop(visitors);
        ended.recv_timeout(PATIENCE).expect("it ends");
    });
    assert!(running.into_iter().all(|handle| handle.result().is_ok()));
}

fn refuse((): ()) {
    panic!("refused");
}

/// Calls that fail in every way, a worker for each, and a pool that is shut down or dropped meanwhile.
pub(crate) fn shutdown_gh_132969(subject: &Subject) {
    for drop_it in [false, true] {
        let builder = subject.builder().max_workers(1).max_tasks_per_child(1);
        let (pool, gate) = (builder.build().expect("a pool"), Gate::new());
        let first = submit(&pool, wait_at, gate.port());
        let visitor = gate.arrival();
        let panics = submit(&pool, refuse, ());
        let dies = submit(&pool, exit, 4);
        let last = submit(&pool, same, 9);
        pool.shutdown(NO_WAIT);
        visitor.pass();
        if drop_it {
            drop(pool);
        }
        first.result().expect("a result");
        assert!(matches!(panics.result(), Err(TaskError::Panicked(_))));
        assert!(matches!(dies.result(), Err(TaskError::WorkerLost(_))));
        assert_eq!(last.result().expect("a result"), 9);
    }
}

/// D18: nothing is locked by a shutdown that waits.
pub(crate) fn submit_while_another_thread_shuts_down(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let running = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    let queued = submit(&pool, same, 3);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| pool.shutdown(Shutdown::default()));
        while pool.submit(same, 1).is_ok() {
            std::thread::yield_now();
        }
        // It waits now, and everything else answers.
        assert!(matches!(pool.submit(same, 1), Err(SubmitError::ShutDown)));
        assert!(pool.broken().is_none() && pool.pending() >= 2 && pool.workers() == 1);
        pool.shutdown(NO_WAIT);
        assert!(queued.cancel() && running.running() && !waits.is_finished());
        visitor.pass();
    });
    running.result().expect("a result");
}
