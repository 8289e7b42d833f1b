//! CPython's tests of `concurrent.futures`, and of pools that came after it, as far as no other suite holds them.
//!
//! Modules are named after CPython's files. `xtests/cpython.md` tells of every test of theirs where it is held.

mod as_completed;
mod deadlock;
mod executor;
mod future;
mod init;
mod others;
mod process_pool;
mod programs;
mod shutdown;
#[cfg(unix)]
mod sys;
mod tools;
mod wait;

use std::time::Duration;

use xtests::cases;
use xtests::runner::{self, Case};

const CASES: &[Case] = cases![
    executor::map_timeout_from_callable,
    executor::map_buffersize_on_multiple_infinite_iterables,
    executor::free_reference,
    executor::map_goes_on_after_a_panic_of_its_caller,
    process_pool::the_default_context,
    process_pool::terminate_broken_leaves_a_cancelled_future_alone,
    process_pool::what_is_changed_after_submit_is_not_seen,
    process_pool::the_call_queue_bound_is_all_that_cancel_cannot_reach,
    process_pool::arguments_of_cancelled_and_of_settled_calls_are_freed,
    process_pool::an_idle_worker_has_given_back_the_memory_of_its_last_call,
    process_pool::atexit_handlers_run_in_workers,
    process_pool::workers_are_in_groups_of_their_own,
    process_pool::broken_futures_have_errors_of_their_own,
    deadlock::crash_during_a_large_result,
    deadlock::crash_during_a_large_result_after_shutdown,
    deadlock::a_start_that_panics_is_a_failed_start,
    shutdown::interpreter_shutdown,
    shutdown::submit_after_interpreter_shutdown,
    shutdown::hang_gh83386,
    shutdown::cancel_futures,
    shutdown::shutdown_gh_132969,
    shutdown::submit_while_another_thread_shuts_down,
    init::an_error_that_cannot_be_told_breaks_the_pool_all_the_same,
    init::failing_initializer_resources,
    wait::pending_calls_race,
    as_completed::free_reference_yielded_future,
    as_completed::the_timeout_counts_from_the_call,
    future::result_with_cancel,
    future::submit_while_a_value_is_encoded_or_decoded,
    future::submit_in_a_waker,
    others::processes_crash_handling_after_executor_drop,
    others::stop_large_data,
    others::map_timeout_chunks,
    others::map_broken_pool,
    others::child_process,
    others::pools_in_pools_in_pools,
    others::exceeding_pipe_capacity_with_worker_lifespan,
];

/// So many processes take their time.
const SLOW: &[Case] = cases![process_pool::max_workers_too_large,];

fn main() {
    ::process_pool::init();
    if let Some(program) = std::env::var_os(programs::VARIABLE) {
        return programs::run(program.to_str().expect("a name"));
    }
    let slow: Vec<_> = SLOW.iter().map(|case| case.watchdog(Duration::from_secs(180))).collect();
    runner::main(&[CASES, &slow].concat());
}
