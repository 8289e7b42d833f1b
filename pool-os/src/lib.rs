//! Child processes, handle passing and lifelines: the operating-system ground under process-pool's start methods.
