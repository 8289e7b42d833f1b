//! The worker's end: blocking, by one thread, beside another that sends the heartbeats.

use std::collections::VecDeque;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use pool_core::transport::{Channel, Connector, Seq, Ticket};

use crate::ticket::{self, Terms};
use crate::wire::{self, HEADER, Kind};

/// The worker's half of [`Tcp`](crate::Tcp).
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn name(&self) -> &str {
        ticket::NAME
    }

    fn connect(&self, ticket: Ticket) -> io::Result<Box<dyn Channel>> {
        let (terms, address) = Terms::from_ticket(&ticket)?;
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.write_all(&terms.knock)?;
        let mut answer = terms.knock;
        stream.read_exact(&mut answer)?;
        if answer != terms.answer {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "a stranger listens in the parent's place"));
        }
        let writer = Arc::new(Mutex::new(stream.try_clone()?));
        let heart = start_heart(&terms, Arc::clone(&writer))?;
        let reader = BufReader::new(stream);
        Ok(Box::new(TcpChannel { terms, reader, writer, waiting: VecDeque::new(), _heart: heart }))
    }
}

/// Says that this process lives, until what is returned is dropped.
fn start_heart(terms: &Terms, writer: Arc<Mutex<TcpStream>>) -> io::Result<mpsc::Sender<()>> {
    let (heart, stopped) = mpsc::channel();
    let pause = terms.lease / 4;
    let beat = move || {
        while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            if write(&writer, Kind::Beat, &[], &[]).is_err() {
                break; // Whoever calls or is called will find that out as well.
            }
        }
    };
    thread::Builder::new().name("tcp-heart".to_owned()).spawn(beat)?;
    Ok(heart)
}

struct TcpChannel {
    terms: Terms,
    reader: BufReader<TcpStream>,
    /// Of both threads.
    writer: Arc<Mutex<TcpStream>>,
    /// Frames that came while something else was waited for.
    waiting: VecDeque<Vec<u8>>,
    _heart: mpsc::Sender<()>,
}

impl Channel for TcpChannel {
    fn recv(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        let next = match self.waiting.pop_front() {
            Some(next) => Some((Kind::Frame, next)),
            None => self.read()?,
        };
        match next {
            Some((Kind::Frame, next)) => *frame = next,
            Some((kind, _)) => return Err(invalid(format!("{kind:?}, to which nothing was said"))),
            None => return Ok(false),
        }
        Ok(true)
    }

    fn claim(&mut self, seq: Seq) -> bool {
        loop {
            let asked = Instant::now();
            let answer = self.ask(Kind::Ask, &seq.0.to_le_bytes(), &[]);
            match answer {
                // The parent heard the question, so the lease lasts from then on, and that is later than
                // `asked`. The other half is for clocks that do not go alike.
                Ok(Kind::Yes) if asked.elapsed() < self.terms.lease / 2 => return true,
                Ok(Kind::Yes) => {}
                Ok(Kind::No) => return false,
                _ => {
                    // It may count as started. So it has to be lost, and not forgotten.
                    let _ = self.reader.get_ref().shutdown(Shutdown::Both);
                    return false;
                }
            }
        }
    }

    fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let (len, limit) = (head.len() + body.len(), self.terms.frame_max);
        if len > limit {
            let why = format!("a frame of {len} bytes, where {limit} is the limit");
            return Err(io::Error::new(ErrorKind::InvalidInput, why));
        }
        match self.ask(Kind::Frame, head, body)? {
            Kind::Receipt => Ok(()),
            other => Err(invalid(format!("{other:?} instead of a receipt"))),
        }
    }
}

impl TcpChannel {
    /// Says something, and waits for what is said to that.
    fn ask(&mut self, kind: Kind, head: &[u8], body: &[u8]) -> io::Result<Kind> {
        write(&self.writer, kind, head, body)?;
        loop {
            match self.read()?.ok_or(ErrorKind::BrokenPipe)? {
                (Kind::Frame, frame) => self.waiting.push_back(frame),
                (answer, _) => return Ok(answer),
            }
        }
    }

    /// The next message; none at the end.
    fn read(&mut self) -> io::Result<Option<(Kind, Vec<u8>)>> {
        let mut header = [0; HEADER];
        match self.reader.read(&mut header[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return self.read(),
            // The parent has closed, and heard of this process once more after that.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        self.reader.read_exact(&mut header[1..])?;
        let (kind, len) = wire::announced(header, self.terms.frame_max).map_err(invalid)?;
        let mut bytes = Vec::new();
        while bytes.len() < len {
            // What has come vouches for as much again.
            let step = bytes.len().max(SMALL).min(len - bytes.len());
            bytes.reserve_exact(step);
            if (&mut self.reader).take(step as u64).read_to_end(&mut bytes)? < step {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Some((kind, bytes)))
    }
}

impl Drop for TcpChannel {
    fn drop(&mut self) {
        // The other thread has the connection too, until it has seen that this one is gone.
        let _ = self.reader.get_ref().shutdown(Shutdown::Both);
    }
}

/// Up to so many bytes are copied rather than sent on their own, and believed to come.
const SMALL: usize = 16 * 1024;

fn write(writer: &Mutex<TcpStream>, kind: Kind, head: &[u8], body: &[u8]) -> io::Result<()> {
    let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    let first = [&wire::header(kind, head.len() + body.len()), head];
    if body.len() <= SMALL {
        return writer.write_all(&[first.concat().as_slice(), body].concat());
    }
    writer.write_all(&first.concat())?;
    writer.write_all(body)
}

fn invalid(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the parent said what it should not: {what}"))
}
