//! The descriptors that belong to this process in its role as a parent: lifelines, control sockets, pidfds,
//! and the ends of links that are not a worker's.
//!
//! All of them are closed when a program is executed. A process that is forked and runs on, as the start
//! method Fork has it, keeps a copy of each, and that must not be: a lifeline whose other end a worker holds,
//! for one, never says that the parent is gone. So each is [registered](register) here, and given up in the
//! forked process, before anything else happens there.
//!
//! What the program itself has open is its own affair, and stays usable in the forked process.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::sys;

/// Their numbers. Locked for a moment, and while this process is forked.
static NUMBERS: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

fn numbers() -> MutexGuard<'static, BTreeSet<RawFd>> {
    NUMBERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes that `fd` is this process's alone, from now until the returned value is dropped, which must happen
/// before `fd` is closed: let its owner have it in a field that stands before the descriptor.
pub fn register(fd: BorrowedFd<'_>) -> Registered {
    numbers().insert(fd.as_raw_fd());
    Registered(fd.as_raw_fd())
}

/// A descriptor's place in the register.
#[derive(Debug)]
#[must_use = "dropping it takes the descriptor out of the register"]
pub struct Registered(RawFd);

impl Drop for Registered {
    fn drop(&mut self) {
        numbers().remove(&self.0);
    }
}

/// A registered descriptor.
#[derive(Debug)]
pub struct ParentFd {
    // First, so that it is dropped first: the number must be out of the register before it can become that of
    // a descriptor of the program's.
    _registered: Registered,
    fd: OwnedFd,
}

impl ParentFd {
    /// Registers `fd`.
    pub fn new(fd: impl Into<OwnedFd>) -> Self {
        let fd = fd.into();
        Self { _registered: register(fd.as_fd()), fd }
    }
}

impl AsFd for ParentFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Keeps others from the register, so that it is whole in a process that is forked meanwhile.
pub fn lock() -> Locked {
    Locked { numbers: numbers() }
}

/// The register, held still. Dropping it in the parent is all there is to do there.
#[derive(Debug)]
#[must_use = "the register is free again as soon as this is dropped"]
pub struct Locked {
    numbers: MutexGuard<'static, BTreeSet<RawFd>>,
}

impl Locked {
    /// In the forked process: gives up all that is registered.
    ///
    /// The numbers stay taken, by an empty input. The values that own them are still in memory, copied with all
    /// the rest; were the numbers free, such a value would soon use or close somebody else's descriptor.
    ///
    /// # Errors
    /// If the operating system does not even give one descriptor; the process should end then.
    pub fn give_up(mut self) -> io::Result<()> {
        let numbers = mem::take(&mut *self.numbers);
        if numbers.is_empty() {
            return Ok(());
        }
        let nothing = empty_input()?;
        numbers.into_iter().try_for_each(|number| sys::replace(number, nothing.as_fd()))
    }
}

/// Has the kernel lay out this process's table of descriptors for as many as a large pool takes, once, while there
/// is but one thread; later it does nothing.
///
/// A table that has to grow is exchanged for one of twice the size. In a process with threads Linux then waits until
/// every processor has left its old one, for some ms each time: in whichever call needs one descriptor more, at the
/// 64th, the 128th and so on.
pub fn make_room() {
    #[cfg(target_os = "linux")]
    if !MADE.swap(true, Ordering::Relaxed) && crate::threads().is_ok_and(|threads| threads == 1) {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(ROOM);
        let last = i32::try_from(limit.min(ROOM).saturating_sub(1)).unwrap_or_default();
        // Without it all works the same, at worst later.
        drop(empty_input().map(|fd| rustix::io::fcntl_dupfd_cloexec(&fd, last)));
    }
}

/// Whether it was asked for, by one start method or another.
#[cfg(target_os = "linux")]
static MADE: AtomicBool = AtomicBool::new(false);

/// Enough for 200 workers; 8 KiB of the kernel's memory. Many systems allow no more anyhow.
#[cfg(target_os = "linux")]
const ROOM: u64 = 1024;

/// Something to read from that has nothing.
pub(super) fn empty_input() -> io::Result<OwnedFd> {
    match File::open("/dev/null") {
        Ok(null) => Ok(null.into()),
        // Some sandboxes have no /dev. A pipe that nobody writes to is as empty.
        Err(_) => Ok(io::pipe()?.0.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_registered_for_as_long_as_it_is_open() {
        let (reader, _writer) = io::pipe().expect("a pipe");
        let number = reader.as_raw_fd();
        let has = || numbers().contains(&number);
        let fd = ParentFd::new(reader);
        assert!(has());
        drop(fd);
        assert!(!has());
    }
}
