//! In the place of the page of claim words, where the system has none that both sides can trust.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::AtomicU64;

use pool_core::transport::Handle;

use crate::claims::{Board, SLOTS};

/// There is no page: this cannot be made.
#[derive(Debug)]
pub struct Page(Infallible);

impl Page {
    /// Fails.
    pub fn create() -> io::Result<(Self, Handle)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Fails.
    pub fn open(_: Handle) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Board for Page {
    fn words(&self) -> &[AtomicU64; SLOTS] {
        match self.0 {}
    }

    fn spin(&self) -> &AtomicU64 {
        match self.0 {}
    }
}
