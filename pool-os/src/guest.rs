//! What both systems' ways to admit a process that has connected have in common.

use std::io;

/// The byte that admits a process. What comes with it or after it differs between systems; any other byte is for
/// the caller of [`admit`](crate::admit) to define.
pub(crate) const ADMITTED: u8 = 1;

/// The name of the threads that wait for such a process.
pub(crate) const NAME: &str = "pool-guest";

/// Enough for the callback, which is not ours; only what is touched costs memory.
pub(crate) const STACK: usize = 256 * 1024;

/// The exit status of a process that somebody else started.
pub(crate) fn not_ours() -> io::Error {
    io::Error::other("it was started by somebody else, who alone learns how it ended")
}
