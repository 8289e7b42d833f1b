//! The laws of `pool_core::transport`, held against this transport: both ends in one process, joined by the ticket.

mod claims;
#[cfg(all(any(target_os = "linux", target_os = "android"), not(pool_pipe_poll)))]
mod drive;
mod ending;
mod frames;
mod support;
