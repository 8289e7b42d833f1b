//! A closure that captures has a state, which would not reach the worker.

fn main() {
    let pool = process_pool::Executor::new().unwrap();
    let factor = 3;
    let _ = pool.submit(move |n: u64| n * factor, 14);
}
