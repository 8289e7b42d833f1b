//! `map`: order, chunks, bounds, errors in their places.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use process_pool::error::CodecStep;
use process_pool::{Bytes, Executor, Shutdown, SubmitError, TaskError};
use xtests::calls::{exit, run, same, submit};
use xtests::gate::{Gate, wait_at};
use xtests::processes::eventually;
use xtests::runner::Subject;

use crate::tools::{Act, Whim, file, leave_trace, traces};

fn square(n: u64) -> u64 {
    n * n
}

/// Panics for multiples of 5.
fn picky(n: u64) -> u64 {
    assert!(!n.is_multiple_of(5), "{n} is a multiple of 5");
    n
}

/// Ends the worker for 0.
fn fatal(n: u64) -> u64 {
    if n == 0 {
        exit(2);
    }
    n
}

fn wait_if((port, n): (u16, u64)) -> u64 {
    if port != 0 {
        wait_at(port);
    }
    n
}

fn whim_unless((n, encoding): (u64, Act)) -> (u64, Whim) {
    (n, Whim::when_encoded(encoding))
}

/// Takes so many milliseconds.
fn take((ms, n): (u64, u64)) -> u64 {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(ms) {
        std::hint::spin_loop();
    }
    n
}

/// Counts what is taken of `0..end`.
fn counted(taken: &Cell<u64>, end: u64) -> impl Iterator<Item = u64> {
    (0..end).inspect(|_| taken.set(taken.get() + 1))
}

/// CPython: `test_map`, `test_map_chunksize`.
pub(crate) fn map_equals_the_sequential_one_whatever_the_chunks(subject: &Subject) {
    let pool = subject.pool(2);
    let expected: Vec<u64> = (0..41).map(square).collect();
    let plain: Vec<_> = pool.map(square, 0..41).collect::<Result<_, _>>().expect("results");
    assert_eq!(plain, expected);
    for chunksize in [1, 3, 6, 40, 41, 50, 1_000_000] {
        let map = pool.map(square, 0..41).chunksize(chunksize);
        assert_eq!(map.collect::<Result<Vec<_>, _>>().expect("results"), expected, "chunks of {chunksize}");
    }
}

/// CPython: `test_map_on_multiple_iterables`; in Rust, one of tuples.
pub(crate) fn several_inputs_go_in_a_tuple(subject: &Subject) {
    let pool = subject.pool(2);
    let inputs = (2..6_u64).zip((0..3_u32).cycle());
    let powers: Result<Vec<_>, _> = pool.map(|(base, exponent)| u64::pow(base, exponent), inputs).collect();
    assert_eq!(powers.expect("results"), [1, 3, 16, 1]);
}

/// CPython: `test_map_chunksize` and `test_map_buffersize_value_validation`, of zero.
pub(crate) fn sizes_of_zero_are_refused_and_no_input_is_taken(subject: &Subject) {
    let (pool, taken) = (subject.pool(1), Cell::new(0));
    let chunks = pool.map(square, counted(&taken, 5)).chunksize(0).start();
    assert!(matches!(chunks, Err(SubmitError::Zero("chunksize"))));
    let mut buffer = pool.map(square, counted(&taken, 5)).buffersize(0);
    assert!(matches!(buffer.next(), Some(Err(TaskError::Refused(SubmitError::Zero("buffersize"))))));
    assert!(buffer.next().is_none());
    assert_eq!(taken.get(), 0);
}

/// Maps over a pool of one worker, and when so many results were yielded looks at all the chunks that are made until
/// what was submitted by then is yielded too: the number of each one's first input, and how many it has.
///
/// The worker stands at a gate meanwhile, behind those earlier chunks, so that the number of calls that are pending
/// grows by one with each chunk, and for no other reason.
fn chunks_made_after(
    yielded: usize,
    pool: &Executor,
    inputs: impl Iterator<Item = (u64, u64)>,
    buffersize: usize,
) -> Vec<(usize, usize)> {
    let (gate, taken) = (Gate::new(), RefCell::new(Vec::new()));
    let inputs = inputs.inspect(|_| taken.borrow_mut().push(pool.pending()));
    let mut map = pool.map(take, inputs).buffersize(buffersize).start().expect("accepted");
    for n in 0..yielded {
        assert_eq!(map.next().expect("an item").expect("a result"), n as u64);
    }
    let before = taken.borrow().len();
    let at_gate = submit(pool, wait_at, gate.port());
    let visitor = gate.arrival();
    for n in yielded..before {
        assert_eq!(map.next().expect("an item").expect("a result"), n as u64);
    }
    let pending = taken.borrow()[before..].to_vec();
    visitor.pass();
    at_gate.result().expect("a result");
    let sizes = pending.chunk_by(|a, b| a == b).map(<[usize]>::len);
    sizes.scan(before, |next, size| Some((std::mem::replace(next, *next + size), size))).collect()
}

pub(crate) fn chunks_grow_with_what_is_measured(subject: &Subject) {
    let pool = subject.pool(1);
    let later = chunks_made_after(500, &pool, (0..).map(|n| (0, n)), 64);
    let largest = later.iter().map(|(_, size)| *size).max().expect("some were made");
    // Two of them fit, for the one worker.
    assert!((8..=32).contains(&largest), "{later:?}");
}

/// Without a gate before it, the map would learn of the first calls while it submits.
pub(crate) fn nothing_is_chunked_before_something_is_measured(subject: &Subject) {
    let (pool, gate, taken) = (subject.pool(1), Gate::new(), RefCell::new(Vec::new()));
    let long = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    let inputs = (0..40).inspect(|_| taken.borrow_mut().push(pool.pending()));
    let map = pool.map(square, inputs).start().expect("accepted");
    assert_eq!(*taken.borrow(), (1..=40).collect::<Vec<_>>(), "one call for each input");
    visitor.pass();
    assert_eq!(map.filter(Result::is_ok).count(), 40);
    long.result().expect("a result");
}

/// Each call has a worker of its own, so that those of a chunk are told by its process. By time alone, chunks of such
/// quick items would have more of them.
pub(crate) fn no_chunk_takes_more_bytes_than_a_pipe_but_for_a_single_item(subject: &Subject) {
    let pool = subject.builder().max_workers(1).max_tasks_per_child(1).build().expect("a pool");
    for (bytes, most) in [(20_000, 3), (70_000, 1)] {
        let inputs = (0..60).map(|_| Bytes::from(vec![1; bytes]));
        let map = pool.map(|_: Bytes| std::process::id(), inputs).buffersize(16);
        let workers: Vec<_> = map.map(|result| result.expect("a result")).collect();
        let chunks: Vec<_> = workers.chunk_by(|a, b| a == b).map(<[u32]>::len).collect();
        assert!(chunks.iter().all(|size| *size <= most), "of {bytes} bytes: {chunks:?}");
    }
}

pub(crate) fn a_slow_item_makes_the_next_chunks_small(subject: &Subject) {
    let pool = subject.pool(1);
    // One in eight, from some time on.
    let slow = |n: u64| if n >= 400 && n.is_multiple_of(8) { 20 } else { 0 };
    let chunks = chunks_made_after(440, &pool, (0..).map(|n| (slow(n), n)), 64);
    let sizes: Vec<_> = chunks.iter().map(|(_, size)| *size).collect();
    assert!(sizes.contains(&1), "{sizes:?}");
    let quick = chunks_made_after(440, &pool, (0..).map(|n| (0, n)), 64);
    assert!(quick.len() < chunks.len(), "quick {quick:?}, slow {chunks:?}");
}

pub(crate) fn chunks_become_small_near_a_known_end(subject: &Subject) {
    let pool = subject.pool(1);
    let end = 600;
    let chunks = chunks_made_after(530, &pool, (0..end as u64).map(|n| (0, n)), 64);
    // How near depends on how large they were before.
    assert!(!chunks.is_empty(), "not all is taken when so much is yielded");
    for (first, size) in &chunks {
        assert!(*size <= ((end - first) / 2).max(1), "{size} of the last {}: {chunks:?}", end - first);
    }
}

/// The chunks are large by then.
pub(crate) fn errors_keep_their_places_in_chunks_of_any_size(subject: &Subject) {
    let pool = subject.pool(2);
    let quick = (0..600_u64).map(|n| 5 * n + 1);
    let inputs: Vec<_> = quick.chain(0..20).collect();
    for ordered in [true, false] {
        let map = pool.map(picky, inputs.clone());
        let map = if ordered { map } else { map.unordered() };
        let results: Vec<_> = map.collect();
        assert_eq!(results.len(), inputs.len());
        let mut messages = Vec::new();
        for (n, result) in inputs.iter().zip(results) {
            match result {
                Ok(result) => assert!(!ordered || result == *n),
                Err(TaskError::Panicked(panicked)) => {
                    assert!(!ordered || panicked.message == format!("{n} is a multiple of 5"));
                    messages.push(panicked.message);
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        messages.sort_unstable();
        assert_eq!(messages, [0, 10, 15, 5].map(|n| format!("{n} is a multiple of 5")));
    }
}

/// Each of the inputs fits into a frame, and no two of the large ones.
pub(crate) fn inputs_that_fit_singly_are_not_too_large_together(subject: &Subject) {
    let frame_max = 16 << 10;
    let pool = subject.builder_of_frames(frame_max).max_workers(1).build().expect("a pool");
    let inputs = (0..600_usize).map(|n| if n < 500 { vec![1_u8; 3] } else { vec![1; 9 << 10] });
    let expected = inputs.clone().map(|input| input.len());
    let results = pool.map(|input: Vec<u8>| input.len(), inputs);
    assert!(results.map(|result| result.expect("a result")).eq(expected));
    // One that does not fit at all is an error in its place.
    let inputs = [vec![1_u8; 3], vec![1; 2 * frame_max], vec![1; 5]];
    let results: Vec<_> = pool.map(|input: Vec<u8>| input.len(), inputs).collect();
    assert!(
        matches!(results[..], [Ok(3), Err(TaskError::Refused(SubmitError::TooLarge { .. })), Ok(5)]),
        "{results:?}"
    );
}

/// Lengths that are told in one byte, and others.
pub(crate) fn items_of_any_length_keep_their_places(subject: &Subject) {
    let pool = subject.pool(2);
    let lengths = [0, 1, 126, 127, 128, 129, 3, 70_000, 5, 300_000, 2, 2, 130, 0];
    let inputs = || lengths.iter().cycle().take(100).map(|length| vec![*length as u8; *length]);
    for chunksize in [Some(1), Some(2), Some(30), None] {
        let map = pool.map(|input: Vec<u8>| (input.len(), input), inputs());
        let map = match chunksize {
            Some(chunksize) => map.chunksize(chunksize),
            None => map,
        };
        let expected = inputs().map(|input| (input.len(), input));
        assert!(map.map(|result| result.expect("a result")).eq(expected), "chunks of {chunksize:?}");
    }
}

/// CPython: `test_map_exception`, as of 3.16: iteration goes on, also within chunks.
pub(crate) fn a_panic_is_an_error_in_its_place(subject: &Subject) {
    let pool = subject.pool(2);
    for chunksize in [1, 3, 20] {
        let results: Vec<_> = pool.map(picky, 0..20).chunksize(chunksize).collect();
        assert_eq!(results.len(), 20);
        for (n, result) in (0..).zip(results) {
            match result {
                Ok(result) => assert!(result == n && n % 5 != 0),
                Err(TaskError::Panicked(panicked)) => {
                    assert_eq!(panicked.message, format!("{n} is a multiple of 5"));
                    assert!(panicked.location.as_deref().is_some_and(|place| place.contains("map.rs")));
                    assert!(panicked.backtrace.is_some());
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

/// D11, D43.
pub(crate) fn what_cannot_be_encoded_or_decoded_is_an_error_in_its_place(subject: &Subject) {
    let pool = subject.pool(2);
    for chunksize in [1, 4, 20] {
        // The argument, in the parent; then in the worker; then the result, in the worker.
        let whim = |n: u64| match n % 3 {
            0 if n.is_multiple_of(2) => Whim::when_encoded(Act::Refuse),
            0 => Whim::when_decoded(Act::Refuse),
            _ => Whim::NONE,
        };
        let results: Vec<_> =
            pool.map(|(n, _): (u64, Whim)| n, (0..20).map(|n| (n, whim(n)))).chunksize(chunksize).collect();
        assert_eq!(results.len(), 20);
        for (n, result) in (0..).zip(results) {
            match result {
                Ok(result) => assert!(result == n && n % 3 != 0),
                Err(TaskError::Refused(SubmitError::Codec(error))) => {
                    assert!(n % 6 == 0 && error.step == CodecStep::EncodeArgument);
                }
                Err(TaskError::Codec(error)) => {
                    assert!(n % 6 == 3 && error.step == CodecStep::DecodeArgument);
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        let act = |n: u64| if n == 7 { Act::Refuse } else { Act::Behave };
        let results: Vec<_> = pool.map(whim_unless, (0..10).map(|n| (n, act(n)))).chunksize(chunksize).collect();
        for (n, result) in (0..).zip(results) {
            match result {
                Ok((result, _)) => assert!(result == n && n != 7),
                Err(TaskError::Codec(error)) => assert!(n == 7 && error.step == CodecStep::EncodeResult),
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

/// A result of one item that the parent cannot decode: the next ones are not shifted.
pub(crate) fn a_result_that_cannot_be_decoded_is_an_error_in_its_place(subject: &Subject) {
    let pool = subject.pool(1);
    let make = |n: u64| (n, if n == 3 { Whim::when_decoded(Act::Refuse) } else { Whim::NONE });
    let results: Vec<_> = pool.map(make, 0..8).chunksize(5).collect();
    for (n, result) in (0..).zip(results) {
        match result {
            Ok((result, _)) => assert!(result == n && n != 3),
            Err(TaskError::Codec(error)) => assert!(n == 3 && error.step == CodecStep::DecodeResult),
            Err(error) => panic!("{error:?}"),
        }
    }
}

pub(crate) fn a_lost_worker_takes_its_chunk_and_no_other(subject: &Subject) {
    let pool = subject.pool(2);
    for chunksize in [1, 4] {
        let inputs = [5, 6, 0, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        let results: Vec<_> = pool.map(fatal, inputs).chunksize(chunksize).collect();
        assert_eq!(results.len(), inputs.len());
        for (index, (input, result)) in inputs.into_iter().zip(results).enumerate() {
            let doomed = index / chunksize == 2 / chunksize;
            match result {
                Ok(result) => assert!(result == input && !doomed),
                Err(error) => assert!(doomed && matches!(error, TaskError::WorkerLost(_)), "{error:?}"),
            }
        }
    }
}

/// CPython: `test_map_timeout`: early results, then one error, then the end.
pub(crate) fn a_timeout_ends_the_map_after_what_came_in_time(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    run(&pool, same, 1);
    let inputs = [(0, 1), (0, 2), (gate.port(), 3), (0, 4)];
    let limit = Duration::from_secs(2);
    let start = Instant::now();
    let mut map = pool.map(wait_if, inputs).timeout(limit);
    assert!(matches!(map.next(), Some(Ok(1))));
    assert!(matches!(map.next(), Some(Ok(2))));
    let visitor = gate.arrival();
    assert!(matches!(map.next(), Some(Err(TaskError::MapTimedOut(timeout))) if timeout == limit));
    assert!(start.elapsed() >= limit);
    assert!(map.next().is_none());
    assert!(map.next().is_none());
    // One may wait at the worker, where a transport that cannot take it back leaves it.
    let beyond_reach = usize::from(subject.caps().revocable.is_none());
    assert!((1..=1 + beyond_reach).contains(&pool.pending()), "what has not started is cancelled");
    visitor.pass();
    assert_eq!(run(&pool, same, 1), 1);
}

/// gh-155852: a call's own error is not the map's timeout. gh-136578: the clock runs from the start.
pub(crate) fn a_timeout_that_does_not_pass_changes_nothing(subject: &Subject) {
    let pool = subject.pool(2);
    let map = pool.map(square, 0..100).timeout(Duration::MAX).chunksize(7);
    assert_eq!(map.filter(Result::is_ok).count(), 100);
    let mut late = pool.map(square, 0..3).timeout(Duration::ZERO).start().expect("accepted");
    let last = std::iter::from_fn(|| late.next()).last();
    assert!(matches!(last, Some(Err(TaskError::MapTimedOut(_))) | Some(Ok(4))), "{last:?}");
}

/// CPython: `test_map_buffersize`, `..._on_infinite_iterable`, `..._when_buffer_is_full`; D42: exact.
pub(crate) fn never_more_inputs_are_taken_than_the_bound_allows(subject: &Subject) {
    let pool = subject.pool(2);
    for (buffersize, chunksize) in [(1, 1), (4, 1), (10, 3), (2, 5)] {
        let (taken, yielded) = (Cell::new(0_u64), Cell::new(0_u64));
        let inputs = (0..).inspect(|_| {
            taken.set(taken.get() + 1);
            let ahead = taken.get() - yielded.get();
            assert!(ahead <= buffersize as u64, "{ahead} ahead of the results, bound {buffersize}");
        });
        let map = pool.map(square, inputs).buffersize(buffersize).chunksize(chunksize);
        assert_eq!(taken.get(), 0, "a map that is not started takes nothing");
        let mut map = map.start().expect("accepted");
        let first = taken.get();
        // Whole chunks, as many as fit.
        let chunksize = chunksize.min(buffersize);
        assert_eq!(first, (buffersize / chunksize * chunksize) as u64);
        for n in 0..50 {
            assert_eq!(map.next().expect("infinite").expect("a result"), square(n));
            yielded.set(yielded.get() + 1);
        }
    }
    // Where it chooses the chunks too; and without a bound of one's own it is as far ahead as it has come.
    for (buffersize, bound) in [(Some(1), 1), (Some(3), 3), (Some(100), 100), (None, 1024)] {
        let (taken, yielded) = (Cell::new(0_u64), Cell::new(0_u64));
        let inputs = (0..).inspect(|_| {
            taken.set(taken.get() + 1);
            let (ahead, bound) =
                (taken.get() - yielded.get(), if buffersize.is_none() { bound.max(yielded.get()) } else { bound });
            assert!(ahead <= bound, "{ahead} ahead of the results, bound {bound}");
        });
        let map = pool.map(square, inputs);
        let map = match buffersize {
            Some(buffersize) => map.buffersize(buffersize),
            None => map,
        };
        for (n, result) in (0..3000).zip(map) {
            assert_eq!(result.expect("a result"), square(n));
            yielded.set(n + 1);
        }
    }
}

/// CPython: `test_map_buffersize_on_empty_iterable`, `..._without_iterable`.
pub(crate) fn a_map_of_nothing_is_empty(subject: &Subject) {
    let pool = subject.pool(1);
    assert!(pool.map(square, []).next().is_none());
    assert!(pool.map(square, []).buffersize(1).chunksize(4).unordered().next().is_none());
    assert!(pool.worker_pids().is_empty(), "no worker is started for it");
}

/// Differs from CPython, where all inputs are taken at once.
pub(crate) fn an_infinite_input_is_bounded_by_default(subject: &Subject) {
    let (pool, taken) = (subject.pool(2), Cell::new(0));
    let first: Vec<_> =
        pool.map(square, counted(&taken, u64::MAX)).take(10).collect::<Result<_, _>>().expect("results");
    assert_eq!(first, (0..10).map(square).collect::<Vec<_>>());
    assert!(taken.get() <= 1024 + 10);
}

/// CPython: `test_map_submits_without_iteration` (issue11777); here `start` is what does it.
pub(crate) fn a_started_map_runs_without_being_iterated(subject: &Subject) {
    let (pool, path) = (subject.pool(2), file(&subject.dir));
    let map = pool.map(leave_trace, (0..20).map(|n| (path.clone(), n))).start().expect("accepted");
    pool.shutdown(Shutdown::default());
    let mut ran = traces(&path);
    ran.sort_unstable();
    assert_eq!(ran, (0..20).collect::<Vec<_>>());
    assert_eq!(map.filter(Result::is_ok).count(), 20);
}

pub(crate) fn results_keep_the_order_of_their_inputs(subject: &Subject) {
    let (pool, gate) = (subject.pool(2), Gate::new());
    let inputs = (0..50).map(|n| (if n == 0 { gate.port() } else { 0 }, n));
    let mut map = pool.map(wait_if, inputs).start().expect("accepted");
    let visitor = gate.arrival();
    eventually("the others are done", || pool.pending() == 1);
    visitor.pass();
    assert_eq!(map.by_ref().collect::<Result<Vec<_>, _>>().expect("results"), (0..50).collect::<Vec<_>>());
}

pub(crate) fn an_unordered_map_yields_what_is_there(subject: &Subject) {
    let (pool, gate) = (subject.pool(2), Gate::new());
    for chunksize in [1, 4] {
        let inputs = (0..40).map(|n| (if n == 0 { gate.port() } else { 0 }, n));
        let mut map = pool.map(wait_if, inputs).unordered().chunksize(chunksize).start().expect("accepted");
        let visitor = gate.arrival();
        let mut results: Vec<_> =
            map.by_ref().take(40 - chunksize).map(|result| result.expect("a result")).collect();
        assert!(!results.contains(&0), "the first chunk still waits");
        visitor.pass();
        results.extend(map.map(|result| result.expect("a result")));
        results.sort_unstable();
        assert_eq!(results, (0..40).collect::<Vec<_>>());
    }
}

pub(crate) fn an_unordered_map_has_every_error_too(subject: &Subject) {
    let pool = subject.pool(2);
    let results: Vec<_> = pool.map(picky, 0..20).unordered().chunksize(3).collect();
    assert_eq!((results.len(), results.iter().filter(|result| result.is_err()).count()), (20, 4));
}

/// CPython: `test_map_close`, `test_executor_map_current_future_cancel` (gh-95166).
pub(crate) fn dropping_a_map_cancels_what_has_not_started(subject: &Subject) {
    let (pool, gate, path) = (subject.pool(1), Gate::new(), file(&subject.dir));
    let long = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    for iterated in [false, true] {
        let map = pool.map(leave_trace, (0..30).map(|n| (path.clone(), n)));
        let mut map =
            map.timeout(Duration::from_millis(if iterated { 5 } else { 60_000 })).start().expect("accepted");
        if iterated {
            assert!(matches!(map.next(), Some(Err(TaskError::MapTimedOut(_)))));
        }
        drop(map);
        assert_eq!(pool.pending(), 1);
    }
    visitor.pass();
    long.result().expect("a result");
    drop(pool);
    assert!(traces(&path).is_empty());
}

/// gh-146392: CPython ends a bounded map silently, or with an error out of place.
pub(crate) fn a_shutdown_ends_a_bounded_map_with_an_error(subject: &Subject) {
    let pool = subject.pool(1);
    let mut map = pool.map(square, 0..).buffersize(4).start().expect("accepted");
    pool.shutdown(Shutdown::default());
    for n in 0..4 {
        assert_eq!(map.next().expect("submitted before").expect("a result"), square(n));
    }
    assert!(matches!(map.next(), Some(Err(TaskError::Refused(SubmitError::ShutDown)))));
    assert!(map.next().is_none());
    let late = pool.map(square, 0..3).start();
    assert!(matches!(late, Err(SubmitError::ShutDown)));
    let results: Vec<_> = pool.map(square, 0..3).collect();
    assert!(matches!(results[..], [Err(TaskError::Refused(SubmitError::ShutDown))]));
}

pub(crate) fn several_threads_map_over_one_pool(subject: &Subject) {
    let pool = subject.pool(2);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let pool = &pool;
            scope.spawn(move || {
                let inputs = thread * 1_000..thread * 1_000 + 500;
                let map = pool.map(square, inputs.clone()).chunksize(7).buffersize(60);
                assert!(map.zip(inputs).all(|(result, n)| result.is_ok_and(|result| result == square(n))));
            });
        }
    });
}

/// Ten thousand items, in order and out of it.
pub(crate) fn a_long_map_yields_all(subject: &Subject) {
    let pool = subject.pool(2);
    let sum: u64 = pool.map(square, 0..10_000).chunksize(50).map(|result| result.expect("a result")).sum();
    let unordered: u64 = pool.map(square, 0..10_000).unordered().map(|result| result.expect("a result")).sum();
    assert_eq!((sum, unordered), ((0..10_000).map(square).sum(), sum));
}
