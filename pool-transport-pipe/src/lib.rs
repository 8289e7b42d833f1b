//! OS pipes with claim words: the default transport of process-pool.
