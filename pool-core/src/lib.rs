//! placeholder
#![deny(unsafe_code)]
pub mod error;
pub mod spawner;
pub mod transport;
pub mod worker;
/// The pool's name for a worker, unique in its pool for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u64);
