//! An argument must not borrow from its surroundings, even where serde could carry it.

use std::borrow::Cow;

fn length(text: Cow<'_, str>) -> usize {
    text.len()
}

fn main() {
    let pool = process_pool::Executor::new().unwrap();
    let text = "hello".to_owned();
    let _ = pool.submit(length, Cow::Borrowed(text.as_str()));
}
