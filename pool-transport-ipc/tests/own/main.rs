//! The laws of `pool_core::transport`, held against this transport: both ends in one process, joined by the ticket.

mod ending;
mod frames;
mod opening;
mod peers;
#[cfg(target_os = "linux")]
mod signals;
mod support;
#[cfg(target_os = "linux")]
mod traps;
