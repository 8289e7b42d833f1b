//! What parent and server say to each other, over two kinds of stream sockets.
//!
//! - The *control socket*, one for each server, stays. The parent sends [`Request`]s, each a header of 16 bytes
//!   and its payload; the server sends a [`Report`] of 16 bytes for each worker that has ended. Its end means
//!   that the other side is gone.
//! - A *reply socket* for each request to fork. The server sends one [`Reply`] of 8 bytes, with the worker's
//!   pidfd where there are such, and closes it. Without a reply it closes when the server is gone. So whoever
//!   asked gets the answer himself, without another thread of the parent's in between, and an exit callback may
//!   ask too.
//!
//! The server never waits for the parent to read. Both sides are of one build, which the zygote's parcel
//! [says](VERSION), so nothing here has a version of its own.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// What the zygote's parcel says. Goes up with every change of what is in this file.
pub(crate) const VERSION: &[u8] = b"process-pool fork server, protocol 1";

/// What the parent wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A worker of this id. Comes with two descriptors: the reply socket, then the worker's own. What the worker
    /// is to be like (environment, folder, limits) has its place in the payload; so far there is none.
    Spawn(u64),
    /// This signal to the worker of this id, if it has not ended.
    Signal(u64, i32),
    /// No further request will come: to end when all workers have.
    Finish,
}

impl Request {
    /// The header's: kind, length of the payload, id.
    pub(crate) const HEADER: usize = 16;

    pub(crate) fn encode(self) -> Vec<u8> {
        let (kind, id, payload) = match self {
            Self::Spawn(id) => (0u32, id, Vec::new()),
            Self::Signal(id, signal) => (1, id, signal.to_le_bytes().to_vec()),
            Self::Finish => (2, 0, Vec::new()),
        };
        let len = payload.len() as u32;
        [kind.to_le_bytes().as_slice(), &len.to_le_bytes(), &id.to_le_bytes(), &payload].concat()
    }

    /// How long the payload is, or `None` if this is no header.
    pub(crate) fn payload(header: &[u8; Self::HEADER]) -> Option<usize> {
        usize::try_from(word(header, 4)).ok().filter(|len| *len <= PAYLOAD_MAX)
    }

    pub(crate) fn decode(header: &[u8; Self::HEADER], payload: &[u8]) -> Option<Self> {
        let id = u64::from(word(header, 8)) | u64::from(word(header, 12)) << 32;
        match (word(header, 0), payload) {
            (0, []) => Some(Self::Spawn(id)),
            (1, payload) => Some(Self::Signal(id, i32::from_le_bytes(payload.try_into().ok()?))),
            (2, []) => Some(Self::Finish),
            _ => None,
        }
    }
}

/// The end of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) id: u64,
    /// The status as `waitpid` gives it, or `None` if somebody else has taken it.
    pub(crate) status: Option<i32>,
}

impl Report {
    pub(crate) const LEN: usize = 16;

    pub(crate) fn encode(self) -> [u8; Self::LEN] {
        let mut all = [0; Self::LEN];
        all[..8].copy_from_slice(&self.id.to_le_bytes());
        all[8..12].copy_from_slice(&u32::from(self.status.is_some()).to_le_bytes());
        all[12..].copy_from_slice(&self.status.unwrap_or(0).to_le_bytes());
        all
    }

    pub(crate) fn decode(all: &[u8; Self::LEN]) -> Self {
        let id = u64::from(word(all, 0)) | u64::from(word(all, 4)) << 32;
        Self { id, status: (word(all, 8) == 1).then(|| word(all, 12).cast_signed()) }
    }
}

/// The answer to [`Request::Spawn`]: the worker's pid, or why there is none.
pub(crate) type Reply = Result<i32, Errno>;

/// The length of a [`Reply`]: an error number or 0, and a pid.
pub(crate) const REPLY: usize = 8;

pub(crate) fn encode_reply(reply: Reply) -> [u8; REPLY] {
    let (error, pid) = reply.map_or_else(|error| (error.raw_os_error(), 0), |pid| (0, pid));
    let mut all = [0; REPLY];
    all[..4].copy_from_slice(&error.to_le_bytes());
    all[4..].copy_from_slice(&pid.to_le_bytes());
    all
}

pub(crate) fn decode_reply(all: &[u8; REPLY]) -> Reply {
    match word(all, 0).cast_signed() {
        0 => Ok(word(all, 4).cast_signed()),
        error => Err(Errno::from_raw_os_error(error)),
    }
}

fn word(all: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([all[at], all[at + 1], all[at + 2], all[at + 3]])
}

/// Sends all of `bytes`, with `fds` on the first of them. Waits for room as the socket and `flags` say.
pub(crate) fn send(
    socket: impl AsFd,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    let mut sent = 0;
    while sent < bytes.len() {
        let rest = [IoSlice::new(&bytes[sent..])];
        sent += retry_on_intr(|| sendmsg(&socket, &rest, &mut control, flags | QUIETLY))?;
        control.clear();
    }
    Ok(())
}

/// Receives until `buffer` is full, or the other side is gone: then `UnexpectedEof`. Collects the descriptors
/// that come along; those that this process has no room for are lost.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut filled = 0;
    while filled < buffer.len() {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut buffer[filled..])];
        let message = retry_on_intr(|| recvmsg(&socket, &mut into, &mut control, CLOSED_ON_EXEC))?;
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = part {
                fds.extend(received);
            }
        }
        #[cfg(target_vendor = "apple")]
        for fd in &*fds {
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
        }
        if message.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += message.bytes;
    }
    Ok(())
}

/// The most descriptors in a message.
const FDS_MAX: usize = 2;

/// The most bytes after a header.
const PAYLOAD_MAX: usize = 64 * 1024;

/// Ask for an error, not for a signal, if the other end is gone. Apple's systems have no such flag: there `std`
/// has set the like on the socket.
#[cfg(not(target_vendor = "apple"))]
pub(crate) const QUIETLY: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
pub(crate) const QUIETLY: SendFlags = SendFlags::empty();

/// Where that exists let no received descriptor be inherited from the very start.
#[cfg(not(target_vendor = "apple"))]
const CLOSED_ON_EXEC: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(target_vendor = "apple")]
const CLOSED_ON_EXEC: RecvFlags = RecvFlags::empty();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for request in [Request::Spawn(7), Request::Signal(u64::MAX - 1, 15), Request::Finish] {
            let bytes = request.encode();
            let (header, payload) = bytes.split_first_chunk().expect("a header");
            assert_eq!(Request::payload(header), Some(payload.len()));
            assert_eq!(Request::decode(header, payload), Some(request));
        }
        for status in [None, Some(0), Some(9), Some(256)] {
            let report = Report { id: 1 << 40 | 3, status };
            assert_eq!(Report::decode(&report.encode()), report);
        }
        for reply in [Ok(4711), Err(Errno::AGAIN)] {
            assert_eq!(decode_reply(&encode_reply(reply)), reply);
        }
    }

    #[test]
    fn what_is_nonsense_is_refused() {
        let mut header = [0xff; Request::HEADER];
        assert_eq!(Request::payload(&header), None);
        header[..8].copy_from_slice(&[1, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(Request::payload(&header), Some(3));
        assert_eq!(Request::decode(&header, b"abc"), None);
        assert_eq!(Request::decode(&[9; Request::HEADER], b""), None);
    }

    #[test]
    fn descriptors_travel_in_order() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let (reader, writer) = io::pipe().expect("a pipe");
        send(&ours, b"two", &[reader.as_fd(), writer.as_fd()], SendFlags::empty()).expect("sent");
        drop((reader, writer));
        let (mut bytes, mut fds) = ([0; 3], Vec::new());
        receive(&theirs, &mut bytes, &mut fds).expect("received");
        let [reader, writer] = fds.try_into().expect("two");
        rustix::io::write(&writer, b"x").expect("the second is the writer");
        rustix::io::read(&reader, &mut bytes).expect("the first is the reader");
        drop(ours);
        let error = receive(&theirs, &mut bytes, &mut Vec::new()).expect_err("nobody there");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
