//! A closure that owns something is not even `Copy`.

fn main() {
    let pool = process_pool::Executor::new().unwrap();
    let greeting = "hello ".to_owned();
    let _ = pool.submit(move |name: String| greeting.clone() + &name, "world".to_owned());
}
