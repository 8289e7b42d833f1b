//! Unix: a socketpair carries the parcel, then is the lifeline.

mod bootstrap;
mod child;
mod lifeline;
#[cfg(target_os = "linux")]
pub(crate) mod reaper;
mod sys;

pub use bootstrap::{arrive, is_ours};
pub use child::Child;
pub(crate) use child::launch;
pub use lifeline::LastWords;
pub(crate) use sys::is_elevated;
