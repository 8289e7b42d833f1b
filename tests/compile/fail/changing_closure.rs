//! A closure that changes what it captures would change it in another process.

fn main() {
    let pool = process_pool::Executor::new().unwrap();
    let mut sum = 0;
    let _ = pool.submit(|n: u64| sum += n, 1);
}
