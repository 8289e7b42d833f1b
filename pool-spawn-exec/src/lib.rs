//! The Exec start method of process-pool: this program again, or another program.
