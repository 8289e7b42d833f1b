//! What the executor promises, for every context.
//!
//! CPython's own tests (`Lib/test/test_concurrent_futures`) are ported as far as they mean something here; a
//! case names the one that it comes from. None sleeps to wait for something: calls wait at gates.

mod admission;
mod bounds;
#[cfg(windows)]
mod breaks;
mod calls;
mod cancel;
mod context;
mod flat;
mod handles;
mod ladder;
#[cfg(target_os = "linux")]
mod leaks;
mod loss;
mod map;
mod priority;
mod recycling;
mod resize;
mod retry;
mod settings;
mod shared;
mod shutdown;
#[cfg(target_os = "linux")]
mod signals;
mod sticky;
mod stopping;
mod stress;
mod tools;
mod trees;
mod waiting;
mod workers;

use std::time::Duration;

use process_pool::Executor;
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
    calls::a_large_argument_is_let_go_as_its_answer_begins_to_arrive,
    calls::a_blob_that_a_call_keeps_outlives_it,
    calls::frames_larger_than_a_pipe_cross_on_their_way,
    calls::what_exceeds_the_frame_limit_fails_its_call_only,
    calls::arguments_and_results_are_dropped_on_both_sides,
    calls::one_worker_starts_calls_in_the_order_submitted,
    calls::a_worker_keeps_its_statics_from_call_to_call,
];

const SHARED: &[Case] = cases![
    shared::a_shared_value_travels_once_to_each_worker,
    shared::workers_let_go_of_what_nobody_shares_any_more,
    shared::a_worker_that_takes_anothers_place_gets_it_too,
    shared::what_a_waiting_call_refers_to_is_there_when_it_starts,
    shared::elsewhere_a_shared_value_travels_as_what_it_holds,
    shared::a_shared_blob_and_a_shared_value_of_several_pools,
    shared::a_shared_value_that_cannot_travel_fails_its_calls_only,
    shared::a_map_takes_a_shared_value_to_each_worker_once,
    shared::a_map_carries_blobs_of_every_size_past_failures_and_panics,
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

const BOUNDS: &[Case] = cases![
    bounds::a_call_that_runs_for_too_long_is_ended_and_the_limit_named,
    bounds::neighbours_do_not_notice_that_a_call_is_ended,
    bounds::the_time_that_a_call_waits_is_not_counted,
    bounds::a_call_that_waits_for_too_long_never_runs,
    bounds::a_call_that_runs_past_its_total_limit_is_ended,
    bounds::a_pool_has_limits_for_calls_that_have_none,
    bounds::a_call_is_killed_wherever_it_is,
    bounds::a_killed_call_breaks_no_pool,
    bounds::random_kills_cost_no_other_call,
];

const PRIORITY: &[Case] = cases![
    priority::the_most_urgent_call_starts_first,
    priority::an_urgent_call_overtakes_what_was_sent_ahead,
    priority::a_map_may_be_more_urgent_than_calls,
    priority::a_pool_has_a_priority_for_calls_that_have_none,
];

const STICKY: &[Case] = cases![
    sticky::calls_of_one_key_run_at_one_worker_in_order,
    sticky::a_new_key_gets_a_worker_without_keys,
    sticky::a_call_with_a_key_waits_for_its_worker,
    sticky::the_calls_of_a_worker_that_dies_move_in_order,
    sticky::the_calls_of_a_worker_that_is_replaced_move_in_order,
    sticky::keys_move_when_their_worker_is_one_too_many,
    sticky::the_order_of_a_key_survives_random_deaths,
];

const RESIZE: &[Case] = cases![
    resize::a_pool_that_grows_starts_workers_for_the_calls_that_wait,
    resize::a_pool_that_shrinks_ends_idle_workers_and_no_call,
    resize::a_pool_that_shrinks_while_it_starts_does_its_calls,
    resize::a_pool_cannot_be_without_workers,
    resize::random_sizes_lose_no_call_and_run_none_twice,
];

const ADMISSION: &[Case] = cases![
    admission::submit_waits_until_there_is_room,
    admission::never_more_calls_are_pending_than_the_bound_allows,
    admission::who_waits_first_gets_room_first,
    admission::a_full_pool_gives_the_argument_back,
    admission::who_waits_for_room_is_told_of_a_shutdown,
    admission::who_waits_for_room_is_told_that_the_pool_broke,
    admission::a_callback_may_wait_for_room,
    admission::a_waker_does_not_wait_for_room,
    admission::a_map_stays_within_the_bound_of_its_pool,
    admission::a_map_waits_for_room_until_its_timeout,
    admission::tasks_wait_for_room_and_their_threads_do_not,
    admission::random_waits_lose_no_place,
];

const RETRY: &[Case] = cases![
    retry::a_lost_call_is_made_again,
    retry::a_call_without_a_policy_runs_once,
    retry::a_call_that_ends_all_its_workers_is_given_up,
    retry::a_call_is_made_again_for_the_errors_that_its_policy_names,
    retry::a_call_is_made_again_for_the_results_that_will_not_do,
    retry::a_call_that_runs_for_too_long_is_made_again_if_asked_for,
    retry::a_large_argument_is_there_for_the_next_attempt,
    retry::a_call_that_rests_can_be_cancelled,
    retry::a_pool_may_have_a_policy_for_all_its_calls,
    retry::killed_workers_cost_no_call_that_may_be_made_again,
];

const TREES: &[Case] = cases![
    trees::what_a_worker_started_ends_with_the_pool,
    trees::what_a_worker_started_ends_when_it_ends_by_itself,
    trees::what_a_worker_started_ends_with_a_call_that_is_killed,
    trees::what_a_worker_started_ends_with_its_last_call,
    trees::a_daemon_ends_with_its_worker_where_the_system_can_tell_whose_it_is,
    trees::a_neighbours_processes_are_not_touched,
    trees::a_server_that_is_killed_leaves_daemons_at_most,
];

const SETTINGS: &[Case] = cases![
    settings::workers_have_the_environment_that_is_asked_for,
    settings::an_environment_can_be_cleared,
    settings::workers_are_in_the_folder_that_is_asked_for,
    settings::a_folder_that_is_gone_is_named,
    settings::workers_are_as_nice_as_is_asked_for,
    settings::workers_run_on_the_processors_that_are_asked_for,
    settings::workers_have_the_limits_that_are_asked_for,
    settings::a_worker_that_uses_up_its_time_costs_its_call,
    settings::a_worker_that_takes_too_much_memory_costs_its_call,
    settings::a_setting_that_a_worker_cannot_take_on_breaks_the_pool_and_is_named,
    settings::settings_that_cannot_be_are_refused,
    settings::pools_of_one_fork_server_have_settings_of_their_own,
];

const STOPPING: &[Case] = cases![
    stopping::a_call_sees_that_its_soft_limit_has_passed,
    stopping::a_call_knows_the_earliest_of_its_limits,
    stopping::a_call_that_does_not_look_goes_on_past_its_soft_limit,
    stopping::a_call_that_runs_is_asked_to_stop,
    stopping::a_call_that_waits_is_cancelled_when_it_is_asked_to_stop,
    stopping::a_call_that_does_not_stop_is_killed_when_its_grace_is_over,
    stopping::a_call_that_stops_within_its_grace_has_its_result,
    stopping::the_threads_of_a_call_see_that_it_is_to_stop_and_that_it_is_over,
    stopping::random_requests_reach_their_call_alone,
];

const CONTEXT: &[Case] = cases![
    context::calls_get_what_their_workers_initializer_has_made,
    context::a_context_of_another_type_is_refused_and_both_are_named,
    context::without_an_initializer_the_context_is_nothing,
    context::a_call_that_panics_leaves_the_context_as_it_is,
    context::a_worker_that_takes_anothers_place_makes_its_own_context,
    context::a_map_has_the_context_and_each_error_in_its_place,
    context::calls_with_a_context_may_be_limited_and_killed,
    context::the_exit_hook_runs_last_in_each_worker_that_is_told_to_end,
    context::the_exit_hook_runs_in_no_worker_that_is_killed_or_exits,
    context::an_exit_hook_has_a_time_of_its_own,
    context::an_exit_hook_that_hangs_is_killed,
    context::a_context_is_dropped_when_its_worker_is_told_to_end,
    context::a_call_knows_its_worker,
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

const MAP: &[Case] = cases![
    map::map_equals_the_sequential_one_whatever_the_chunks,
    map::several_inputs_go_in_a_tuple,
    map::sizes_of_zero_are_refused_and_no_input_is_taken,
    map::chunks_grow_with_what_is_measured,
    map::nothing_is_chunked_before_something_is_measured,
    map::no_chunk_takes_more_bytes_than_a_pipe_but_for_a_single_item,
    map::a_slow_item_makes_the_next_chunks_small,
    map::chunks_become_small_near_a_known_end,
    map::errors_keep_their_places_in_chunks_of_any_size,
    map::inputs_that_fit_singly_are_not_too_large_together,
    map::items_of_any_length_keep_their_places,
    map::a_panic_is_an_error_in_its_place,
    map::what_cannot_be_encoded_or_decoded_is_an_error_in_its_place,
    map::a_result_that_cannot_be_decoded_is_an_error_in_its_place,
    map::a_lost_worker_takes_its_chunk_and_no_other,
    map::a_timeout_ends_the_map_after_what_came_in_time,
    map::a_timeout_that_does_not_pass_changes_nothing,
    map::never_more_inputs_are_taken_than_the_bound_allows,
    map::a_map_of_nothing_is_empty,
    map::an_infinite_input_is_bounded_by_default,
    map::a_started_map_runs_without_being_iterated,
    map::results_keep_the_order_of_their_inputs,
    map::an_unordered_map_yields_what_is_there,
    map::an_unordered_map_has_every_error_too,
    map::dropping_a_map_cancels_what_has_not_started,
    map::a_shutdown_ends_a_bounded_map_with_an_error,
    map::several_threads_map_over_one_pool,
    map::a_long_map_yields_all,
];

const SHUTDOWN: &[Case] = cases![
    shutdown::a_pool_that_is_shut_down_takes_no_calls,
    shutdown::shutdown_may_be_called_again_and_before_any_call,
    shutdown::shutdown_finishes_fifty_calls,
    shutdown::shutdown_does_not_stumble_over_workers_that_left,
    shutdown::no_worker_is_left_after_shutdown,
    shutdown::a_drop_finishes_what_was_submitted,
    shutdown::shutdown_without_waiting_returns_and_calls_go_on,
    shutdown::four_threads_shut_down_at_once,
    shutdown::a_crash_after_shutdown_costs_one_call,
    shutdown::what_is_queued_at_a_worker_that_dies_after_shutdown_is_done,
    shutdown::a_refused_argument_does_not_hold_up_a_shutdown,
    shutdown::kill_workers_ends_what_runs_and_cancels_the_rest,
    shutdown::terminate_workers_ends_what_runs_and_cancels_the_rest,
    shutdown::force_on_a_pool_without_live_workers_is_no_error,
    shutdown::force_during_the_start_leaves_nothing,
    shutdown::force_ends_a_shutdown_that_waits,
    shutdown::shutdown_finishes_while_workers_are_replaced,
    shutdown::shutdown_without_waiting_still_replaces_workers,
    shutdown::force_while_workers_are_replaced_leaves_nothing,
];

const LADDER: &[Case] = cases![
    ladder::a_shutdown_finishes_then_terminates_then_kills,
    ladder::a_shutdown_that_is_done_in_time_says_so,
    ladder::the_longest_times_do_no_harm,
    ladder::a_shutdown_goes_on_behind_the_callers_back,
    ladder::of_several_shutdowns_the_strictest_holds_for_all,
    ladder::a_callback_can_shut_down_within_a_time,
    ladder::a_waker_can_shut_the_pool_down,
    ladder::an_interruption_ends_everything_at_once,
    ladder::an_interruption_amid_submits_settles_all,
];

/// Only Unix has signals.
#[cfg(unix)]
const HEARD: &[Case] = cases![ladder::a_call_that_hears_the_signal_can_end_in_time];

#[cfg(not(unix))]
const HEARD: &[Case] = &[];

#[cfg(target_os = "linux")]
const SIGNALS: &[Case] = cases![
    ladder::a_stopped_worker_is_killed,
    signals::workers_hear_signals_that_their_parent_does_not,
    signals::no_terminal_stops_a_worker,
    signals::the_parents_signals_are_left_alone,
];

#[cfg(windows)]
const SIGNALS: &[Case] = cases![breaks::ctrl_break_ends_no_worker];

/// Elsewhere the system does not tell.
#[cfg(not(any(target_os = "linux", windows)))]
const SIGNALS: &[Case] = &[];

const WORKERS: &[Case] = cases![
    workers::contexts_are_chosen_by_name,
    workers::what_a_system_lacks_is_told_before_a_pool_is_built,
    workers::contexts_are_chosen_by_value,
    workers::a_program_without_init_gets_an_error,
    workers::sizes_of_zero_are_refused,
    workers::there_are_as_many_workers_as_cores_by_default,
    workers::no_worker_starts_before_the_first_call,
    workers::an_idle_worker_is_used_again,
    workers::a_worker_that_is_quicker_than_its_start_is_known,
    workers::a_start_that_fails_when_its_worker_is_at_a_call_costs_that_call,
    workers::there_are_never_more_workers_than_allowed,
    workers::a_worker_is_replaced_after_its_last_call,
    workers::a_backlog_is_done_by_replaced_workers,
    workers::a_cancelled_call_does_not_count_against_its_worker,
    workers::each_worker_is_initialized_once_before_its_first_call,
    workers::a_failed_initializer_breaks_the_pool_with_its_own_words,
    workers::an_initializers_argument_is_checked_where_it_fails,
    workers::an_initializer_that_ends_its_worker_breaks_the_pool_after_a_few,
    workers::an_initializer_that_hangs_breaks_the_pool_after_the_start_deadline,
    workers::a_call_can_have_a_pool,
    workers::a_call_can_use_a_pool_in_a_static,
    workers::a_pool_in_a_static_is_shut_down_by_hand,
    workers::twenty_pools_live_side_by_side,
    workers::a_pool_that_is_dropped_at_once_leaves_nothing,
    workers::a_lost_call_in_a_fresh_pool_names_its_worker,
    workers::an_idle_pool_sleeps,
];

const RECYCLING: &[Case] = cases![
    recycling::a_worker_that_has_grown_too_large_is_replaced,
    recycling::calls_behind_one_that_hoards_are_done,
    recycling::idle_workers_are_let_go_down_to_a_floor,
    recycling::a_busy_worker_is_not_let_go,
    recycling::a_successor_is_there_before_the_last_call_is_done,
    recycling::no_worker_runs_more_calls_than_it_may,
    recycling::a_shutdown_takes_successors_along,
];

const LOSS: &[Case] = cases![
    loss::a_killed_busy_worker_costs_its_call_only,
    loss::the_death_of_idle_workers_goes_unnoticed,
    loss::any_end_of_a_worker_is_the_loss_of_its_call,
    loss::of_many_calls_exactly_the_fatal_ones_are_lost,
    loss::no_call_runs_twice_while_workers_are_killed,
    loss::results_from_before_a_crash_are_honoured,
    loss::a_loss_breaks_the_pool_if_asked_for,
    loss::an_idle_workers_death_breaks_a_pool_that_is_to_break,
    loss::a_crash_amid_large_arguments_costs_one_call,
    loss::a_kill_amid_a_large_argument_loses_nothing_that_had_not_started,
    loss::a_callback_is_told_of_a_loss,
    loss::a_replacement_that_cannot_be_started_breaks_the_pool,
    loss::a_pool_that_gets_no_worker_fails_its_calls,
];

const STRESS: &[Case] = cases![
    stress::a_drop_amid_three_thousand_submits_settles_all,
    stress::a_kill_amid_three_thousand_submits_settles_all,
    stress::a_shutdown_amid_submits_accepts_or_refuses,
    stress::a_thousand_calls_finish_while_one_blocks,
    stress::calls_sent_behind_a_long_one_move_to_another_worker,
    stress::a_single_call_behind_a_long_one_moves_to_another_worker,
    stress::large_calls_that_are_on_their_way_stay_there,
    stress::blocked_workers_hand_their_calls_on,
    stress::twenty_thousand_submits_do_not_wait_for_a_blocked_worker,
    stress::many_threads_go_back_and_forth,
    stress::each_of_five_thousand_callbacks_runs_once,
    stress::a_pool_is_shared_by_threads_and_dropped_by_the_last,
    stress::a_call_is_not_tied_up_behind_a_workers_first,
];

/// Starting and ending four hundred processes takes its time where that is slow.
const LONG: &[Case] = cases![
    workers::two_hundred_pools_come_and_go,
    workers::seventy_workers_work_and_end_at_once,
    flat::calls_pools_and_crashes_leave_nothing,
];

#[cfg(target_os = "linux")]
const LEAKS: &[Case] = cases![
    leaks::calls_and_deaths_leave_no_descriptor_and_no_thread,
    leaks::a_forked_worker_has_nothing_of_another_pool,
    leaks::a_program_that_begins_with_init_has_room_for_descriptors,
    leaks::a_worker_has_but_one_thread,
];

/// Elsewhere the system does not tell.
#[cfg(not(target_os = "linux"))]
const LEAKS: &[Case] = &[];

/// What does not hold yet; `--ignored` runs these.
const KNOWN_FAILING: &[Case] =
    &[Case::new("an_older_call_starts_before_newer_ones", stress::an_older_call_starts_before_newer_ones)
        .known_failing(
            "a call that was sent ahead behind a long one is overtaken by those sent ahead to another worker",
        )];

/// Set for a run of this program that makes a pool without having called `init()`.
const NO_INIT: &str = "XTESTS_NO_INIT";

fn main() {
    if std::env::var_os(NO_INIT).is_some() {
        return println!("{}", Executor::new().expect_err("no worker could start"));
    }
    trees::play();
    process_pool::worker_main().task("double", |n: u64| n * 2).run();
    let long: Vec<Case> = LONG.iter().map(|case| case.watchdog(Duration::from_secs(240))).collect();
    runner::main(
        &[
            CALLS,
            SHARED,
            BOUNDS,
            PRIORITY,
            STICKY,
            RESIZE,
            ADMISSION,
            TREES,
            SETTINGS,
            RETRY,
            STOPPING,
            CONTEXT,
            CANCEL,
            HANDLES,
            WAITING,
            MAP,
            SHUTDOWN,
            LADDER,
            HEARD,
            SIGNALS,
            WORKERS,
            RECYCLING,
            LOSS,
            STRESS,
            &long,
            LEAKS,
            KNOWN_FAILING,
        ]
        .concat(),
    );
}
