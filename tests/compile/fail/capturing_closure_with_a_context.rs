//! `submit_with`, `map_with` and `worker_exit` check as `submit` does.

use process_pool::{CallOptions, Executor};

fn main() {
    let verbose = true;
    let builder = Executor::builder().initializer(|n: u64| Ok::<_, String>(n), 1);
    let pool = builder.worker_exit(move |n: u64| assert!(verbose || n > 0)).build().unwrap();
    let factor = 3;
    let _ = pool.submit_with(move |n: &mut u64, m: u64| *n * m * factor, 2);
    let _ = pool.with(CallOptions::new()).submit_with(move |n: &mut u64, m: u64| *n + m + factor, 2);
    let _ = pool.map_with(move |n: &mut u64, m: u64| *n - m - factor, 0..10).count();
}
