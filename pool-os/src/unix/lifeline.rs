//! The worker's end of the bootstrap socket after the message: it dies with its parent, and may leave a word.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use rustix::io::{Errno, read};
use rustix::process::{Signal, getpid, kill_process};

use super::sys;
use crate::parcel::bounded;

/// Ties this process to its parent: when the parent is gone, this process ends at once, busy or idle, without
/// running destructors or exit handlers.
///
/// Nobody but the parent holds the socket's other end and nobody writes to it, so end of file means that the
/// parent is gone. A stopped process cannot notice: that Linux ends by a signal of its own, and elsewhere the
/// hang-up that a stopped, orphaned process group gets.
pub(super) fn hold(socket: Arc<OwnedFd>) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // A parent that died before this line sends no signal, but leaves end of file for the thread below.
        // A refusal is no failure: the thread does all but the case of the stopped process.
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        take_back_name();
    }
    thread::Builder::new().name("pool-lifeline".to_owned()).stack_size(STACK).spawn(move || watch(&socket))?;
    Ok(())
}

fn watch(socket: &OwnedFd) {
    sys::block_signals();
    let mut nothing = [0; 16];
    while let Ok(1..) | Err(Errno::INTR) = read(socket, &mut nothing) {}
    // The parent is gone: nobody waits for anything this process could still do or say.
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort();
}

/// A program that was started as `/proc/self/exe` is called "exe" in `ps` and `top`: gives it back the name it
/// was called by.
#[cfg(target_os = "linux")]
fn take_back_name() {
    use std::os::unix::ffi::OsStrExt;

    const COMM_MAX: usize = 15;
    let is_exe = rustix::thread::name().is_ok_and(|name| name.as_bytes() == b"exe");
    let called = std::env::args_os().next();
    if let Some(name) = called.as_deref().map(std::path::Path::new).and_then(std::path::Path::file_name)
        && is_exe
        && let Ok(name) = std::ffi::CString::new(&name.as_bytes()[..name.len().min(COMM_MAX)])
    {
        // It is for people to read; a refusal harms nobody.
        let _ = rustix::thread::set_name(&name);
    }
}

/// A way to tell the parent why this process ends.
#[derive(Debug)]
pub struct LastWords(Arc<OwnedFd>);

impl LastWords {
    pub(super) fn new(socket: Arc<OwnedFd>) -> Self {
        Self(socket)
    }

    /// Leaves `text`, cut to [`LAST_WORDS_MAX`](crate::LAST_WORDS_MAX), for the parent to find when this
    /// process has ended. Never waits.
    pub fn say(self, text: &str) {
        let Ok(socket) = self.0.try_clone() else { return };
        let mut socket = UnixStream::from(socket);
        // The buffer is empty and takes far more than this, so the write is whole; and if the parent is gone,
        // nobody wants to know. (`std` asks for no signal then.)
        let _ = socket.write_all(bounded(text).as_bytes());
    }
}

/// The thread reads and kills; `std` adds a little of its own.
const STACK: usize = 64 * 1024;
