//! An argument must be something that serde can carry.

struct Job {
    name: String,
}

fn run(job: Job) -> usize {
    job.name.len()
}

fn main() {
    let pool = process_pool::Executor::new().unwrap();
    let _ = pool.submit(run, Job { name: "x".to_owned() });
}
