//! process-pool.
pub use pool_core;
