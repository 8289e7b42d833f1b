//! The start methods `ForkServer` and `Fork` of process-pool. Not there yet: this crate is empty.
//!
//! `ForkServer` will be an exec'd, single-threaded process that forks workers on request; `Fork` a copy of the
//! program as it is when the pool is built, which does the same.
