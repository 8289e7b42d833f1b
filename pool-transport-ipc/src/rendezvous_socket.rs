//! Linux and the BSDs: a socket in a temporary directory.

use std::env;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{self, Path};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// What ipc-channel, and tempfile for it, add to the temporary directory.
const ADDED: &str = ".tmpXXXXXX/socket";
/// Fits the socket address of every Unix system, its final zero included.
const PATH_MAX: usize = 103;

/// Refuses a temporary directory with which ipc-channel would panic, misbehave or leak.
pub(super) fn check() -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let dir = path::absolute(env::temp_dir())?;
    let path = dir.join(ADDED);
    if path.to_str().is_none_or(|path| path.len() > PATH_MAX) {
        let why = format!("the temporary directory {dir:?} is too long for a socket, or not UTF-8: set TMPDIR");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let probe = dir.join(format!(".pool-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    DirBuilder::new().mode(0o700).create(&probe).and_then(|()| fs::remove_dir(&probe)).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot use the temporary directory {dir:?}: {error}"))
    })
}

/// Keeps other users away from the socket.
pub(super) fn make_private(name: &str) -> io::Result<()> {
    match directory(name) {
        Some(dir) => fs::set_permissions(dir, Permissions::from_mode(0o700)),
        None => Err(io::Error::other(format!("ipc-channel chose an unexpected name: {name:?}"))),
    }
}

/// Removes the socket and its directory, if they are still there. Takes no descriptor.
pub(crate) fn remove(name: &str) {
    if let Some(dir) = directory(name) {
        // Errors mean that the other side was first.
        let _ = fs::remove_file(name);
        let _ = fs::remove_dir(dir);
    }
}

/// Ends the wait of the server called `name`: somebody connects, who has nothing to say.
///
/// Not by means of ipc-channel, which leaks a descriptor if the server is just gone, and may block.
pub(crate) fn knock(name: &str) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // An error means that the server has ended, or that others are connecting.
    let _ = net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .and_then(|socket| net::connect(&socket, &SocketAddrUnix::new(name)?));
}

fn directory(name: &str) -> Option<&Path> {
    let path = Path::new(name);
    path.parent().filter(|_| path.is_absolute() && path.file_name().is_some_and(|name| name == "socket"))
}
