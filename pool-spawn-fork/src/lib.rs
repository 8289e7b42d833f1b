//! process-pool's ForkServer and Fork start methods (not there yet).
