//! So does `await`.

use process_pool::TaskHandle;

async fn twice(handle: TaskHandle<u64>) -> bool {
    let _ = handle.await;
    handle.done()
}

fn main() {}
