//! Contexts by name, as the cases use them.

use std::borrow::Cow;
use std::sync::Arc;

use pool_core::Context;
use pool_core::transport::{Closed, LinkCaps, LinkEvents, Transport};
use process_pool::carry::{Ipc, Pipe, Shm};

use crate::sys;

/// The transport of a context that names none.
pub const USUAL_TRANSPORT: &str = if cfg!(target_os = "linux") { "shm" } else { "pipe" };

/// The context of this name. A process that has threads by now forks all the same.
///
/// Fork wants its pool to be built before there are threads; a case may have several pools, gates and threads
/// first. The first pool of a process without threads is checked as any program's is.
///
/// # Panics
/// If this program does not know the context.
pub fn named(name: &str) -> Context {
    let context: Context = name.parse().expect("a known context");
    if name.split('+').next() == Some("fork") && !is_alone() { sys::fork_with_threads(context) } else { context }
}

/// Whether this process has one thread.
fn is_alone() -> bool {
    // Where the system does not tell, Fork would not do without its promise either.
    cfg!(target_os = "linux") && std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// What a link of this transport can do: asks one.
pub(crate) fn link_caps(transport: &str) -> LinkCaps {
    let transport: Box<dyn Transport> = match transport {
        "ipc" => Box::new(Ipc::new()),
        "shm" => Box::new(Shm::new()),
        _ => Box::new(Pipe::new()),
    };
    let (link, _ticket) = transport.open(Arc::new(Deaf)).expect("a link");
    link.caps()
}

struct Deaf;

impl LinkEvents for Deaf {
    fn arriving(&self) {}

    fn frame(&self, _: Cow<'_, [u8]>) {}

    fn drained(&self) {}

    fn closed(&self, _: Closed) {}
}
