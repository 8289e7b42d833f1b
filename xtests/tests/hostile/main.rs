//! The pool among enemies: programs that are no workers, workers that lie, calls that break their process,
//! systems that have run out of everything.
//!
//! Whatever they do, the one call or the pool fails with an error that says what happened, soon, and the rest
//! goes on.

mod kit;

mod entry;
mod life;
mod peers;
mod values;

#[cfg(unix)]
mod programs;
#[cfg(target_os = "linux")]
mod tasks;

fn main() {
    process_pool::init();
    let everywhere = [entry::CASES, life::CASES, peers::CASES, values::CASES].concat();
    #[cfg(unix)]
    let everywhere = [everywhere.as_slice(), programs::CASES].concat();
    #[cfg(target_os = "linux")]
    let everywhere = [everywhere.as_slice(), tasks::CASES].concat();
    xtests::runner::main(&everywhere);
}
