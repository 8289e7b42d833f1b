//! What is sent must be received, too.

#[derive(serde::Serialize)]
struct Report(u64);

fn report(n: u64) -> Report {
    Report(n)
}

fn main() {
    let pool = process_pool::Executor::new().unwrap();
    let _ = pool.submit(report, 1);
}
