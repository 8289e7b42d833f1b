//! What is this transport's own affair: how the two ends find each other, peers that are not of our making, and
//! what ipc-channel does.

mod opening;
mod peers;
#[cfg(target_os = "linux")]
mod signals;
#[cfg(target_os = "linux")]
mod traps;
