//! What a transport brings: how bytes get to a worker and back.
//!
//! Each link has two descriptors at the parent: one to read, whose readiness the reactor waits for, and one to write.
//! Where the bytes travel through them ([`Fds`]) there is no more to it. A transport that moves them in another way
//! uses the first as its bell: whatever there is to notice, the other side writes to it.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use pool_os::parent_fds::ParentFd;

/// The parent's side of a stream of bytes each way. All methods are called by whoever happens to serve the link, but
/// the reading ones by one thread at a time, and the writing ones too.
pub trait Stream: fmt::Debug + Send + Sync {
    /// Appends to `to` up to `max` bytes that have arrived. 0 is the end. [`io::ErrorKind::WouldBlock`]: there are no
    /// more just now; from then on what comes, and the end, makes an edge at `fd`, unless this is
    /// [muted](Self::mute). [`io::ErrorKind::InvalidData`]: the other side has broken the rules.
    ///
    /// `hung_up`: the other end of `fd` is gone, so that what is there now is all.
    fn read(&self, fd: &ParentFd, hung_up: bool, to: &mut Vec<u8>, max: usize) -> io::Result<usize>;

    /// Whether getting less than was asked for means that there is no more, as `WouldBlock` does.
    fn gives_all(&self) -> bool;

    /// How many bytes have arrived by now.
    fn available(&self, fd: &ParentFd) -> usize;

    /// Takes as many bytes of `slices`, in order, as there is room for. [`io::ErrorKind::WouldBlock`]: for none.
    fn write(&self, fd: &ParentFd, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// What to do when there was no room.
    fn want_room(&self) -> Room;

    /// The reactor has seen an edge at `fd`, which this may have to take back.
    fn hear(&self, fd: &ParentFd);

    /// While it is muted nothing need make an edge: a thread looks by itself.
    fn mute(&self, is_muted: bool) -> Muting;

    /// A quick look, from that thread, whether a read would find something.
    fn has_arrived(&self, fd: &ParentFd) -> bool;

    /// Nothing is read or written any more.
    fn close(&self);
}

/// How to learn that there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The descriptor to write to will be ready.
    Watch,
    /// There will be an edge at the one to read from.
    Announced,
    /// There is by now.
    There,
}

/// Who keeps the bell from ringing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Muting {
    /// It is done.
    Done,
    /// Nobody yet: the reactor has to look away from the descriptor.
    LookAway,
}

/// Bytes that travel through the descriptors themselves.
#[derive(Debug, Default)]
pub struct Fds {
    widened: Widened,
}

/// Whether a pipe was asked to hold more, once something was written that it cannot take at once.
///
/// Each time it is full a process goes to sleep and another is woken. Pipes that carry small things stay small: a user
/// may have so many bytes in pipes, and no more.
#[derive(Debug, Default)]
pub struct Widened(AtomicBool);

impl Widened {
    /// `len` bytes are to be written to `pipe`.
    pub fn prepare(&self, pipe: impl AsFd, len: usize) {
        /// What a pipe holds unless told otherwise.
        const NARROW: usize = 64 * 1024;
        if len > NARROW && !self.0.swap(true, Ordering::Relaxed) {
            // What a user without privileges may ask for. If that is refused, it goes on as it is.
            #[cfg(any(target_os = "linux", target_os = "android"))]
            let _ = rustix::pipe::fcntl_setpipe_size(pipe, 1024 * 1024);
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            let _ = pipe;
        }
    }
}

impl Stream for Fds {
    fn read(&self, fd: &ParentFd, _: bool, to: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        crate::sys::read_append(fd, to, max)
    }

    fn gives_all(&self) -> bool {
        true
    }

    fn available(&self, fd: &ParentFd) -> usize {
        rustix::io::ioctl_fionread(fd).map_or(0, |count| usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn write(&self, fd: &ParentFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.widened.prepare(fd, slices.iter().map(|slice| slice.len()).sum());
        Ok(rustix::io::writev(fd, slices)?)
    }

    fn want_room(&self) -> Room {
        Room::Watch
    }

    fn hear(&self, _: &ParentFd) {}

    fn mute(&self, _: bool) -> Muting {
        Muting::LookAway
    }

    fn has_arrived(&self, fd: &ParentFd) -> bool {
        self.available(fd) > 0
    }

    fn close(&self) {}
}
