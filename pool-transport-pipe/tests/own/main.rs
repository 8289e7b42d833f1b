//! What is this transport's own affair: bytes that no `Channel` would send, tickets, and what its links share.

mod claims;
#[cfg(all(any(target_os = "linux", target_os = "android"), not(pool_pipe_poll)))]
mod drive;
mod frames;
