//! Whether this process has no threads but one.

use std::io;

/// Shows that nothing stands in the way of forking: no other thread of this process holds a lock that the copy
/// would then never get.
#[derive(Debug)]
pub(crate) struct Alone(());

/// Why this process cannot be forked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this process has {count} threads, and a fork of it would have but one, and the locks of all")]
#[non_exhaustive]
pub struct TooManyThreads {
    /// How many it has.
    pub count: usize,
}

impl Alone {
    /// Counts the threads.
    ///
    /// # Errors
    /// If there are others, with a [`TooManyThreads`]; or if it cannot be told.
    #[cfg(target_os = "linux")]
    pub(crate) fn check() -> io::Result<Self> {
        match pool_os::threads()? {
            1 => Ok(Self(())),
            count => Err(io::Error::other(TooManyThreads { count })),
        }
    }

    /// # Errors
    /// Always: there is no way to ask.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn check() -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this system does not tell how many threads a process has"))
    }

    /// # Safety
    /// What the forked process will do must be possible without the other threads.
    pub(crate) const unsafe fn promised() -> Self {
        Self(())
    }
}
