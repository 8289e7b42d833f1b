//! Workers that arrive as they should and then break the rules of the protocol.

use process_pool::error::{BreakReason, CodecStep, Exit, StartError, WorkerLost};
use process_pool::spawn::Exec;
use process_pool::{Executor, TaskError};
use std::time::{Duration, Instant};
use xtests::calls::lost;
use xtests::cases;
use xtests::runner::{Case, Subject};

use crate::kit::{self, PROMPTLY};

pub(crate) const CASES: &[Case] = cases![
    a_first_frame_that_is_no_greeting_is_garbage,
    a_worker_of_another_release_is_named_by_its_version,
    a_worker_with_the_wrong_token_is_refused,
    a_worker_without_the_codec_is_refused,
    a_good_greeting_followed_by_garbage_is_garbage,
    a_length_beyond_the_limit_is_garbage,
    a_worker_that_ends_within_a_frame_has_ended,
    a_worker_that_ends_after_its_greeting_has_ended,
    a_worker_that_never_answers_is_given_up_at_the_start_deadline,
    a_live_worker_that_breaks_the_rules_is_a_failed_start,
    a_live_worker_that_leaves_its_calls_unstarted_costs_them_after_three_tries,
    breaking_the_rules_in_a_started_call_costs_that_call_alone,
    a_second_answer_is_ignored,
    an_answer_that_is_no_result_fails_that_call_alone,
];

fn worker(act: &str) -> Exec {
    Exec::program(env!("CARGO_BIN_EXE_hostile_worker")).arg(act)
}

fn with_worker(act: &str) -> Executor {
    let builder = kit::impatient(Executor::builder()).context(kit::program(worker(act)));
    builder.build().expect("a pool")
}

/// Two such workers in a row break the pool, and the last one's end is told.
#[track_caller]
fn comes_to_nothing(act: &str, is_right: impl Fn(&StartError) -> bool) {
    let start = Instant::now();
    let pool = with_worker(act);
    let calls = (0..3).map(|n| pool.submit_named::<u32, u32>("double", n).expect("taken")).collect();
    kit::breaks(pool, calls, |reason| match reason {
        BreakReason::TooManyFailures { failures: 2, last } => is_right(last),
        _ => false,
    });
    println!("{act}: {:?}", start.elapsed());
}

/// The calls that reached such a worker may have started for all that the pool knows, and are lost with it; the
/// pool goes on.
#[track_caller]
fn costs_what_it_was_sent(act: &str, is_right: impl Fn(&WorkerLost) -> bool) {
    let start = Instant::now();
    let pool = with_worker(act);
    for n in 0..5 {
        let call = pool.submit_named::<u32, u32>("double", n).expect("taken");
        let lost = lost(kit::settled(&call));
        assert!(lost.task == "double" && is_right(&lost), "{act}: {lost:?}");
    }
    assert!(pool.broken().is_none());
    drop(pool);
    assert!(start.elapsed() < PROMPTLY, "{:?}", start.elapsed());
}

/// Such a worker has been sent calls and has started none: where the pool can know that, it [comes to nothing].
///
/// [comes to nothing]: comes_to_nothing
#[track_caller]
fn starts_nothing(act: &str, is_right: impl Fn(&StartError) -> bool, is_right_loss: impl Fn(&WorkerLost) -> bool) {
    if kit::CLAIMS {
        comes_to_nothing(act, is_right);
    } else {
        costs_what_it_was_sent(act, is_right_loss);
    }
}

fn garbage(part: &str) -> impl Fn(&StartError) -> bool {
    move |last| matches!(last, StartError::Garbage(what) if what.contains(part))
}

fn a_first_frame_that_is_no_greeting_is_garbage(_: &Subject) {
    for act in ["garbage first", "empty first", "ready first", "reply first"] {
        comes_to_nothing(act, garbage("its first frame is no greeting"));
    }
    comes_to_nothing("wrong magic", garbage("magic"));
    comes_to_nothing("short hello", garbage("malformed"));
}

fn a_worker_of_another_release_is_named_by_its_version(_: &Subject) {
    comes_to_nothing("other version", |last| matches!(last, StartError::Version { ours: 5, theirs: 999 }));
}

fn a_worker_with_the_wrong_token_is_refused(_: &Subject) {
    comes_to_nothing("wrong token", |last| matches!(last, StartError::Token));
}

fn a_worker_without_the_codec_is_refused(_: &Subject) {
    comes_to_nothing("other codec", garbage("only pickle"));
}

fn a_good_greeting_followed_by_garbage_is_garbage(_: &Subject) {
    for act in ["hello then garbage", "hello twice", "bye early"] {
        comes_to_nothing(act, garbage("where it should say that it is ready"));
    }
    comes_to_nothing("malformed init failure", garbage("a malformed failure"));
}

fn a_length_beyond_the_limit_is_garbage(_: &Subject) {
    comes_to_nothing("too long", garbage("4294967280 bytes was announced"));
}

fn a_worker_that_ends_within_a_frame_has_ended(_: &Subject) {
    let ended = |last: &StartError| matches!(last, StartError::Ended { exit: Exit::Code(3), .. });
    comes_to_nothing("half a frame", ended);
    starts_nothing("half a frame late", ended, |lost| lost.exit == Exit::Code(3));
}

fn a_worker_that_ends_after_its_greeting_has_ended(_: &Subject) {
    let ended = |code| move |last: &StartError| matches!(last, StartError::Ended { exit, .. } if *exit == Exit::Code(code));
    comes_to_nothing("hello then exit", ended(5));
    starts_nothing("exit instead", ended(6), |lost| lost.exit == Exit::Code(6));
    // Elsewhere it is a matter of time whether a call was sent to it.
    if kit::CLAIMS {
        comes_to_nothing("ready then exit", ended(6));
    }
}

fn a_worker_that_never_answers_is_given_up_at_the_start_deadline(_: &Subject) {
    for act in ["silent", "never ready"] {
        let deadline = Duration::from_millis(300);
        let builder = kit::impatient(Executor::builder()).start_deadline(deadline);
        let pool = builder.context(kit::program(worker(act))).build().expect("a pool");
        let calls = (0..3).map(|n| pool.submit_named::<u32, u32>("double", n).expect("taken")).collect();
        kit::breaks(pool, calls, |reason| {
            matches!(reason, BreakReason::NoWorkerInTime { last: StartError::TimedOut(_), .. })
        });
    }
}

const RULES: [(&str, &str); 7] = [
    ("unknown number", "never sent"),
    ("malformed reply", "a malformed reply"),
    ("unknown status", "a malformed reply"),
    ("malformed failure", "a malformed failure"),
    ("unknown kind", "a frame of a kind that workers do not send"),
    ("parent's kind", "a frame of a kind that workers do not send"),
    ("too long late", "4294967280 bytes was announced"),
];

fn a_live_worker_that_breaks_the_rules_is_a_failed_start(_: &Subject) {
    for (act, part) in RULES {
        starts_nothing(act, garbage(part), |lost| broke(lost, part));
    }
}

/// Saying goodbye is no failure, so the pool goes on; what counts here is each call's own patience.
fn a_live_worker_that_leaves_its_calls_unstarted_costs_them_after_three_tries(_: &Subject) {
    let pool = with_worker("bye instead");
    let calls: Vec<_> = (0..3).map(|n| pool.submit_named::<u32, u32>("double", n).expect("taken")).collect();
    for call in &calls {
        assert_eq!(lost(kit::settled(call)).exit, Exit::Code(0));
    }
}

fn breaking_the_rules_in_a_started_call_costs_that_call_alone(_: &Subject) {
    for (act, part) in RULES {
        costs_what_it_was_sent(&format!("{act} claimed"), |lost| broke(lost, part));
    }
}

/// Killed for this reason, unless it noticed the end of its link first.
fn broke(lost: &WorkerLost, part: &str) -> bool {
    (lost.exit == kit::KILLED || lost.exit == Exit::Code(0))
        && lost.why.as_deref().is_some_and(|why| why.contains(part))
}

fn a_second_answer_is_ignored(_: &Subject) {
    let pool = with_worker("twice claimed");
    for n in 0..20 {
        let call = pool.submit_named::<u32, u32>("double", n).expect("taken");
        assert_eq!(kit::settled(&call).expect("a result"), 42);
    }
}

fn an_answer_that_is_no_result_fails_that_call_alone(_: &Subject) {
    let pool = with_worker("nothing claimed");
    let call = pool.submit_named::<u32, u32>("double", 1).expect("taken");
    let error = kit::not_carried(kit::settled(&call));
    assert_eq!((error.step, error.type_name.as_str()), (CodecStep::DecodeResult, "u32"));
    let call = pool.submit_named::<u32, ()>("double", 1).expect("taken");
    kit::settled(&call).expect("nothing is a result of that type");

    let pool = with_worker("endless claimed");
    let call = pool.submit_named::<u32, Vec<u64>>("double", 1).expect("taken");
    let error = kit::not_carried(kit::settled(&call));
    assert_eq!(error.step, CodecStep::DecodeResult);
    let call = pool.submit_named::<u32, u64>("double", 1).expect("taken");
    assert!(matches!(kit::settled(&call), Ok(u64::MAX) | Err(TaskError::Codec(_))));
    assert!(pool.broken().is_none());
}
