//! The worker's end: blocking reads and writes, by one thread.

#[cfg(unix)]
use std::io::IoSlice;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use pool_core::transport::{Channel, Connector, Ticket};
use pool_link::channel::{StreamChannel, WorkerStream};
use pool_link::claims::Board;
use pool_link::page::Page;
#[cfg(unix)]
use pool_link::stream::Widened;

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
        let board = page.map(|page| Arc::new(page) as Arc<dyn Board>);
        let pipes = Pipes {
            read: end.read.into(),
            write: end.write.into(),
            #[cfg(unix)]
            widened: Widened::default(),
        };
        Ok(Box::new(StreamChannel::new(pipes, board, end.frame_max)))
    }
}

#[derive(Debug)]
struct Pipes {
    read: PipeReader,
    write: PipeWriter,
    #[cfg(unix)]
    widened: Widened,
}

impl WorkerStream for Pipes {
    #[cfg(unix)]
    fn read(&mut self, to: &mut Vec<u8>, max: usize, spin: Duration) -> io::Result<usize> {
        if !spin.is_zero() {
            self.look(spin);
        }
        pool_link::sys::read_append(&self.read, to, max)
    }

    #[cfg(windows)]
    fn read(&mut self, to: &mut Vec<u8>, max: usize, _: Duration) -> io::Result<usize> {
        crate::windows::read_append(&self.read, to, max)
    }

    #[cfg(unix)]
    fn has_arrived(&mut self) -> io::Result<bool> {
        Ok(rustix::io::ioctl_fionread(&self.read)? > 0)
    }

    #[cfg(windows)]
    fn has_arrived(&mut self) -> io::Result<bool> {
        Ok(crate::windows::available(&self.read)? > 0)
    }

    fn write_all(&mut self, parts: [&[u8]; 3]) -> io::Result<()> {
        #[cfg(unix)]
        self.widened.prepare(&self.write, parts.iter().map(|part| part.len()).sum());
        write_all(&mut self.write, parts)
    }
}

#[cfg(unix)]
impl Pipes {
    /// Looks for something to read, for a while.
    fn look(&self, spin: Duration) {
        let start = std::time::Instant::now();
        // Each look is a system call, so the clock costs little beside it.
        while matches!(rustix::io::ioctl_fionread(&self.read), Ok(0)) && start.elapsed() < spin {
            std::hint::spin_loop();
        }
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
