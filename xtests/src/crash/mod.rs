//! The crash matrix: what may happen to a worker, a call or a parent, and what the call, its neighbours and the pool
//! see of it.
//!
//! Each [`Event`] is played on a pool of two workers, of which one is busy with a call that waits at a gate: the
//! neighbour. The event befalls the other worker, or its call. The victim's outcome must be there while the neighbour
//! still waits; then the neighbour and the calls queued behind the two must have their results, the pool must take
//! more, and when it is dropped no process may be left. Every call notes in a ledger, a file, that its body has begun:
//! none may be there twice, whatever happened.
//!
//! `xtests/crash_matrix.md` says it for people to read; `xtests/tests/crash.rs` judges every event in every context,
//! and the example `survive` shows it.

mod deeds;
mod events;
mod parent;
mod scene;
mod sys;

use std::path::Path;

use pool_core::{Builder, Executor};

pub use events::EVENTS;
pub use parent::{attend, become_parent};

use crate::context;

/// The environment variable that names the folder of an event's process, and so of its workers.
pub const FOLDER: &str = crate::trial::DIR;

/// What is held, or else what is not.
pub type Held<T> = Result<T, String>;

/// Something that happens.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// A sentence.
    pub name: &'static str,
    /// Makes it happen, and judges.
    pub play: fn(&Setting<'_>) -> Held<Seen>,
    /// Why it cannot happen in this context or on this system, if so.
    pub unfit: fn(&Setting<'_>) -> Option<&'static str>,
}

/// Where it happens.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The context's name, such as `exec+pipe`.
    pub context: &'a str,
    /// A folder to write to.
    pub folder: &'a Path,
}

/// What was seen, in a few words each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How the call ended that it happened to.
    pub call: String,
    /// How the calls beside and behind it ended.
    pub neighbours: String,
    /// How the pool was afterwards.
    pub pool: String,
}

impl Setting<'_> {
    fn builder(&self) -> Builder {
        Executor::builder().context(context::named(self.context))
    }

    fn start_method(&self) -> &str {
        self.context.split('+').next().unwrap_or_default()
    }

    /// Whether the pool knows which of the calls it has sent have started.
    fn claims(&self) -> bool {
        let transport = self.context.split('+').nth(1).unwrap_or_default();
        context::link_caps(transport).revocable.is_some()
    }
}
