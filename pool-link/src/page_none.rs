//! In the place of the page of claim words, where the system has none that both sides can trust.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::AtomicU64;

use pool_core::transport::Handle;

use crate::claims::SLOTS;

/// There is no page: this cannot be made.
#[derive(Debug)]
pub(crate) struct Page(Infallible);

impl Page {
    pub(crate) fn create() -> io::Result<(Self, Handle)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn open(_: Handle) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn words(&self) -> &[AtomicU64; SLOTS] {
        match self.0 {}
    }
}
