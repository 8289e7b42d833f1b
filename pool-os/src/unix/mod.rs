//! Unix: a socketpair carries the parcel, then is the lifeline.

mod bootstrap;
mod child;
mod guest;
mod lifeline;
pub mod parent_fds;
#[cfg(target_os = "linux")]
pub(crate) mod reaper;
mod sys;

pub use bootstrap::{arrive, arrive_alone, arrive_over, is_ours, pack};
pub use child::Child;
pub(crate) use child::launch;
pub use guest::{Guest, Peer, admit, arrive_as_guest};
pub use lifeline::{LastWords, Lifeline};
pub use sys::forget_variable;
pub(crate) use sys::is_elevated;
