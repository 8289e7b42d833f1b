//! A pointer to a function has a value, and functions lie elsewhere in another process.

fn double(n: u64) -> u64 {
    2 * n
}

fn main() {
    let pool = process_pool::Executor::new().unwrap();
    let f: fn(u64) -> u64 = double;
    let _ = pool.submit(f, 21);
}
