//! A map that is under way keeps its executor from being dropped.

use process_pool::Executor;

fn double(n: u64) -> u64 {
    2 * n
}

fn main() {
    let pool = Executor::new().unwrap();
    let doubled = pool.map(double, 0..10);
    drop(pool);
    for _ in doubled {}
}
