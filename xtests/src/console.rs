//! A console of Windows', and its Ctrl-Break.

use std::io;
use std::sync::mpsc::Receiver;

use crate::sys;

/// Gives this process a console of its own, so that what is pressed at it is heard by this process and its children, and
/// by nobody else.
///
/// # Errors
/// If the system has none to give.
pub fn renew() -> io::Result<()> {
    sys::new_console()
}

/// Presses Ctrl-Break.
///
/// # Errors
/// If this process has no console.
pub fn press_break() -> io::Result<()> {
    sys::press_break()
}

/// Says each Ctrl-Break that this process hears. If `kept`, it goes no further; else to whoever listened before, in the
/// end to the system's own handler, which ends the process.
///
/// # Errors
/// If it was called before.
pub fn breaks(kept: bool) -> io::Result<Receiver<()>> {
    sys::pressed(kept)
}
