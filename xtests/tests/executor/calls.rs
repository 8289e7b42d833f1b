//! One call: its argument, its result, its errors.

use std::panic::panic_any;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};

use process_pool::error::CodecStep;
use process_pool::{Bytes, SubmitError, TaskError, TaskHandle};
use serde::{Deserialize, Deserializer, Serialize};
use xtests::calls::{pid, run, same, submit};
use xtests::gate::{Gate, wait_at};
use xtests::runner::{Subject, skip};

use crate::tools::{Act, Whim, file, leave_trace, make_whim, traces};

/// CPython: `test_submit`.
pub(crate) fn a_submitted_call_returns_its_result(subject: &Subject) {
    let pool = subject.pool(1);
    assert_eq!(run(&pool, |(base, exponent)| u64::pow(base, exponent), (2, 8)), 256);
    assert_eq!(pool.context(), subject.context);
}

pub(crate) fn closures_generic_functions_and_methods_can_be_submitted(subject: &Subject) {
    fn size<T: 'static>((): ()) -> usize {
        size_of::<T>()
    }
    let pool = subject.pool(1);
    assert_eq!(run(&pool, size::<u16>, ()), 2);
    assert_eq!(run(&pool, size::<[u64; 5]>, ()), 40);
    assert_eq!(run(&pool, |text: String| text.len(), "twelve bytes".to_owned()), 12);
    assert_eq!(run(&pool, u64::leading_zeros, 1), 63);
}

pub(crate) fn a_worker_is_another_process(subject: &Subject) {
    let pool = subject.pool(1);
    let worker = run(&pool, pid, ());
    assert_ne!(worker, std::process::id());
    assert_eq!(pool.worker_pids(), [worker]);
}

/// CPython's `error_during_func_exec`, as far as Rust has errors that are values.
pub(crate) fn an_err_that_a_call_returns_is_its_result(subject: &Subject) {
    let pool = subject.pool(1);
    let parse = |text: String| text.parse::<u8>().map_err(|error| error.to_string());
    assert_eq!(run(&pool, parse, "7".to_owned()), Ok(7));
    assert_eq!(run(&pool, parse, "seven".to_owned()), Err("invalid digit found in string".to_owned()));
}

fn throw_nothing((): ()) {
    panic_any(String::new());
}

fn throw_number((): ()) {
    panic_any(7_u64);
}

/// The idea of CPython's `test_swallows_falsey_exceptions`: an error that says nothing is still one.
pub(crate) fn an_empty_error_is_still_an_error(subject: &Subject) {
    let pool = subject.pool(1);
    assert_eq!(run(&pool, |()| Err::<(), ()>(()), ()), Err(()));
    match submit(&pool, throw_nothing, ()).result() {
        Err(TaskError::Panicked(panicked)) => assert_eq!(panicked.message, ""),
        other => panic!("{other:?}"),
    }
}

fn panic_with(word: String) -> u32 {
    panic!("no {word} today")
}

/// CPython: `test_traceback`; here the worker lives on, too.
pub(crate) fn a_panic_is_reported_with_its_place_and_costs_no_worker(subject: &Subject) {
    let pool = subject.pool(1);
    let before = run(&pool, pid, ());
    let error = submit(&pool, panic_with, "cheese".to_owned()).result().expect_err("it panicked");
    let TaskError::Panicked(panicked) = &error else { panic!("{error:?}") };
    assert_eq!(panicked.message, "no cheese today");
    assert!(panicked.task.ends_with("panic_with"), "{}", panicked.task);
    let location = panicked.location.as_deref().expect("a place");
    assert!(location.contains("calls.rs:"), "{location}");
    // The runner has turned backtraces on.
    let backtrace = panicked.backtrace.as_deref().expect("a backtrace");
    assert!(backtrace.contains("panic_with"), "{backtrace}");
    assert!(error.to_string().contains("no cheese today"), "{error}");
    assert_eq!(run(&pool, pid, ()), before);
}

pub(crate) fn a_panic_whose_payload_is_no_text_is_reported(subject: &Subject) {
    let pool = subject.pool(1);
    let before = run(&pool, pid, ());
    let result = submit(&pool, throw_number, ()).result();
    assert!(matches!(result, Err(TaskError::Panicked(_))), "{result:?}");
    assert_eq!(run(&pool, pid, ()), before);
}

/// CPython: `error_at_task_pickle` (`test_deadlock.py`). Differs: `submit` refuses it.
pub(crate) fn an_argument_that_cannot_be_encoded_is_refused(subject: &Subject) {
    let pool = subject.pool(1);
    match pool.submit(|_: Whim| (), Whim::when_encoded(Act::Refuse)) {
        Err(SubmitError::Codec(error)) => {
            assert_eq!(error.step, CodecStep::EncodeArgument);
            assert!(error.type_name.ends_with("Whim"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(pool.pending(), 0);
    assert_eq!(run(&pool, same, 1), 1);
}

/// CPython: `error_at_task_unpickle`; there it breaks the pool.
pub(crate) fn an_argument_that_cannot_be_decoded_fails_its_call_only(subject: &Subject) {
    let pool = subject.pool(1);
    let before = run(&pool, pid, ());
    match submit(&pool, |_: Whim| (), Whim::when_decoded(Act::Refuse)).result() {
        Err(TaskError::Codec(error)) => assert_eq!(error.step, CodecStep::DecodeArgument),
        other => panic!("{other:?}"),
    }
    let result = submit(&pool, |_: Whim| (), Whim::when_decoded(Act::Panic)).result();
    assert!(matches!(result, Err(TaskError::Panicked(_))), "{result:?}");
    assert_eq!(run(&pool, pid, ()), before);
}

/// CPython: `exit_at_task_unpickle`, `crash_at_task_unpickle`.
pub(crate) fn a_worker_that_ends_while_it_decodes_an_argument_costs_that_call_only(subject: &Subject) {
    let pool = subject.pool(1);
    for act in [Act::Exit, Act::Abort] {
        let fatal = submit(&pool, |_: Whim| (), Whim::when_decoded(act));
        let next = submit(&pool, same, 5);
        assert!(matches!(fatal.result(), Err(TaskError::WorkerLost(_))));
        assert_eq!(next.result().expect("the next is not touched"), 5);
    }
}

/// CPython: `error_during_result_pickle_on_worker`.
pub(crate) fn a_result_that_cannot_be_encoded_fails_its_call_only(subject: &Subject) {
    let pool = subject.pool(1);
    let before = run(&pool, pid, ());
    match submit(&pool, make_whim, (Act::Refuse, Act::Behave)).result() {
        Err(TaskError::Codec(error)) => {
            assert_eq!(error.step, CodecStep::EncodeResult);
            assert!(error.message.contains("refused"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let result = submit(&pool, make_whim, (Act::Panic, Act::Behave)).result();
    assert!(matches!(result, Err(TaskError::Panicked(_))), "{result:?}");
    assert_eq!(run(&pool, pid, ()), before);
}

/// CPython: `crash_during_result_pickle_on_worker`, `exit_during_result_pickle_on_worker`.
pub(crate) fn a_worker_that_ends_while_it_encodes_a_result_costs_that_call_only(subject: &Subject) {
    let pool = subject.pool(1);
    for act in [Act::Exit, Act::Abort] {
        let fatal = submit(&pool, make_whim, (act, Act::Behave));
        let next = submit(&pool, same, 5);
        assert!(matches!(fatal.result(), Err(TaskError::WorkerLost(_))));
        assert_eq!(next.result().expect("the next is not touched"), 5);
    }
}

/// CPython: `error_during_result_unpickle_in_result_handler`; there it breaks the pool.
pub(crate) fn a_result_that_cannot_be_decoded_fails_its_call_only(subject: &Subject) {
    let pool = subject.pool(1);
    let handle = submit(&pool, make_whim, (Act::Behave, Act::Refuse));
    handle.wait();
    match handle.error() {
        Some(TaskError::Codec(error)) => assert_eq!(error.step, CodecStep::DecodeResult),
        other => panic!("{other:?}"),
    }
    assert!(matches!(handle.result(), Err(TaskError::Codec(_))));
    assert_eq!(run(&pool, make_whim, (Act::Behave, Act::Behave)), Whim::NONE);
}

pub(crate) fn a_result_of_another_type_than_asked_for_is_an_error(subject: &Subject) {
    let pool = subject.pool(1);
    // The named task answers with a number.
    let result = pool.submit_named::<u64, String>("double", 60).expect("accepted").result();
    assert!(matches!(result, Err(TaskError::Codec(_))), "{result:?}");
    assert_eq!(run(&pool, same, 1), 1);
}

pub(crate) fn a_named_task_runs_and_an_unknown_one_fails_its_call_only(subject: &Subject) {
    let pool = subject.pool(1);
    let handle = pool.submit_named::<u64, u64>("double", 21).expect("accepted");
    assert_eq!(handle.result().expect("a result"), 42);
    match pool.submit_named::<u64, u64>("treble", 21).expect("accepted").result() {
        Err(TaskError::UnknownTask(text)) => {
            assert!(text.contains("treble") && text.contains("double"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(run(&pool, same, 1), 1);
}

/// CPython: `test_no_failure_on_large_data_send` (loky), and the 64 MiB row of the crash matrix.
pub(crate) fn sixty_four_mebibytes_travel_both_ways(subject: &Subject) {
    let pool = subject.pool(2);
    let turn = |bytes: Bytes| bytes.iter().rev().copied().collect::<Bytes>();
    let mut blob = (0..1 << 16).map(|index: u32| (index ^ (index >> 8)) as u8).collect::<Vec<_>>().repeat(1 << 10);
    let back = run(&pool, turn, blob.clone().into());
    blob.reverse();
    assert!(*back == *blob);
    // As they are: what comes in goes out, without having been moved.
    let back = run(&pool, |bytes: Bytes| (bytes.slice(1..), bytes), blob.clone().into());
    assert!(*back.0 == blob[1..] && *back.1 == *blob);
}

/// Else a pool that carries large values both ways needs memory for one more of each.
pub(crate) fn a_large_argument_is_let_go_as_its_answer_begins_to_arrive(subject: &Subject) {
    struct Owner(Vec<u8>, Arc<OnceLock<TaskHandle<Bytes>>>, Sender<bool>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Owner {
        fn drop(&mut self) {
            let is_done = self.1.get().is_none_or(TaskHandle::done);
            self.2.send(is_done).expect("the case waits");
        }
    }
    fn turned((port, blob): (u16, Bytes)) -> Bytes {
        wait_at(port);
        blob.iter().rev().copied().collect()
    }
    if !cfg!(target_os = "linux") {
        skip("this transport cannot tell here whether a call has started");
    }
    if subject.context.to_string().ends_with("+ipc") {
        skip("a receiver of ipc-channel has a message when all of it has arrived");
    }
    let (pool, gate, handle) = (subject.pool(1), Gate::new(), Arc::new(OnceLock::new()));
    let (dropped, was_dropped) = channel();
    let owner = Owner(vec![7; 4 << 20], Arc::clone(&handle), dropped);
    let blob = Bytes::from(bytes::Bytes::from_owner(owner));
    let _ = handle.set(submit(&pool, turned, (gate.port(), blob)));
    gate.arrival().pass();
    assert_eq!(was_dropped.recv(), Ok(false), "the argument was kept until its call was settled");
    handle.get().expect("it was set").wait();
}

/// What a call was lent is its own as long as it likes, whatever comes through the link meanwhile.
pub(crate) fn a_blob_that_a_call_keeps_outlives_it(subject: &Subject) {
    static KEPT: Mutex<Vec<Bytes>> = Mutex::new(Vec::new());
    fn keep(blob: Bytes) -> usize {
        let mut kept = KEPT.lock().expect("one thread");
        kept.push(blob.slice(1..));
        kept.len()
    }
    fn kept(n: usize) -> Bytes {
        KEPT.lock().expect("one thread")[n].clone()
    }
    let pool = subject.pool(1);
    for n in 0..6_u8 {
        assert_eq!(run(&pool, keep, vec![n; 100_000].into()), usize::from(n) + 1);
        assert_eq!(run(&pool, |blob: Bytes| blob, vec![n; 100_000].into()).len(), 100_000);
    }
    for n in 0..6_u8 {
        assert!(*run(&pool, kept, n.into()) == [n; 99_999], "{n}");
    }
}

/// Frames beyond a pipe's capacity, in both directions at once (D13, D14).
pub(crate) fn frames_larger_than_a_pipe_cross_on_their_way(subject: &Subject) {
    let pool = subject.pool(2);
    let handles: Vec<_> = (0..64_u8)
        .map(|n| submit(&pool, |bytes: Bytes| bytes, Bytes::from(vec![n; 300_000 + usize::from(n)])))
        .collect();
    for (n, handle) in (0..64_u8).zip(handles) {
        assert!(*handle.result().expect("a result") == *vec![n; 300_000 + usize::from(n)]);
    }
}

pub(crate) fn what_exceeds_the_frame_limit_fails_its_call_only(subject: &Subject) {
    let pool = subject.builder_of_frames(1 << 16).max_workers(1).build().expect("a pool");
    let before = run(&pool, pid, ());
    let many = |length: usize| Bytes::from(vec![7; length]);
    match pool.submit(|bytes: Bytes| bytes.len(), many(1 << 16)) {
        Err(SubmitError::TooLarge { size, max, .. }) => assert!(size > max && max <= 1 << 16),
        other => panic!("{other:?}"),
    }
    match submit(&pool, many, 1 << 16).result() {
        Err(TaskError::TooLarge { size, max, .. }) => assert!(size > max && max <= 1 << 16),
        other => panic!("{other:?}"),
    }
    assert_eq!(run(&pool, many, 60_000).len(), 60_000);
    assert_eq!(run(&pool, pid, ()), before);
}

static HERE: AtomicI64 = AtomicI64::new(0);

/// Counts how many of it there are in this process.
#[derive(Debug, Serialize)]
struct Counted(u64);

impl Counted {
    fn new(n: u64) -> Self {
        HERE.fetch_add(1, Ordering::SeqCst);
        Self(n)
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self::new)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        HERE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// CPython: `test_ressources_gced_in_workers`, `test_free_reference`, `test_no_stale_references`.
pub(crate) fn arguments_and_results_are_dropped_on_both_sides(subject: &Subject) {
    let here = |()| HERE.load(Ordering::SeqCst);
    let pool = subject.pool(1);
    let handle = submit(&pool, |Counted(ref n): Counted| Counted::new(n + 1), Counted::new(6));
    assert_eq!(HERE.load(Ordering::SeqCst), 0, "the argument is gone when submit returns");
    handle.wait();
    assert_eq!(HERE.load(Ordering::SeqCst), 0, "a result is not decoded before it is asked for");
    let result = handle.result().expect("a result");
    assert_eq!((result.0, HERE.load(Ordering::SeqCst)), (7, 1));
    assert_eq!(run(&pool, here, ()), 0, "an idle worker holds nothing of its last call");
}

/// FIFO (S20): with one worker, calls start in the order in which they were submitted.
pub(crate) fn one_worker_starts_calls_in_the_order_submitted(subject: &Subject) {
    let (pool, path) = (subject.pool(1), file(&subject.dir));
    let handles: Vec<_> = (0..500).map(|n| submit(&pool, leave_trace, (path.clone(), n))).collect();
    for (n, handle) in (0..).zip(handles) {
        assert_eq!(handle.result().expect("a result"), n);
    }
    assert_eq!(traces(&path), (0..500).collect::<Vec<_>>());
}

static CALLS: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn a_worker_keeps_its_statics_from_call_to_call(subject: &Subject) {
    let pool = subject.pool(1);
    let count = |()| CALLS.fetch_add(1, Ordering::SeqCst);
    assert_eq!((0..5).map(|_| run(&pool, count, ())).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(CALLS.load(Ordering::SeqCst), 0);
}
