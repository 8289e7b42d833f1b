//! An initializer returns nothing, or a `Result` that says whether it succeeded.

fn setup(level: u8) -> u8 {
    level
}

fn main() {
    let _ = process_pool::Executor::builder().initializer(setup, 1);
}
