//! An executor is shared by reference, and used from any thread.

use process_pool::{Builder, Bytes, Codec, Context, Executor, Map, Shutdown, WorkerMain};

fn is_send<T: Send>() {}
fn is_sync<T: Sync>() {}
fn is_static<T: 'static>() {}
fn is_debug<T: std::fmt::Debug>() {}

fn double(n: u64) -> u64 {
    2 * n
}

/// What takes no argument takes `()`; what may fail returns a `Result`; several arguments are a tuple.
fn functions_of_many_kinds(pool: &Executor) -> Result<(), Box<dyn std::error::Error>> {
    let _: u64 = pool.submit(double, 1)?.result()?;
    let _: u64 = pool.submit(|n: u64| n + 1, 1)?.result()?;
    let _: u32 = pool.submit(|()| std::process::id(), ())?.result()?;
    let _: u64 = pool.submit(|(base, exponent)| u64::pow(base, exponent), (2, 10))?.result()?;
    let _: Result<u8, String> =
        pool.submit(|text: String| text.parse().map_err(|_| text), "7".into())?.result()?;
    let _: Bytes = pool.submit(|bytes: Bytes| bytes, Bytes::from(vec![1]))?.result()?;
    let _: Vec<String> = pool.submit(generic::<String>, vec!["a".to_owned()])?.result()?;
    let _: Result<Vec<u64>, _> = pool.map(double, [1, 2]).chunksize(2).buffersize(8).unordered().collect();
    Ok(())
}

fn generic<T>(items: Vec<T>) -> Vec<T> {
    items
}

/// No method needs it for itself alone.
fn methods_borrow(pool: &Executor) {
    pool.shutdown(Shutdown { wait: false, cancel_futures: true });
    pool.terminate_workers();
    pool.kill_workers();
    let _ =
        (pool.max_workers(), pool.workers(), pool.worker_pids(), pool.pending(), pool.broken(), pool.context());
}

/// An initializer returns nothing or a `Result`.
fn initializers(builder: Builder) -> Builder {
    builder.initializer(drop::<u8>, 1).initializer(|_: u8| Err::<(), _>("no"), 1)
}

fn main() {
    is_send::<Executor>();
    is_sync::<Executor>();
    is_static::<Executor>();
    is_debug::<Executor>();
    is_send::<Builder>();
    is_send::<Context>();
    is_debug::<Context>();
    is_send::<Codec>();
    is_send::<WorkerMain>();
    is_send::<Map<'_, fn(u64) -> u64, u64, u64, std::ops::Range<u64>>>();
    let _ = functions_of_many_kinds;
    let _ = methods_borrow;
    let _ = initializers;
}
