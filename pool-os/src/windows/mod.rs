//! Windows: a pipe carries the parcel, a job and the parent's process handle are the lifeline.

mod bootstrap;
mod child;
mod lifeline;
mod process;
mod sys;

pub use bootstrap::{arrive, is_ours};
pub use child::Child;
pub(crate) use child::launch;
pub use lifeline::LastWords;

/// Windows has nothing like set-user-id: a program runs with the rights of whoever started it, or the system
/// starts it in a new session, without the starter's handles.
pub(crate) fn is_elevated() -> bool {
    false
}
