//! The conformance kit: what a process pool promises, as cases that run in processes of their own.
//!
//! - [`runner`]: runs the cases of a test binary, each in its own process and under a watchdog, and makes
//!   sure that it leaves nothing behind.
//! - [`context`](mod@context): contexts by name, for processes that may have threads.
//! - [`calls`]: calls that many cases make, and what comes of them.
//! - [`gate`]: where a call waits until its case lets it go on.
//! - [`processes`]: what the system tells of processes, and patience with what it does not tell.
//! - [`random`]: numbers by chance, the same for the same seed.
//! - [`crash`]: what may happen to workers, calls and parents, as a table that judges itself.
//! - [`transport`]: judges any transport, by the laws of the trait.
//! - [`spawner`]: the same for spawners.
//! - [`mutants`]: judges both, by backends that break one law each.
//!
//! A test binary has `harness = false` and this `main`:
//!
//! ```no_run
//! use xtests::{cases, runner::Subject};
//!
//! fn squares(subject: &Subject) {
//!     let pool = subject.builder().build().expect("a pool");
//!     assert_eq!(pool.submit(|n: u64| n * n, 12).expect("accepted").result().expect("a result"), 144);
//! }
//!
//! fn main() {
//!     process_pool::init(); // A worker stays in here.
//!     xtests::runner::main(cases![squares]);
//! }
//! ```

pub mod calls;
#[cfg(windows)]
pub mod console;
pub mod context;
pub mod crash;
pub mod gate;
pub mod mutants;
pub mod processes;
pub mod random;
pub mod runner;
pub mod spawner;
pub mod transport;

mod args;
mod judge;
mod leaks;
#[cfg(target_os = "linux")]
mod scarce;
mod sys;
mod trial;
