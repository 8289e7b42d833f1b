//! process-pool's transport over the crate ipc-channel. Not there yet: this crate is empty.
