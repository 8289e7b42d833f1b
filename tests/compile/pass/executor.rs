//! An executor is shared by reference, and used from any thread.

use process_pool::{
    Builder, Bytes, CallOptions, Codec, Context, Executor, Map, Shutdown, Submission, TaskHandle, TrySubmitError,
    WorkerMain,
};

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
    let handle: Result<TaskHandle<u64>, TrySubmitError<u64>> = pool.try_submit(double, 1);
    let _: u64 = handle?.result()?;
    let submission: Submission<u64> = pool.submit_async(double, 1);
    drop(async { submission.await?.await.map_err(Box::<dyn std::error::Error>::from) });
    // What options were given may be gone before the map.
    let map = { pool.with(CallOptions::new().priority(1)) }.map(double, [1, 2]);
    let _: Result<Vec<u64>, _> = map.collect();
    Ok(())
}

fn generic<T>(items: Vec<T>) -> Vec<T> {
    items
}

struct Model {
    words: std::rc::Rc<Vec<String>>,
}

/// What takes the worker context takes it first, by `&mut`; the exit hook takes it for good.
fn functions_with_a_context(builder: Builder) -> Result<(), Box<dyn std::error::Error>> {
    fn count(model: &mut Model, n: usize) -> usize {
        n + model.words.len()
    }
    let load = |words: Vec<String>| Ok::<_, std::num::ParseIntError>(Model { words: words.into() });
    let pool = builder.initializer(load, vec![]).worker_exit(drop::<Model>).build()?;
    let _: usize = pool.submit_with(count, 1)?.result()?;
    let _: usize = pool.submit_with(|model: &mut Model, ()| model.words.len(), ())?.result()?;
    let _: bool = pool.submit_with(|_: &mut Model, (a, b)| u8::eq(&a, &b), (1, 2))?.result()?;
    let _: u64 = pool.with(CallOptions::new()).submit_with(|_: &mut Model, n: u64| n, 1)?.result()?;
    let _: Result<Vec<usize>, _> = pool.map_with(count, [1, 2]).chunksize(2).collect();
    Ok(())
}

/// No method needs it for itself alone.
fn methods_borrow(pool: &Executor) {
    pool.shutdown(Shutdown { wait: false, cancel_futures: true, ..Shutdown::default() });
    pool.terminate_workers();
    pool.kill_workers();
    let _ = pool.resize(2);
    let _ =
        (pool.max_workers(), pool.workers(), pool.worker_pids(), pool.pending(), pool.broken(), pool.context());
}

/// An initializer returns nothing or a `Result`.
fn initializers(builder: Builder) -> Builder {
    builder.initializer(drop::<u8>, 1).initializer(|_: u8| Err::<(), _>("no"), 1).worker_exit(|()| ())
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
    is_send::<Submission<std::cell::Cell<u64>>>();
    is_static::<Submission<u64>>();
    is_send::<Map<'_, fn(u64) -> u64, u64, u64, std::ops::Range<u64>>>();
    let _ = functions_of_many_kinds;
    let _ = functions_with_a_context;
    let _ = methods_borrow;
    let _ = initializers;
}
