//! The bootstrap socket after the message: the worker dies with its parent, and may leave a word.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::process::{Signal, getpid, kill_process};

use super::parent_fds::{self, Registered};
use super::sys;
use crate::parcel::{LAST_WORDS_MAX, bounded, words};

/// The parent's end. The worker dies when it is dropped, so it stays until the worker has ended.
#[derive(Debug)]
pub struct Lifeline {
    // Before the socket, so that it is dropped first.
    _registered: Registered,
    socket: UnixStream,
}

impl Lifeline {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { _registered: parent_fds::register(socket.as_fd()), socket }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What the worker, which has ended, left as last words. Nothing is kept for it any more.
    pub fn last_words(self) -> Option<String> {
        self.read_last_words()
    }

    pub(super) fn read_last_words(&self) -> Option<String> {
        let mut bytes = Vec::new();
        // The socket does not block, so this ends with what is there, even if something that the worker has
        // left behind still holds its end.
        let _ = (&self.socket).take(LAST_WORDS_MAX as u64).read_to_end(&mut bytes);
        words(&bytes)
    }

    /// Ends the worker as if this process were gone. Its last words can be read all the same.
    pub fn cut(&self) {
        // It fails only if the worker's end is closed, so that there is nobody left to tell.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Waits until nobody holds the worker's end: the worker has ended, and nothing it forked is left. Not longer
    /// than `limit`.
    pub fn wait_for_end(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        // Hang-up is reported unasked. What can be read, if it is words and not the end, stays where it is.
        let mut ends = [PollFd::new(&self.socket, PollFlags::empty())];
        loop {
            let Ok(left) = Timespec::try_from(deadline.saturating_duration_since(Instant::now())) else { return };
            match poll(&mut ends, Some(&left)) {
                Err(Errno::INTR) => {}
                _ => return,
            }
        }
    }
}

/// Ties this process to its parent: when the parent is gone, this process ends at once, busy or idle, without
/// running destructors or exit handlers.
///
/// Nobody but the parent holds the socket's other end and nobody writes to it, so end of file means that the
/// parent is gone.
///
/// On Linux the kernel sees to it, in two ways: a signal when the parent ends, and one when the socket does. So a
/// worker has but the one thread. Elsewhere, and where a sandbox forbids one of the two, a thread waits for the end
/// of the socket. It cannot act in a stopped process; there it is the hang-up that a stopped, orphaned process group
/// gets.
pub(super) fn hold(socket: Arc<OwnedFd>) -> io::Result<()> {
    // A parent that died before this line sends no signal, but leaves end of file.
    let is_tied = tie();
    #[cfg(target_os = "linux")]
    if is_tied && sys::die_by(socket.as_fd()).is_ok() {
        // Or before that line. Nobody writes, so what can be read is the end.
        if has_now(socket.as_fd(), PollFlags::IN) {
            die();
        }
        HELD.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
        return Ok(());
    }
    let _ = is_tied;
    hold_from_afar(socket)
}

/// Open for as long as this process lives. (A forked worker has one of its own beside its parent's, if that is a worker
/// too.)
#[cfg(target_os = "linux")]
static HELD: Mutex<Vec<Arc<OwnedFd>>> = Mutex::new(Vec::new());

/// Whether something of `awaited` is there now, or the other end is closed, which is told unasked.
pub(super) fn has_now(socket: BorrowedFd<'_>, awaited: PollFlags) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut ends = [PollFd::from_borrowed_fd(socket, awaited)];
    retry_on_intr(|| poll(&mut ends, Some(&now))).is_ok_and(|count| count > 0)
}

/// The part of it that holds for any process, whoever started it. A stopped process notices when it goes on.
pub(super) fn hold_from_afar(socket: Arc<OwnedFd>) -> io::Result<()> {
    thread::Builder::new().name("pool-lifeline".to_owned()).stack_size(STACK).spawn(move || watch(&socket))?;
    Ok(())
}

/// The part of it that needs no socket: the kernel ends this process with its parent, where it can. Whether it will.
pub(super) fn tie() -> bool {
    #[cfg(target_os = "linux")]
    {
        take_back_name();
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    false
}

fn watch(socket: &OwnedFd) {
    sys::block_signals();
    let mut nothing = [0; 16];
    while let Ok(1..) | Err(Errno::INTR) = read(socket, &mut nothing) {}
    die();
}

/// The parent is gone: nobody waits for anything this process could still do or say.
fn die() -> ! {
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
