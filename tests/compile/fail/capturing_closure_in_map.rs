//! `map` and `initializer` check as `submit` does.

use process_pool::Executor;

fn main() {
    let verbose = true;
    let pool = Executor::builder().initializer(move |level: u8| assert!(verbose || level > 0), 1).build().unwrap();
    let factor = 3;
    let _ = pool.map(move |n: u64| n * factor, 0..10).count();
}
