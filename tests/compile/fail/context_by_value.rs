//! The worker context stays in its worker: a call gets it by `&mut`.

fn count(counter: u64, step: u64) -> u64 {
    counter + step
}

fn main() {
    let builder = process_pool::Executor::builder().initializer(|n: u64| Ok::<_, String>(n), 1);
    let pool = builder.build().unwrap();
    let _ = pool.submit_with(count, 2);
}
