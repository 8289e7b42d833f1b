//! What can go wrong: one small enum for each question a caller can act on.

use std::fmt;

/// How a worker process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it (Unix).
    Signal(i32),
    /// Nobody can tell, for this reason.
    Unknown(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Unknown(why) => write!(f, "unknown exit ({why})"),
        }
    }
}
