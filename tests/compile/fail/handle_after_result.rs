//! A result is moved out once: the handle is gone with it.

use process_pool::TaskHandle;

fn twice(handle: TaskHandle<u64>) -> bool {
    let _ = handle.result();
    handle.done()
}

fn main() {}
