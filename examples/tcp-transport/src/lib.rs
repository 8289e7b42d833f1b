//! A transport of one's own, as an example: frames over TCP on the loopback interface, with a lease.
//!
//! ```text
//!  parent                                                                              worker
//!  open: a listener, a thread                        ticket: address, secrets, lease ► connect, twice
//!  accept; strangers are dropped  ◄─────────────────────────────── a secret for each ─
//!                                 ─── another secret, on each ───────────────────────►
//!  calls:    send ─► queue ─► a thread that writes ═══ FRAME ════════════════════════► recv
//!  replies:  claim or revoke, by the book           ◄══ ASK ═════════════════════════ claim
//!                                 ═══ YES or NO ═════════════════════════════════════►
//!            LinkEvents::frame                      ◄══ FRAME ═══════════════════════ send
//!                                 ═══ YES ═══════════════════════════════════════════►
//!            the lease begins anew                  ◄══ BEAT ════════════════════════ a thread
//! ```
//!
//! The worker need not be a child, nor anything else but a process that can reach the address. So its link is
//! all that tells of its life: a link that is silent for longer than its [lease](Tcp::lease) is closed, and its
//! calls are settled without it. A worker that was stopped meanwhile (`SIGSTOP`, a debugger) may go on
//! afterwards. It must not run what others run by then.
//!
//! # Who decides that a call starts
//! The parent. [`claim`](pool_core::transport::Channel::claim) is a question, answered by the link's thread,
//! which notes the start before it says yes; once the link has ended nobody answers. What was not granted has
//! started nowhere, so it can be taken back ([`LinkCaps::revocable`]), and a call that the pool sends again is
//! never granted to the first worker. **No call runs twice.** It costs one round trip for each call.
//!
//! A yes that is older than half a lease, by the worker's clock since it asked, is not acted upon: it may have
//! lain there while the worker was stopped. The worker asks again, and finds out. A younger one came over a link
//! that cannot have expired since.
//!
//! What this cannot exclude: a stop between that look at the clock and the first instruction of the call. The
//! parent has noted the start, so the call is settled as lost and sent to nobody else; but it runs, once, when
//! the worker goes on, perhaps after its caller was told of the loss. The same holds for a stop within the call.
//! Where the worker is a child, or attached on the same machine, the pool kills it with the link, stopped or
//! not, and nothing goes on.
//!
//! # Why two connections
//! One carries the frames of the parent; the other what the worker says, and the answer to that, a byte. So neither
//! side waits for room that the other one does not make: calls that the worker does not read yet hold up no answer.
//!
//! And a socket that is closed with something unread sends a reset, which may destroy what its process has sent and
//! the other side has not read (T2). A worker that dies may leave calls unread, but they are on the other connection.
//! Each of its frames is answered, too: what its [`send`](pool_core::transport::Channel::send) has sent was read, so
//! [`close`](pool_core::transport::Link::close) has nothing to look for (T7). That costs another round trip.
//!
//! # Limits
//! - Nothing is encrypted: it is for the loopback interface, and binds no other.
//! - A link cannot be [driven](pool_core::transport::Link::drive), and has two threads: one writes the calls, the
//!   other one is woken by each reply. Until its worker has come, that one looks for it every millisecond.
//! - The worker has a second thread, which sends the heartbeats. A call that runs for long does not silence the
//!   link; it says that the process lives, not that the call gets on.
//! - On Windows a program that is started in the moment of an `accept` can inherit the connection, and the threads of
//!   a link that was closed may stay until its worker ends: there, a read that waits is not woken.
//!
//! Reading order: downwards. The transport, what is said, the worker's end, the parent's end.
#![forbid(unsafe_code)]

use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use pool_core::context::Way;
use pool_core::transport::{Channel, Connector, Link, LinkEvents, Ticket, Transport};
use pool_core::transport::{Claim, Closed, Driven, LinkCaps, Outgoing, Payload, Seq, Until};

/// What makes the transport known by its name to a program and its workers.
pub const TCP: Way = Way { name: "tcp", make: || Box::new(Tcp::default()) };

/// Carries frames over two TCP connections for each worker, on the loopback interface.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Tcp {
    /// How long a link may be silent before it is closed; not zero. The worker is heard four times as often,
    /// unless it is stopped, or the machine is too busy to let it run.
    pub lease: Duration,
    /// The largest frame, in bytes.
    pub frame_max: usize,
}

impl Default for Tcp {
    /// A lease of 10 s, and frames of up to 1 GiB.
    fn default() -> Self {
        Self { lease: Duration::from_secs(10), frame_max: 1 << 30 }
    }
}

/// 128 bits by chance. A link has two: what the worker shows, and what the parent shows in return.
type Secret = [u8; 16];

impl Transport for Tcp {
    fn name(&self) -> &str {
        TCP.name
    }

    fn frame_max(&self) -> usize {
        self.frame_max
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(TcpConnector)
    }

    fn open(&self, events: Arc<dyn LinkEvents>) -> io::Result<(Box<dyn Link>, Ticket)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let mut secrets = [Secret::default(); 2];
        getrandom::fill(secrets.as_flattened_mut()).map_err(|error| io::Error::other(error.to_string()))?;
        let bytes = postcard::to_stdvec(&(secrets, listener.local_addr()?, self)).map_err(io::Error::other)?;
        let (queue, queued) = mpsc::channel();
        let desk = Desk { tcp: *self, secrets, queue: Some(queue), events: Some(events), ..Desk::default() };
        let desk = Arc::new(Mutex::new(desk));
        let link = TcpLink(Arc::clone(&desk));
        let serve = move || end(&desk, serve(&desk, listener, queued).map_or_else(why, |()| Closed::Eof));
        thread::Builder::new().name("tcp-link".to_owned()).spawn(serve)?;
        Ok((Box::new(link), Ticket { transport: TCP.name.to_owned(), bytes, handles: Vec::new() }))
    }
}

// What is said once both sides have shown their secrets: the kind in a byte, the length of the rest in eight, and
// that.

/// Either side's: a frame. The parent answers those of the worker.
const FRAME: u8 = 1;
/// The worker's: may it start the call of this number? The parent answers.
const ASK: u8 = 2;
/// The worker's: it lives.
const BEAT: u8 = 3;
/// An answer is a byte: this, or 0 for a call that may not start.
const YES: u8 = 1;

/// Says something, in as few system calls as possible.
fn say(stream: &TcpStream, kind: u8, head: &[u8], body: &[u8]) -> io::Result<()> {
    let (len, mut stream) = ((head.len() + body.len()) as u64, BufWriter::new(stream));
    stream.write_all(&[&[kind], &len.to_le_bytes()[..], head].concat())?;
    stream.write_all(body)?;
    stream.flush()
}

/// Waits for what is said next; none at the end.
fn hear(stream: &TcpStream, len_max: usize) -> io::Result<Option<(u8, Vec<u8>)>> {
    let header = read(stream, 9)?;
    let Some((&kind, len)) = header.split_first() else { return Ok(None) };
    let len = u64::from_le_bytes(len.try_into().map_err(|_| ErrorKind::UnexpectedEof)?);
    let too_long = || io::Error::new(ErrorKind::InvalidData, format!("{len} bytes, where {len_max} is the limit"));
    let len = Some(len).filter(|len| *len <= len_max as u64).ok_or_else(too_long)?;
    let rest = read(stream, len)?;
    if rest.len() as u64 == len { Ok(Some((kind, rest))) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

/// So many bytes, or less at the end. Takes memory as they arrive, and in the end no more than they need.
fn read(stream: &TcpStream, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(len).read_to_end(&mut bytes).map(|_| bytes.into_boxed_slice().into_vec())
}

/// The worker's half of [`Tcp`].
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn name(&self) -> &str {
        TCP.name
    }

    fn connect(&self, ticket: Ticket) -> io::Result<Box<dyn Channel>> {
        let told: Option<([Secret; 2], SocketAddr, Tcp)> = postcard::from_bytes(&ticket.bytes).ok();
        let (secrets, addr, tcp) = told.filter(|_| ticket.transport == TCP.name).ok_or(ErrorKind::InvalidData)?;
        let (calls, replies) = (dial(addr, secrets)?, Arc::new(Mutex::new(dial(addr, secrets)?)));
        let (heart, stopped) = mpsc::channel();
        let (beating, pause) = (Arc::clone(&replies), tcp.lease / 4);
        thread::Builder::new().name("tcp-heart".to_owned()).spawn(move || {
            while stopped.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
                // If that fails, whoever calls or is called finds out as well.
                let _ = say(&lock(&beating), BEAT, &[], &[]);
            }
        })?;
        Ok(Box::new(TcpChannel { tcp, calls, replies, _heart: heart }))
    }
}

/// Connects, and is let in.
fn dial(addr: SocketAddr, [knock, expected]: [Secret; 2]) -> io::Result<TcpStream> {
    let (mut stream, mut answer) = (TcpStream::connect(addr)?, Secret::default());
    stream.set_nodelay(true)?;
    stream.write_all(&knock)?;
    stream.read_exact(&mut answer)?;
    if answer == expected { Ok(stream) } else { Err(io::Error::other("a stranger listens in the parent's place")) }
}

struct TcpChannel {
    tcp: Tcp,
    calls: TcpStream,
    /// Of both threads. Who asks keeps it until the answer: the question tells of life as well.
    replies: Arc<Mutex<TcpStream>>,
    /// Stops when it is dropped.
    _heart: mpsc::Sender<()>,
}

/// Says something to the parent, and waits for the answer.
fn ask(replies: &Mutex<TcpStream>, kind: u8, head: &[u8], body: &[u8]) -> io::Result<u8> {
    let (mut replies, mut answer) = (lock(replies), [0]);
    say(&replies, kind, head, body)?;
    replies.read_exact(&mut answer)?;
    Ok(answer[0])
}

impl Channel for TcpChannel {
    fn recv(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        Ok(hear(&self.calls, self.tcp.frame_max)?.map(|(_, bytes)| *frame = bytes).is_some())
    }

    fn claim(&mut self, seq: Seq) -> bool {
        loop {
            let asked = Instant::now();
            // An error: the link has ended, and `recv` will tell.
            let is_granted = ask(&self.replies, ASK, &seq.0.to_le_bytes(), &[]).is_ok_and(|answer| answer == YES);
            // The parent heard the question, so the lease lasts from then on, and that is later than `asked`. The
            // other half is for clocks that do not go alike.
            if !is_granted || asked.elapsed() < self.tcp.lease / 2 {
                return is_granted;
            }
        }
    }

    fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        if head.len() + body.len() > self.tcp.frame_max {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the frame is larger than the limit"));
        }
        ask(&self.replies, FRAME, head, body).map(drop)
    }
}

/// The parent's end, as the pool holds it. Dropping it ends the link without a further event.
struct TcpLink(Arc<Mutex<Desk>>);

/// A link, as the pool's threads and its own share it. Never locked while foreign code runs.
#[derive(Default)]
struct Desk {
    tcp: Tcp,
    secrets: [Secret; 2],
    /// Those that were sent, but for those that were settled long ago.
    calls: std::collections::BTreeMap<Seq, Claim>,
    /// What is to be written: heads and bodies. None once the link was dropped.
    queue: Option<mpsc::Sender<(Vec<u8>, Payload)>>,
    /// Both connections, once the worker has come.
    streams: Vec<Arc<TcpStream>>,
    /// Who is told. Not here while one is telling, and once the end was told.
    events: Option<Arc<dyn LinkEvents>>,
    /// Why the link ends. The first reason counts.
    ending: Option<Closed>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many calls may be unsettled at once.
const REVOCABLE: u64 = 256;

impl Link for TcpLink {
    fn caps(&self) -> LinkCaps {
        LinkCaps::new(lock(&self.0).tcp.frame_max).revocable(REVOCABLE as usize)
    }

    fn send(&self, frame: Outgoing<'_>) {
        if frame.head.len() + frame.body.len() > self.caps().frame_max {
            return end(&self.0, Closed::Malformed("a frame to send is larger than the limit".to_owned()));
        }
        let mut desk = lock(&self.0);
        // On a closed link, too: what becomes of the call is asked for later.
        desk.calls.extend(frame.seq.map(|seq| (seq, Claim::Queued)));
        let _ = desk.queue.as_ref().map(|queue| queue.send((frame.head.to_vec(), frame.body.clone())));
    }

    fn flush(&self) {}

    fn revoke(&self, seq: Seq) -> Claim {
        decide(&self.0, seq, Claim::Revoked)
    }

    fn claim_state(&self, seq: Seq) -> Claim {
        decide(&self.0, seq, Claim::Queued)
    }

    fn close(&self) {
        end(&self.0, Closed::Ours);
    }

    fn drive(&self, _: &Until<'_>) -> Driven {
        Driven::Unsupported
    }

    fn interrupt(&self) {}
}

impl Drop for TcpLink {
    fn drop(&mut self) {
        lock(&self.0).queue = None;
        end(&self.0, Closed::Ours);
    }
}

/// Starts a call or takes it back, if neither was done before; what it is then.
fn decide(desk: &Mutex<Desk>, seq: Seq, fate: Claim) -> Claim {
    let desk = &mut *lock(desk);
    let Some(claim) = desk.calls.get_mut(&seq) else { return Claim::Unknown };
    // No call starts once the link has ended: the pool may have given it to others.
    if *claim == Claim::Queued && (fate == Claim::Revoked || desk.ending.is_none()) {
        *claim = fate;
    }
    *claim
}

/// Ends the link and tells, unless the link's thread is telling something: then that does. From any thread.
fn end(desk: &Mutex<Desk>, why: Closed) {
    let mut desk = lock(desk);
    let why = desk.ending.get_or_insert(why).clone();
    // To close them is not enough where a process was forked that has them as well.
    desk.streams.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    let told = (desk.events.take(), desk.queue.is_some());
    drop(desk);
    if let (Some(events), true) = told {
        events.closed(why);
    }
}

/// The life of the link's thread, until the link has ended or the worker is gone.
fn serve(desk: &Mutex<Desk>, listener: TcpListener, queued: mpsc::Receiver<(Vec<u8>, Payload)>) -> io::Result<()> {
    let Tcp { lease, frame_max } = lock(desk).tcp;
    let [calls, replies] = [let_in(desk, &listener)?, let_in(desk, &listener)?].map(Arc::new);
    drop(listener);
    lock(desk).streams.extend([Arc::clone(&calls), Arc::clone(&replies)]);
    // Where that fails the worker is gone. Who reads finds out, after what it had sent before.
    let write = move || queued.iter().try_for_each(|(head, body)| say(&calls, FRAME, &head, body.as_slice()));
    thread::Builder::new().name("tcp-write".to_owned()).spawn(write)?;
    // A read that waits for so long, and only that, means that the worker is silent.
    replies.set_read_timeout(Some(lease))?;
    while lock(desk).ending.is_none() {
        match hear(&replies, frame_max.max(8))? {
            Some((FRAME, frame)) => {
                let Some(events) = lock(desk).events.take() else { break };
                // First: the event may end the link. Where it cannot be said, the next read tells why.
                let _ = (&*replies).write_all(&[YES]);
                events.frame(frame.into());
                let is_wanted = lock(desk).queue.is_some();
                is_wanted.then(|| events.drained());
                lock(desk).events = Some(events);
            }
            Some((ASK, seq)) => {
                let seq = u64::from_le_bytes(seq.try_into().map_err(|_| ErrorKind::InvalidData)?);
                // It asks in order. What lies so far behind was settled, and is of no interest to anybody.
                let first_is_old = || lock(desk).calls.keys().next().is_some_and(|old| old.0 + REVOCABLE <= seq);
                while first_is_old() && lock(desk).calls.pop_first().is_some() {}
                (&*replies).write_all(&[u8::from(decide(desk, Seq(seq), Claim::Started) == Claim::Started)])?;
            }
            Some((BEAT, rest)) if rest.is_empty() => {}
            Some(_) => return Err(ErrorKind::InvalidData.into()),
            None => break,
        }
    }
    Ok(())
}

/// Waits for a connection of the worker's. Strangers are dropped.
fn let_in(desk: &Mutex<Desk>, listener: &TcpListener) -> io::Result<TcpStream> {
    let (mut guests, [knock, answer]) = (Vec::new(), lock(desk).secrets);
    while lock(desk).ending.is_none() {
        let come = listener.accept().and_then(|(guest, _)| guest.set_nonblocking(true).map(|()| guest));
        // An error: nobody is there, or no descriptor. It is looked for again soon.
        guests.extend(come.inspect_err(|_| thread::sleep(Duration::from_millis(1))));
        // So many are listened to at a time. The worker speaks at once; who is slow makes room.
        guests.drain(..guests.len().saturating_sub(16));
        // Who has said so much is the worker or a stranger.
        for mut guest in guests.extract_if(.., |guest| guest.peek(&mut [0; 16]).is_ok_and(|len| len == 16)) {
            let mut said = Secret::default();
            // As numbers: the time that it takes does not tell how much is right.
            if guest.read_exact(&mut said).is_ok() && u128::from_ne_bytes(said) == u128::from_ne_bytes(knock) {
                guest.set_nonblocking(false)?;
                return guest.set_nodelay(true).and_then(|()| guest.write_all(&answer)).map(|()| guest);
            }
        }
    }
    Err(ErrorKind::NotConnected.into())
}

/// What it means that the worker cannot be heard.
fn why(error: io::Error) -> Closed {
    match error.kind() {
        ErrorKind::UnexpectedEof => Closed::Truncated,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => Closed::Eof,
        ErrorKind::InvalidData => Closed::Malformed(error.to_string()),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Closed::Io("silent for longer than its lease".to_owned()),
        _ => Closed::Io(format!("cannot listen to the worker: {error}")),
    }
}
