//! What the executor promises, for every context.

use xtests::cases;
use xtests::runner::{self, Subject};

fn submit_returns_the_result(subject: &Subject) {
    let pool = subject.pool(1);
    let handle = pool.submit(|(base, exponent)| u64::pow(base, exponent), (2, 8)).expect("accepted");
    assert_eq!(handle.result().expect("a result"), 256);
}

fn main() {
    process_pool::init();
    runner::main(cases![submit_returns_the_result]);
}
