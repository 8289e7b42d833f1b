//! The example of CPython's documentation of `ProcessPoolExecutor`: which of these numbers are prime?

use process_pool::Executor;

const PRIMES: [u64; 6] =
    [112272535095293, 112582705942171, 112272535095293, 115280095190773, 115797848077099, 1099726899285419];

fn is_prime(n: u64) -> bool {
    if n < 2 {
        return false;
    }
    if n.is_multiple_of(2) {
        return n == 2;
    }
    (3..=n.isqrt()).step_by(2).all(|divisor| !n.is_multiple_of(divisor))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    process_pool::init();

    let executor = Executor::new()?;
    for (number, prime) in PRIMES.into_iter().zip(executor.map(is_prime, PRIMES)) {
        println!("{number} is prime: {}", prime?);
    }
    Ok(())
}
