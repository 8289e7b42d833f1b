//! The worker's end: blocking reads and writes, by one thread.

use std::fmt;
#[cfg(unix)]
use std::io::IoSlice;
use std::io::{self, PipeReader, PipeWriter, Write};

use pool_core::transport::{Channel, Connector, Seq, Ticket};

use crate::claims;
use crate::frame::{self, Decoder, Item};
use crate::page::Page;
use crate::ticket::{NAME, WorkerEnd};

/// Makes the worker's end of a link of [`Pipe`](crate::Pipe).
#[derive(Clone, Copy, Debug, Default)]
pub struct PipeConnector;

impl Connector for PipeConnector {
    fn name(&self) -> &str {
        NAME
    }

    fn connect(&self, ticket: Ticket) -> io::Result<Box<dyn Channel>> {
        let end = WorkerEnd::from_ticket(ticket)?;
        let page = end.page.map(Page::open).transpose()?;
        let decoder = Decoder::new(end.frame_max);
        let (read, write) = (PipeReader::from(end.read), PipeWriter::from(end.write));
        Ok(Box::new(PipeChannel { read, write, page, decoder, frame_max: end.frame_max }))
    }
}

struct PipeChannel {
    read: PipeReader,
    write: PipeWriter,
    page: Option<Page>,
    decoder: Decoder,
    frame_max: usize,
}

impl fmt::Debug for PipeChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeChannel").field("frame_max", &self.frame_max).finish_non_exhaustive()
    }
}

/// A frame's vector with more capacity than this is given back when a small frame follows: one huge call must
/// not make the worker huge for ever.
const CAPACITY_MAX: usize = 1024 * 1024;

impl Channel for PipeChannel {
    fn recv(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            match self.decoder.next(frame) {
                Err(frame::Malformed(why)) => return Err(io::Error::new(io::ErrorKind::InvalidData, why)),
                Ok(Some(Item::Large)) => return Ok(true),
                Ok(Some(Item::Small(bytes))) => {
                    if frame.capacity() > CAPACITY_MAX {
                        *frame = Vec::new();
                    }
                    frame.clear();
                    frame.extend_from_slice(bytes);
                    return Ok(true);
                }
                Ok(None) => {}
            }
            match self.decoder.fill(frame, usize::MAX, |to, max| crate::sys::read_append(&self.read, to, max)) {
                Ok(1..) => {}
                Ok(_) if self.decoder.is_between_frames() => return Ok(false),
                Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn claim(&mut self, seq: Seq) -> bool {
        self.page.as_ref().is_none_or(|page| claims::claim(page, seq))
    }

    fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let len = head.len() + body.len();
        let Some(header) = frame::header(len, self.frame_max) else {
            let why = frame::too_long_to_send(len, self.frame_max);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        };
        write_all(&mut self.write, [&header, head, body])
    }
}

/// Writes all parts, in one system call if the pipe has room.
#[cfg(unix)]
fn write_all(to: &mut PipeWriter, parts: [&[u8]; 3]) -> io::Result<()> {
    let mut slices = parts.map(IoSlice::new);
    let mut rest = &mut slices[..];
    // An empty slice at the front would be taken for "nothing can be written".
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match to.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all parts. Windows has no vectored write for pipes, so short parts are joined.
#[cfg(windows)]
fn write_all(to: &mut PipeWriter, parts: [&[u8]; 3]) -> io::Result<()> {
    let [header, head, body] = parts;
    let mut joined = [header, head].concat();
    if body.len() <= JOINED_MAX {
        joined.extend_from_slice(body);
        return to.write_all(&joined);
    }
    to.write_all(&joined)?;
    to.write_all(body)
}

/// Copying this much costs less than another system call.
#[cfg(windows)]
const JOINED_MAX: usize = 16 * 1024;
