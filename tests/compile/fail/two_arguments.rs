//! Several arguments go in a tuple, and the function takes a tuple.

fn power(base: u64, exponent: u32) -> u64 {
    base.pow(exponent)
}

fn main() {
    let pool = process_pool::Executor::new().unwrap();
    let _ = pool.submit(power, (2, 10));
}
