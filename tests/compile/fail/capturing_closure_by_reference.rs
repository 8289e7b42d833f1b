//! As little as one that captures a value.

fn main() {
    let pool = process_pool::Executor::new().unwrap();
    let names = vec!["a".to_owned()];
    let _ = pool.submit(|n: usize| names[n].clone(), 0);
}
