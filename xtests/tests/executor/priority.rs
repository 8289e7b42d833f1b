//! Calls that are more or less urgent than others.

use std::time::Duration;

use process_pool::{CallOptions, Executor, TaskHandle};
use xtests::calls::{run, same, submit};
use xtests::gate::{Gate, wait_at};
use xtests::runner::Subject;

use crate::tools::{file, leave_trace, traces};

/// Long for a machine: whoever is at one call for so long is not at short ones.
const LONG: Duration = Duration::from_millis(50);

fn urgent(priority: i32) -> CallOptions {
    CallOptions::new().priority(priority)
}

fn trace_with(pool: &Executor, priority: i32, argument: (String, u64)) -> TaskHandle<u64> {
    pool.with(urgent(priority)).submit(leave_trace, argument).expect("accepted")
}

fn all_run(handles: Vec<TaskHandle<u64>>) {
    for handle in handles {
        handle.result().expect("it runs");
    }
}

/// S20: CPython has one queue, first in, first out.
pub(crate) fn the_most_urgent_call_starts_first(subject: &Subject) {
    let (pool, gate, path) = (subject.pool(1), Gate::new(), file(&subject.dir));
    let running = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    let priorities = [0, -1, 3, 0, 7, 3, -1, 0, i32::MAX, i32::MIN, 7];
    let handles: Vec<_> =
        (0..).zip(priorities).map(|(n, priority)| trace_with(&pool, priority, (path.clone(), n))).collect();
    visitor.pass();
    running.result().expect("it is let through");
    all_run(handles);
    assert_eq!(traces(&path), [8, 4, 10, 2, 5, 0, 3, 7, 1, 6, 9]);
}

pub(crate) fn an_urgent_call_overtakes_what_was_sent_ahead(subject: &Subject) {
    let (pool, gate, path) = (subject.pool(1), Gate::new(), file(&subject.dir));
    // Many are sent ahead to a worker whose calls were short.
    (0..200).for_each(|n| assert_eq!(run(&pool, same, n), n));
    let running = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    let mut handles: Vec<_> = (1..=20).map(|n| submit(&pool, leave_trace, (path.clone(), n))).collect();
    assert!(!running.wait_timeout(LONG), "by now it is known to take long");
    handles.push(trace_with(&pool, 1, (path.clone(), 0)));
    visitor.pass();
    all_run(handles);
    let traces = traces(&path);
    let place = traces.iter().position(|n| *n == 0).expect("it ran");
    // One is beyond reach elsewhere.
    let before = usize::from(subject.caps().revocable.is_none());
    assert!(place <= before, "{traces:?}");
    let others: Vec<_> = traces.iter().copied().filter(|n| *n != 0).collect();
    assert_eq!(others, (1..=20).collect::<Vec<_>>(), "those that were taken back keep their order");
}

pub(crate) fn a_map_may_be_more_urgent_than_calls(subject: &Subject) {
    let (pool, gate, path) = (subject.pool(1), Gate::new(), file(&subject.dir));
    let running = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    let handles: Vec<_> = (10..15).map(|n| submit(&pool, leave_trace, (path.clone(), n))).collect();
    let inputs: Vec<_> = (0..3).map(|n| (path.clone(), n)).collect();
    let map = pool.with(urgent(1)).map(leave_trace, inputs).chunksize(1).start().expect("a map");
    visitor.pass();
    assert_eq!(map.map(|result| result.expect("it runs")).collect::<Vec<_>>(), [0, 1, 2]);
    all_run(handles);
    running.result().expect("it is let through");
    assert_eq!(traces(&path), [0, 1, 2, 10, 11, 12, 13, 14]);
}

pub(crate) fn a_pool_has_a_priority_for_calls_that_have_none(subject: &Subject) {
    let builder = subject.builder().max_workers(1).call_options(urgent(5));
    let (pool, gate, path) = (builder.build().expect("a pool"), Gate::new(), file(&subject.dir));
    let running = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    let mut handles = vec![trace_with(&pool, 4, (path.clone(), 2)), trace_with(&pool, 6, (path.clone(), 0))];
    handles.push(submit(&pool, leave_trace, (path.clone(), 1)));
    visitor.pass();
    running.result().expect("it is let through");
    all_run(handles);
    assert_eq!(traces(&path), [0, 1, 2]);
}
