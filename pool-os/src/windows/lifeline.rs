//! The worker dies with its parent, and may leave a word.

use std::fs::File;
use std::io::{self, Write};
use std::os::windows::io::{AsHandle, OwnedHandle};
use std::thread;

use super::sys;
use crate::parcel::bounded;

/// Ties this process to `parent`: when that has ended, this process ends at once, without running destructors
/// or exit handlers. The parent's job does the same, but for a process that may not be in one.
pub(super) fn hold(parent: OwnedHandle) -> io::Result<()> {
    let watch = move || {
        sys::wait(parent.as_handle(), None);
        sys::terminate_self();
    };
    thread::Builder::new().name("pool-lifeline".to_owned()).stack_size(STACK).spawn(watch)?;
    Ok(())
}

/// A way to tell the parent why this process ends.
#[derive(Debug)]
pub struct LastWords(OwnedHandle);

impl LastWords {
    pub(super) fn new(pipe: OwnedHandle) -> Self {
        Self(pipe)
    }

    /// Leaves `text`, cut to [`LAST_WORDS_MAX`](crate::LAST_WORDS_MAX), for the parent to find when this
    /// process has ended. Never waits.
    pub fn say(self, text: &str) {
        // The pipe is empty and takes more than this. If the parent is gone, nobody wants to know.
        let _ = File::from(self.0).write_all(bounded(text).as_bytes());
    }
}

/// The thread waits and terminates; `std` adds a little of its own.
const STACK: usize = 64 * 1024;
