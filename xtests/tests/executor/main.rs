//! What the executor promises, for every context.
//!
//! CPython's own tests (`Lib/test/test_concurrent_futures`) are ported as far as they mean something here; a
//! case names the one that it comes from. None sleeps to wait for something: calls wait at gates.

mod calls;
mod cancel;
mod handles;
mod tools;
mod waiting;

use xtests::cases;
use xtests::runner::{self, Case};

const CALLS: &[Case] = cases![
    calls::a_submitted_call_returns_its_result,
    calls::closures_generic_functions_and_methods_can_be_submitted,
    calls::a_worker_is_another_process,
    calls::an_err_that_a_call_returns_is_its_result,
    calls::an_empty_error_is_still_an_error,
    calls::a_panic_is_reported_with_its_place_and_costs_no_worker,
    calls::a_panic_whose_payload_is_no_text_is_reported,
    calls::an_argument_that_cannot_be_encoded_is_refused,
    calls::an_argument_that_cannot_be_decoded_fails_its_call_only,
    calls::a_worker_that_ends_while_it_decodes_an_argument_costs_that_call_only,
    calls::a_result_that_cannot_be_encoded_fails_its_call_only,
    calls::a_worker_that_ends_while_it_encodes_a_result_costs_that_call_only,
    calls::a_result_that_cannot_be_decoded_fails_its_call_only,
    calls::a_result_of_another_type_than_asked_for_is_an_error,
    calls::a_named_task_runs_and_an_unknown_one_fails_its_call_only,
    calls::sixty_four_mebibytes_travel_both_ways,
    calls::frames_larger_than_a_pipe_cross_on_their_way,
    calls::arguments_and_results_are_dropped_on_both_sides,
    calls::one_worker_starts_calls_in_the_order_submitted,
    calls::a_worker_keeps_its_statics_from_call_to_call,
];

const CANCEL: &[Case] = cases![
    cancel::two_thousand_random_cancels_are_exact,
    cancel::a_running_call_cannot_be_cancelled,
    cancel::calls_behind_a_long_one_can_be_cancelled,
    cancel::a_settled_call_cannot_be_cancelled,
    cancel::a_cancelled_call_says_so_everywhere,
    cancel::submit_cancel_and_shutdown_do_not_hang,
    cancel::a_call_can_be_cancelled_before_a_worker_is_ready,
    cancel::shutdown_cancels_what_has_not_started,
    cancel::refused_arguments_do_not_disturb_a_cancelling_shutdown,
];

const HANDLES: &[Case] = cases![
    handles::a_handle_tells_where_its_call_is,
    handles::a_timeout_gives_none_and_the_result_comes_later,
    handles::an_error_can_be_looked_at_and_then_taken,
    handles::callbacks_run_in_order_and_are_told_how_it_ended,
    handles::a_callback_of_a_settled_call_runs_at_once_and_here,
    handles::a_panic_in_a_callback_is_contained,
    handles::a_callback_can_submit_and_wait,
    handles::a_callback_can_shut_the_pool_down_and_wait,
    handles::a_callback_can_drop_the_pool,
    handles::a_slow_callback_delays_no_call,
    handles::a_call_goes_on_without_its_handle,
    handles::many_threads_wait_for_one_call,
    handles::a_call_that_is_done_has_its_result,
    handles::a_handle_outlives_its_pool,
    handles::handles_are_awaited_on_tokio,
    handles::handles_are_awaited_without_a_runtime,
    handles::a_handle_is_polled_and_waited_for_in_turns,
    handles::the_last_waker_wins,
    handles::a_panic_in_a_waker_is_contained,
];

const WAITING: &[Case] = cases![
    waiting::wait_takes_a_handle_twice,
    waiting::wait_returns_when_the_first_is_completed,
    waiting::wait_returns_at_once_for_one_already_completed,
    waiting::wait_returns_at_the_first_exception,
    waiting::a_cancelled_call_is_no_exception_to_wait,
    waiting::wait_returns_at_once_for_one_already_failed,
    waiting::wait_returns_when_all_are_completed,
    waiting::wait_gives_up_after_its_timeout,
    waiting::wait_for_nothing_returns_at_once,
    waiting::handles_of_several_pools_are_waited_for_together,
    waiting::as_completed_yields_in_order_of_completion,
    waiting::as_completed_times_out_with_the_numbers,
    waiting::as_completed_yields_what_is_there_even_without_time,
];

fn main() {
    process_pool::worker_main().task("double", |n: u64| n * 2).run();
    runner::main(&[CALLS, CANCEL, HANDLES, WAITING].concat());
}
