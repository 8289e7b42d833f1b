//! A reference points into this process.

fn length(text: &str) -> usize {
    text.len()
}

fn main() {
    let pool = process_pool::Executor::new().unwrap();
    let _ = pool.submit(length, "hello");
}
