//! process-pool's transport over the crate ipc-channel (not there yet).
