//! A result must be something that serde can carry.

use std::fs::File;

fn open(path: String) -> File {
    File::open(path).unwrap()
}

fn main() {
    let pool = process_pool::Executor::new().unwrap();
    let _ = pool.submit(open, "/etc/hosts".to_owned());
}
