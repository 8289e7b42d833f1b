//! Errors can be kept, sent on and boxed; those of calls can be cloned, so that each call has its own.

use std::error::Error;

use process_pool::context::ContextError;
use process_pool::error::{BreakReason, CodecError, InitializerFailed, Panicked, StartError, WorkerLost};
use process_pool::future::TimedOut;
use process_pool::spawner::SpawnError;
use process_pool::{BrokenPool, BuildError, SubmitError, TaskError};

fn is_error<T: Error + Send + Sync + 'static>() {}
fn is_clone<T: Clone>() {}

fn main() {
    is_error::<BuildError>();
    is_error::<SpawnError>();

    is_error::<SubmitError>();
    is_clone::<SubmitError>();
    is_error::<TaskError>();
    is_clone::<TaskError>();
    is_error::<BrokenPool>();
    is_clone::<BrokenPool>();
    is_error::<BreakReason>();
    is_clone::<BreakReason>();
    is_error::<StartError>();
    is_clone::<StartError>();
    is_error::<Panicked>();
    is_clone::<Panicked>();
    is_error::<WorkerLost>();
    is_clone::<WorkerLost>();
    is_error::<CodecError>();
    is_clone::<CodecError>();
    is_error::<InitializerFailed>();
    is_clone::<InitializerFailed>();
    is_error::<ContextError>();
    is_clone::<ContextError>();
    is_error::<TimedOut>();
    is_clone::<TimedOut>();
}
