//! Judges transports: each law of [`pool_core::transport`] is a case or several.
//!
//! A test binary with `harness = false` is all it takes:
//!
//! ```no_run
//! # type Mine = process_pool::carry::Pipe;
//! fn main() {
//!     xtests::transport::main(xtests::transport::Candidate::of::<Mine>("mine"));
//! }
//! ```
//!
//! What a link says of itself, its [`LinkCaps`](pool_core::transport::LinkCaps), chooses the cases: one that does
//! not apply is skipped, and says why. Most cases have both ends in one process, joined by the ticket; those about
//! killed workers start this program again.
//!
//! What cannot be told from outside is not judged: that bytes which no `Channel` would send end the link (T5), and
//! that memory is taken as bytes arrive. A transport's own tests do that.

mod bench;
mod claims;
mod drive;
mod ending;
mod frames;
mod processes;
mod recorder;
mod requests;
mod resources;
pub mod tools;

pub use bench::Candidate;

pub(crate) use processes::play;

use crate::judge::{self, Case, laws};
use crate::trial::{self, Trial};

const CASES: &[Case<Candidate>] = laws! {
    T1:
        frames::frames_of_all_sizes_arrive_in_order_both_ways_at_once,
        frames::empty_frames_are_frames_too,
        frames::huge_frames_pass_both_ways,
        frames::huge_frames_pass_both_ways_at_once,
        frames::frames_sent_by_several_threads_stay_whole,
        frames::what_was_sent_before_the_worker_connects_arrives;
    T2:
        frames::what_the_worker_sent_before_its_end_arrives_before_the_links,
        processes::a_killed_worker_is_seen_after_what_it_sent,
        processes::a_frame_that_a_killed_worker_did_not_finish_is_not_delivered;
    T3:
        ending::the_end_comes_once_whoever_is_first,
        ending::close_may_be_called_again_and_again,
        ending::a_callback_that_drops_its_link_hears_no_more,
        ending::a_dropped_link_whose_worker_never_comes_is_silent;
    T4:
        frames::sending_does_not_wait_for_a_worker_that_does_not_read,
        frames::two_that_do_not_read_at_first_do_not_hold_each_other_up,
        frames::on_a_closed_link_sending_does_nothing;
    T5:
        frames::neither_side_sends_more_than_the_limit;
    T6:
        claims::a_link_that_cannot_revoke_says_so_and_its_channel_always_claims,
        claims::parent_and_worker_agree_on_every_call,
        claims::a_claimed_call_is_started_and_a_revoked_one_is_not_claimed,
        claims::claims_can_be_asked_for_after_the_worker_is_gone,
        claims::what_it_cannot_decide_it_does_not_decide;
    T7:
        ending::close_delivers_what_has_arrived_though_the_workers_end_stays_open,
        ending::what_the_worker_sent_arrives_however_fast_the_close_was,
        ending::close_does_not_wait_for_a_worker_that_never_stops_sending,
        processes::close_does_not_wait_for_a_stopped_worker,
        ending::frames_that_were_not_written_are_dropped_by_close,
        ending::a_link_whose_worker_never_comes_closes_all_the_same;
    T8:
        drive::a_link_that_cannot_be_driven_says_so,
        drive::a_driver_gets_its_answer_itself,
        drive::a_drive_ends_when_done_at_its_deadline_or_with_the_link,
        drive::a_second_driver_is_told_that_there_is_one,
        drive::a_driver_sees_what_others_did_for_it,
        drive::nothing_is_lost_while_drivers_come_and_go,
        drive::interrupt_brings_the_driver_back,
        drive::interrupts_and_frames_do_not_get_in_each_others_way,
        drive::a_driver_that_leaves_in_the_middle_of_much_leaves_it_to_the_link;
    T9:
        resources::a_dropped_link_lets_go_of_its_receiver,
        resources::links_leave_nothing_behind,
        resources::threads_sleep_while_nothing_happens,
        resources::a_failed_open_leaves_nothing_behind;
    T10:
        resources::no_descriptor_is_inheritable,
        resources::a_foreign_child_sees_no_descriptor_of_a_link;
    T11:
        ending::a_run_of_frames_is_followed_by_drained,
        ending::events_come_one_at_a_time,
        ending::a_callback_may_close_its_link;
    T12:
        ending::the_worker_learns_of_the_end,
        ending::a_sending_worker_learns_of_the_end;
    T13:
        ending::one_name_and_no_other;
    T14:
        requests::a_link_that_cannot_ask_says_so,
        requests::the_call_that_is_asked_to_stop_can_see_it_and_no_other,
        requests::what_arrives_while_the_worker_looks_is_received_in_order,
        requests::looking_does_not_wait_for_a_parent_that_is_gone;
};

/// Judges the transport, as the command line says, and ends the program. To be called first in `main`: the workers
/// of some cases are this program, started again.
pub fn main(candidate: Candidate) -> ! {
    processes::work(&candidate);
    trial::main(&trials(&candidate).map(|(_, trial)| trial).collect::<Vec<_>>())
}

/// The law that a case breaks, whatever it is about, if it leaves something behind.
pub(crate) const LEFT_BEHIND: &str = "T9";

/// Every case, with its law.
pub(crate) fn trials(candidate: &Candidate) -> impl Iterator<Item = (&'static str, Trial<'_>)> {
    judge::trials(CASES, candidate)
}
