//! What may be done with a handle, whatever its result is.

use std::cell::Cell;
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use process_pool::{ReturnWhen, Settled, TaskError, TaskHandle, TaskState, as_completed, wait};

/// May be sent, but not shared.
type NotSync = Cell<u8>;
/// May not be moved once pinned.
type NotUnpin = PhantomPinned;

fn is_send<T: Send>() {}
fn is_sync<T: Sync>() {}
fn is_unpin<T: Unpin>() {}
fn is_static<T: 'static>() {}
fn is_debug<T: std::fmt::Debug>() {}
fn is_future<R, T: Future<Output = Result<R, TaskError>>>() {}

fn it_can_go_to_any_thread() {
    is_send::<TaskHandle<u64>>();
    is_send::<TaskHandle<NotSync>>();
    is_sync::<TaskHandle<NotSync>>();
    is_send::<TaskHandle<NotUnpin>>();
    is_sync::<TaskHandle<NotUnpin>>();
    is_unpin::<TaskHandle<NotUnpin>>();
    is_unpin::<TaskHandle<NotSync>>();
    is_static::<TaskHandle<NotSync>>();
    is_debug::<TaskHandle<NotUnpin>>();
}

fn it_is_a_future_of_its_result() {
    is_future::<u64, TaskHandle<u64>>();
    is_future::<NotSync, TaskHandle<NotSync>>();
}

/// Of the standard library only: no runtime, no pinning macro.
fn it_is_polled_without_a_runtime(mut handle: TaskHandle<u64>) -> Poll<Result<u64, TaskError>> {
    Pin::new(&mut handle).poll(&mut Context::from_waker(Waker::noop()))
}

fn a_future_that_awaits_it_can_go_to_any_thread(handle: TaskHandle<NotSync>) -> impl Future + Send {
    async move { handle.await.map(Cell::into_inner) }
}

fn result_consumes(handle: TaskHandle<NotSync>) -> Result<NotSync, TaskError> {
    handle.result()
}

/// With the parameter shared, each of these borrows.
fn the_rest_borrows(handle: &TaskHandle<NotSync>) {
    let _: Option<Result<NotSync, TaskError>> = handle.result_timeout(Duration::ZERO);
    let () = handle.wait();
    let _: bool = handle.wait_timeout(Duration::ZERO);
    let _: TaskState = handle.state();
    let _: (bool, bool, bool) = (handle.running(), handle.done(), handle.cancelled());
    let _: Option<&TaskError> = handle.error();
    let _: bool = handle.cancel();
    let _: &str = handle.task();
    handle.add_done_callback(|settled: &Settled<'_>| assert!(settled.error().is_none()));
}

fn many_are_waited_for_at_once(handles: Vec<TaskHandle<NotSync>>) {
    let waited = wait(&handles, ReturnWhen::FirstCompleted, Some(Duration::from_secs(1)));
    let _: (Vec<&TaskHandle<NotSync>>, Vec<&TaskHandle<NotSync>>) = (waited.done, waited.not_done);
    let mut completed = as_completed(handles, None);
    let _: Option<Result<TaskHandle<NotSync>, process_pool::future::TimedOut>> = completed.next();
    let _: Vec<TaskHandle<NotSync>> = completed.into_unfinished();
    is_send::<process_pool::future::AsCompleted<NotSync>>();
}

fn main() {
    it_can_go_to_any_thread();
    it_is_a_future_of_its_result();
    let _ = it_is_polled_without_a_runtime;
    let _ = |handle| drop(a_future_that_awaits_it_can_go_to_any_thread(handle));
    let _ = result_consumes;
    let _ = the_rest_borrows;
    let _ = many_are_waited_for_at_once;
}
