//! In the place of the transport where there is none.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pool_core::transport::{Channel, Connector, Link, LinkEvents, Ticket};

use crate::NAME;

/// Makes the worker's end of a link of [`Shm`](crate::Shm): not on this system.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShmConnector;

impl Connector for ShmConnector {
    fn name(&self) -> &str {
        NAME
    }

    fn connect(&self, _: Ticket) -> io::Result<Box<dyn Channel>> {
        Err(unsupported())
    }
}

#[derive(Debug, Default)]
pub(crate) struct Host;

impl Host {
    pub(crate) fn supported() -> io::Result<()> {
        Err(unsupported())
    }

    pub(crate) fn prepare(&self, _: Duration) -> io::Result<()> {
        Err(unsupported())
    }

    pub(crate) fn open(
        &self,
        _: usize,
        _: Duration,
        _: Arc<dyn LinkEvents>,
    ) -> io::Result<(Box<dyn Link>, Ticket)> {
        Err(unsupported())
    }
}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "the transport `shm` needs Linux: use `pipe`")
}
