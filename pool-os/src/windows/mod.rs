//! Windows: a pipe carries the parcel, a job and the parent's process handle are the lifeline.

mod bootstrap;
mod child;
mod guest;
mod lifeline;
mod process;
mod sys;

pub use bootstrap::{arrive, is_ours};
pub use child::Child;
pub(crate) use child::launch;
pub use guest::{Guest, Peer, admit, arrive_as_guest};
pub use lifeline::LastWords;

/// Takes a variable out of this process's environment, so that no process further down inherits it.
pub fn forget_variable(name: &str) {
    sys::remove_variable(name);
}

/// Windows has nothing like set-user-id: a program runs with the rights of whoever started it, or the system
/// starts it in a new session, without the starter's handles.
pub(crate) fn is_elevated() -> bool {
    false
}
