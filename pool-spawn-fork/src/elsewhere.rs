//! Systems that cannot fork: the names are there, so that a program need not be written twice, and say so.

use pool_core::spawner::{Arrival, Entry, OnExit, SpawnError, Spawner, SpawnerCaps, Worker};
use pool_core::transport::Ticket;
use pool_core::worker::WorkerEntry;

use crate::{FORK, FORK_SERVER};

/// Workers are forked by a fork server, which this system does not have: no pool is built with it.
#[derive(Clone, Debug, Default)]
pub struct ForkServer(());

/// Workers are forked by a copy of this program, which this system cannot make: no pool is built with it.
#[derive(Debug, Default)]
pub struct Fork(());

impl ForkServer {
    /// A fork server that does not start.
    pub fn new() -> Self {
        Self(())
    }
}

impl Fork {
    /// A start method that does not start.
    pub fn new() -> Self {
        Self(())
    }

    /// The same.
    ///
    /// # Safety
    /// None here; see its documentation on Unix.
    pub unsafe fn new_unchecked() -> Self {
        Self(())
    }
}

macro_rules! unsupported {
    ($type:ty, $name:expr) => {
        impl Spawner for $type {
            fn name(&self) -> &str {
                $name
            }

            fn caps(&self) -> SpawnerCaps {
                SpawnerCaps::full()
            }

            fn supported(&self) -> Result<(), SpawnError> {
                Err(SpawnError::Unsupported { name: $name, why: "it cannot copy a process; use `exec`" })
            }

            fn prepare(&self, _: WorkerEntry) -> Result<(), SpawnError> {
                self.supported()
            }

            fn spawn(&self, _: Ticket, _: OnExit) -> Result<Box<dyn Worker>, SpawnError> {
                self.supported().map(|()| unreachable!("invariant: it is not supported"))
            }
        }
    };
}

unsupported!(ForkServer, FORK_SERVER);
unsupported!(Fork, FORK);

/// The worker's half of [`ForkServer`]: no process ever is one.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForkServerEntry;

impl Entry for ForkServerEntry {
    fn name(&self) -> &str {
        FORK_SERVER
    }

    fn is_worker(&self) -> bool {
        false
    }

    fn arrive(&self) -> Arrival {
        Arrival::NotAWorker
    }
}
