//! A gate: calls arrive at it and wait; their case lets them go on.
//!
//! A case knows by it that a call is running, and decides how long, without anybody's sleeping. It is a
//! local TCP port, which every platform has and any number of processes can reach.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Longer than anything takes, also on a busy machine; and shorter than the watchdog, so that a case that
/// waits in vain fails by its own message.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The case's side.
#[derive(Debug)]
pub struct Gate {
    listener: TcpListener,
    port: u16,
}

/// A call that waits at a gate. It goes on when this is dropped.
#[derive(Debug)]
pub struct Visitor {
    /// The process in which it runs.
    pub pid: u32,
    /// What it said on its arrival.
    pub word: u64,
    stream: TcpStream,
}

impl Gate {
    /// A closed gate.
    ///
    /// # Panics
    /// If the machine has no port to spare.
    pub fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a local port");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let port = listener.local_addr().expect("an address").port();
        Self { listener, port }
    }

    /// What a call needs to get here: the argument of [`wait_at`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the next call to arrive.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn arrival(&self) -> Visitor {
        self.arrival_within(PATIENCE).expect("a call arrives at the gate")
    }

    /// The next call to arrive, if one does so in time.
    pub fn arrival_within(&self, timeout: Duration) -> Option<Visitor> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if let Ok(visitor) = Visitor::greet(stream) {
                        return Some(visitor);
                    }
                }
                // EMFILE: a case may have left so few descriptors that the pool has just now the one for this.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(24) => {
                    if Instant::now() >= deadline {
                        return None;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("the gate fails: {error}"),
            }
        }
    }

    /// So many arrivals.
    #[track_caller]
    pub fn arrivals(&self, count: usize) -> Vec<Visitor> {
        (0..count).map(|_| self.arrival()).collect()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Closing alone would not do: a process that was forked from this one has it open too.
        #[cfg(unix)]
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Visitor {
    fn greet(mut stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        // A process that is killed on its way in must not keep its case waiting.
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut greeting = [0; 12];
        stream.read_exact(&mut greeting)?;
        let (pid, word) = greeting.split_at(4);
        let pid = u32::from_le_bytes(pid.try_into().expect("four bytes"));
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        Ok(Self { pid, word, stream })
    }

    /// Lets the call go on.
    pub fn pass(self) {}

    /// Whether the process has ended, or does within `limit`; so that the system has closed its end.
    ///
    /// # Panics
    /// If the system says something else.
    pub fn is_gone_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let waited = self.stream.set_read_timeout(Some(left)).and_then(|()| (&self.stream).read(&mut [0]));
            return match waited {
                Ok(count) => count == 0,
                Err(error) => match error.kind() {
                    io::ErrorKind::ConnectionReset => true,
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => false,
                    io::ErrorKind::Interrupted => continue,
                    _ => panic!("process {} cannot be waited for: {error}", self.pid),
                },
            };
        }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        // As for the gate. The call may have ended, and its end of the stream with it.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// For calls: arrives at the gate, and returns when let through.
///
/// A gate that is gone lets everybody through.
pub fn wait_at(port: u16) {
    wait_at_with((port, 0));
}

/// The same, with a word for the case.
pub fn wait_at_with((port, word): (u16, u64)) {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
    let mut greeting = std::process::id().to_le_bytes().to_vec();
    greeting.extend(word.to_le_bytes());
    if stream.write_all(&greeting).is_ok() {
        // The end of the stream, or its reset: either way nobody holds this call back any longer.
        let _ = stream.read(&mut [0]);
    }
}
