//! A whole pool, whose workers say and do what the fuzzer likes: greet, answer, send garbage, close, end, come back
//! late. Whatever it is, no thread panics, every call is settled, and the pool can be dropped.
#![no_main]

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use pool_core::counted::VERSION;
use pool_core::error::Exit;
use pool_core::spawner::{ExitReport, OnExit, Signal, SpawnError, Spawner, SpawnerCaps, Worker};
use pool_core::transport::{
    Claim, Closed, Connector, Driven, Link, LinkCaps, LinkEvents, Outgoing, Seq, Ticket, Transport, Until,
};
use pool_core::worker::WorkerEntry;
use pool_core::{Bytes, Context, Executor, RestartLimit, TaskHandle};

const FRAME_MAX: usize = 1 << 16;
/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(20);

libfuzzer_sys::fuzz_target!(|data: &[u8]| play(data));

/// The far side of the pool: all workers, and what the fuzzer has left to say.
#[derive(Default)]
struct World {
    /// Links that no worker has yet, in order.
    opened: Mutex<VecDeque<Arc<Peer>>>,
    peers: Mutex<Vec<Arc<Peer>>>,
    came: Condvar,
}

impl World {
    /// One of the workers that there have been. The first may take a moment.
    fn peer(&self, which: u8) -> Option<Arc<Peer>> {
        let peers = self.peers.lock().expect("no panic");
        let (peers, _) =
            self.came.wait_timeout_while(peers, PATIENCE, |peers| peers.is_empty()).expect("no panic");
        // The latest first: it is the one that has most to say.
        peers.get(peers.len().checked_sub(1 + usize::from(which) % peers.len().max(1))?).cloned()
    }
}

/// A worker.
struct Peer {
    token: OnceLock<[u8; 16]>,
    events: Arc<dyn LinkEvents>,
    sent: Mutex<Vec<u64>>,
    /// One event at a time, and none after the last.
    turn: Mutex<Turn>,
}

#[derive(Default)]
struct Turn {
    closed: bool,
    on_exit: Option<OnExit>,
}

impl Peer {
    fn says(&self, frame: &[u8]) {
        let turn = self.turn.lock().expect("no panic");
        if !turn.closed {
            self.events.frame(Cow::Borrowed(frame));
        }
    }

    fn drained(&self) {
        let turn = self.turn.lock().expect("no panic");
        if !turn.closed {
            self.events.drained();
        }
    }

    fn closes(&self, why: Closed) {
        let mut turn = self.turn.lock().expect("no panic");
        if !std::mem::replace(&mut turn.closed, true) {
            self.events.closed(why);
        }
    }

    fn ends(&self, exit: Exit) {
        let on_exit = self.turn.lock().expect("no panic").on_exit.take();
        if let Some(on_exit) = on_exit {
            on_exit(ExitReport { exit, last_words: None });
        }
    }
}

#[derive(Clone)]
struct Fake(Arc<World>);

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

impl Transport for Fake {
    fn name(&self) -> &str {
        "fake"
    }

    fn frame_max(&self) -> usize {
        FRAME_MAX
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(self.clone())
    }

    fn open(&self, events: Arc<dyn LinkEvents>) -> io::Result<(Box<dyn Link>, Ticket)> {
        let (token, sent, turn) = (OnceLock::new(), Mutex::default(), Mutex::default());
        let peer = Arc::new(Peer { token, events, sent, turn });
        self.0.opened.lock().expect("no panic").push_back(Arc::clone(&peer));
        Ok((Box::new(End(peer)), Ticket { transport: "fake".to_owned(), bytes: Vec::new(), handles: Vec::new() }))
    }
}

impl Connector for Fake {
    fn name(&self) -> &str {
        "fake"
    }

    fn connect(&self, _: Ticket) -> io::Result<Box<dyn pool_core::transport::Channel>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

struct End(Arc<Peer>);

impl Link for End {
    fn ask_to_stop(&self, _: Seq) -> bool {
        false
    }

    fn caps(&self) -> LinkCaps {
        LinkCaps::new(FRAME_MAX)
    }

    fn send(&self, frame: Outgoing<'_>) {
        if let Some(Seq(seq)) = frame.seq {
            self.0.sent.lock().expect("no panic").push(seq);
        }
    }

    fn flush(&self) {}

    fn revoke(&self, _: Seq) -> Claim {
        Claim::Unknown
    }

    fn claim_state(&self, _: Seq) -> Claim {
        Claim::Unknown
    }

    fn close(&self) {
        // On another thread, as a link may.
        let peer = Arc::clone(&self.0);
        std::thread::spawn(move || peer.closes(Closed::Ours));
    }

    fn drive(&self, _: &Until<'_>) -> Driven {
        Driven::Unsupported
    }

    fn interrupt(&self) {}
}

impl Spawner for Fake {
    fn name(&self) -> &str {
        "fake"
    }

    fn caps(&self) -> SpawnerCaps {
        let mut caps = SpawnerCaps::full();
        caps.same_image = false;
        caps
    }

    fn prepare(&self, _: WorkerEntry) -> Result<(), SpawnError> {
        Ok(())
    }

    fn spawn(&self, ticket: Ticket, on_exit: OnExit) -> Result<Box<dyn Worker>, SpawnError> {
        let peer = self.0.opened.lock().expect("no panic").pop_front().expect("the link comes first");
        let token = *ticket.bytes.first_chunk().expect("a token");
        peer.token.set(token).expect("a link has one worker");
        peer.turn.lock().expect("no panic").on_exit = Some(on_exit);
        self.0.peers.lock().expect("no panic").push(Arc::clone(&peer));
        self.0.came.notify_all();
        Ok(Box::new(Process(peer)))
    }
}

struct Process(Arc<Peer>);

impl Worker for Process {
    fn pid(&self) -> Option<u32> {
        Some(1)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let peer = Arc::clone(&self.0);
        let exit = Exit::Signal(if signal == Signal::Kill { 9 } else { 15 });
        // As any system would have it: later, on a thread of the spawner's.
        std::thread::spawn(move || {
            peer.closes(Closed::Eof);
            peer.ends(exit);
        });
        Ok(())
    }
}

fn play(data: &[u8]) {
    let world = Arc::new(World::default());
    let fake = Fake(Arc::clone(&world));
    let pauses = (Duration::from_micros(100), Duration::from_millis(1));
    let restart_limit = RestartLimit { failures: 3, backoff_min: pauses.0, backoff_max: pauses.1 };
    let builder = Executor::builder().max_workers(2).restart_limit(restart_limit);
    let builder = builder.start_deadline(Duration::from_secs(5)).stop_grace(Duration::from_millis(1));
    let pool = builder.context(Context::new(fake.clone(), fake)).build().expect("a pool");
    let mut calls = Vec::new();
    submit(&pool, &mut calls);
    let mut rest = data.iter().copied();
    while let Some(op) = rest.next() {
        let mut byte = || rest.next().unwrap_or_default();
        if op % 16 == 0 {
            submit(&pool, &mut calls);
            continue;
        }
        let Some(peer) = world.peer(byte()) else { break };
        match op % 16 {
            1 | 2 => peer.says(&hello(peer.token.get().copied().unwrap_or_default())),
            3 => peer.says(&[READY]),
            4..=6 => {
                let sent = peer.sent.lock().expect("no panic").clone();
                let at = usize::from(byte());
                let seq = if sent.is_empty() { at as u64 } else { sent[at % sent.len()] };
                let (status, body) = (byte(), [byte(), byte()]);
                peer.says(&[&[REPLY], seq.to_le_bytes().as_slice(), &[status % 3], &[0; 4], &body].concat());
            }
            7 => peer.drained(),
            8 => peer.says(&[BYE]),
            9 => peer.closes(match byte() % 4 {
                0 => Closed::Eof,
                1 => Closed::Truncated,
                2 => Closed::Malformed("so says the fuzzer".to_owned()),
                _ => Closed::Io("so says the fuzzer".to_owned()),
            }),
            10 => peer.ends(Exit::Code(i32::from(byte()))),
            11 => {
                let frame: Vec<u8> = (0..byte()).map(|_| byte()).collect();
                peer.says(&[[INIT_FAILED].as_slice(), &frame].concat());
            }
            12 => {
                let call = usize::from(byte());
                if let Some(call) = calls.get(call % calls.len().max(1)) {
                    let _ = call.cancel();
                }
            }
            // A result with what may be a table of blobs, a mark of one, and their bytes.
            13 => {
                let sent = peer.sent.lock().expect("no panic").clone();
                let Some(seq) = sent.last() else { continue };
                let (count, length) = (u32::from(byte()), u64::from(byte()));
                let rest: Vec<u8> = (0..byte()).map(|_| byte()).collect();
                let table = [[0; 4], count.to_le_bytes()].concat();
                let lengths = length.to_le_bytes().repeat(usize::from(byte()));
                let body = [table, lengths, rest].concat();
                peer.says(&[&[REPLY], seq.to_le_bytes().as_slice(), &[WITH_BLOBS], &[0; 4], &body].concat());
            }
            _ => {
                let frame: Vec<u8> = (0..byte()).map(|_| byte()).collect();
                peer.says(&frame);
            }
        }
    }
    pool.kill_workers();
    for call in &calls {
        assert!(call.wait_timeout(PATIENCE), "a call is never settled");
    }
    drop(pool);
    for call in calls {
        // Whatever it is, it can be taken.
        let _ = call.result();
    }
}

fn submit(pool: &Executor, calls: &mut Vec<TaskHandle<(u8, Bytes)>>) {
    // A pool that the fuzzer has broken refuses.
    if calls.len() < 32
        && let Ok(call) = pool.submit_named("task", 1_u8)
    {
        calls.push(call);
    }
}

const HELLO: u8 = 65;
const READY: u8 = 66;
const INIT_FAILED: u8 = 67;
const REPLY: u8 = 68;
const BYE: u8 = 69;
const WITH_BLOBS: u8 = 2;

/// A greeting: no image, one codec.
fn hello(token: [u8; 16]) -> Vec<u8> {
    let mut frame = vec![HELLO];
    frame.extend(b"prcpool\x1a");
    frame.extend(VERSION.to_le_bytes());
    frame.extend(token);
    frame.extend([0, 1, 8]);
    frame.extend(b"postcard");
    frame
}
