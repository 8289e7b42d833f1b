//! Judges spawners: each law of [`pool_core::spawner`] is a case or several.
//!
//! A test binary with `harness = false` is all it takes:
//!
//! ```no_run
//! # use pool_spawn_exec::{Exec as Mine, ExecEntry as MyEntry};
//! use xtests::spawner::Candidate;
//!
//! fn main() {
//!     xtests::spawner::main(&[Candidate::new("mine", Mine::new).entry(MyEntry)]);
//! }
//! ```
//!
//! The workers do not serve calls: a case gives them a job, in place of a ticket of a transport's. Start methods
//! whose workers come by themselves cannot be judged so.

mod bench;
mod cases;
mod jobs;
#[cfg(target_os = "linux")]
mod linux;
pub mod tools;

use pool_core::spawner::Arrival;

pub use bench::Candidate;
pub(crate) use jobs::{is_job, play, work};

use crate::judge::{self, Case, laws};
use crate::trial::{self, Trial};

/// Elsewhere the system does not tell.
#[cfg(not(target_os = "linux"))]
mod linux {
    use super::bench::Bench;

    pub(super) fn not_here(_: &Bench<'_>) {
        crate::trial::skip("what a process has is looked for on Linux only")
    }

    pub(super) use not_here as a_worker_holds_its_handles_and_nothing_else;
    pub(super) use not_here as a_foreign_child_sees_no_handle;
    pub(super) use not_here as deaths_leave_nothing_behind;
    pub(super) use not_here as no_descriptor_left_is_a_shortage_and_passes;
    pub(super) use not_here as a_large_parent_starts_workers_as_fast;
}

const CASES: &[Case<Candidate>] = laws! {
    S1:
        cases::every_exit_is_reported,
        cases::no_exit_is_reported_before_the_end;
    S2:
        cases::bytes_and_handles_arrive_in_order,
        cases::no_other_worker_has_the_handles,
        linux::a_worker_holds_its_handles_and_nothing_else,
        linux::a_foreign_child_sees_no_handle;
    S3:
        cases::a_signal_ends_the_worker_and_no_other,
        cases::a_signal_after_the_end_succeeds;
    S4:
        cases::workers_die_with_a_killed_parent;
    S5:
        cases::standard_input_is_empty,
        cases::standard_output_and_error_are_the_parents;
    S6:
        linux::no_descriptor_left_is_a_shortage_and_passes;
    S7:
        cases::dropping_the_values_ends_no_worker,
        linux::deaths_leave_nothing_behind;
    S8:
        linux::a_large_parent_starts_workers_as_fast;
    S9:
        cases::an_exit_code_is_reported,
        cases::a_signal_is_reported,
        cases::last_words_are_reported;
    S10:
        cases::an_exit_callback_may_spawn,
        cases::a_panicking_exit_callback_harms_nobody,
        cases::many_threads_may_spawn;
    S11:
        cases::a_large_ticket_arrives_whole_or_is_refused;
    S12:
        cases::what_a_worker_started_ends_with_it,
        cases::what_a_neighbour_started_lives_on;
};

/// Judges the spawners, as the command line says, and ends the program. To be called first in `main`: the workers
/// are this program, started again or copied.
pub fn main(candidates: &[Candidate]) -> ! {
    // All are asked: some take it as a sign that this program could become one of their workers.
    let entries = candidates.iter().filter_map(|candidate| candidate.entry.as_deref());
    let asked: Vec<_> = entries.filter(|entry| entry.is_worker()).collect();
    match asked.first().map(|entry| entry.arrive()) {
        None | Some(Arrival::NotAWorker) => {}
        Some(Arrival::Worker { ticket, last_words }) => std::process::exit(work(ticket, last_words)),
        Some(Arrival::Unusable(why)) => {
            eprintln!("unusable: {why}");
            std::process::exit(97);
        }
    }
    play(candidates.iter());
    trial::main(&candidates.iter().flat_map(trials).map(|(_, trial)| trial).collect::<Vec<_>>())
}

/// The law that a case breaks, whatever it is about, if it leaves something behind.
pub(crate) const LEFT_BEHIND: &str = "S7";

/// Every case, with its law.
pub(crate) fn trials(candidate: &Candidate) -> impl Iterator<Item = (&'static str, Trial<'_>)> {
    judge::trials(CASES, candidate)
}
