//! A worker program that speaks the protocol well up to a point, which its first argument names.
//!
//! What it sends is laid out here byte by byte, once more: a test that used the library's own encoding would not
//! notice if that changed without a new protocol version.

use std::fs::File;
use std::io::Write;
use std::process::exit;

use pool_core::spawner::{Arrival, Entry};
use pool_core::transport::{Channel, Connector, Seq, Ticket};
use pool_spawn_exec::ExecEntry;
use pool_transport_pipe::PipeConnector;

const VERSION: u16 = 5;
const CALL: u8 = 2;
const HELLO: u8 = 65;
const READY: u8 = 66;
const INIT_FAILED: u8 = 67;
const REPLY: u8 = 68;
const BYE: u8 = 69;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args[0].as_str() {
        "prints" => {
            println!("Usage: some other program\n\0\u{7f}");
            exit(2);
        }
        "flaky" => flaky(&args[1]),
        act => {
            let mut worker = Worker::arrive();
            worker.greet(act);
            worker.serve(act);
        }
    }
}

/// Comes to nothing at its first two starts, and works at all others.
fn flaky(counter: &str) {
    let mut counter = File::options().append(true).open(counter).expect("the counter");
    if counter.metadata().expect("its size").len() < 2 {
        counter.write_all(b"x").expect("counted");
        exit(1);
    }
    process_pool::worker_main().task("double", |n: u32| n * 2).run();
}

struct Worker {
    channel: Box<dyn Channel>,
    /// The channel's other half, to write what is no frame.
    raw: File,
    token: [u8; 16],
}

impl Worker {
    fn arrive() -> Self {
        let Arrival::Worker { ticket, .. } = ExecEntry.arrive() else { exit(90) };
        // The core's part of the ticket: the token, the transport's own bytes after their length, terms.
        let (token, rest) = ticket.bytes.split_first_chunk::<16>().expect("a token");
        let (len, bytes) = rest.split_first().expect("a length");
        let bytes = &bytes[..usize::from(*len)];
        let raw = File::from(ticket.handles[1].try_clone().expect("another descriptor"));
        let token = *token;
        let channel = PipeConnector.connect(Ticket { bytes: bytes.to_vec(), ..ticket }).expect("connected");
        Self { channel, raw, token }
    }

    fn greet(&mut self, act: &str) {
        let good = hello(VERSION, self.token, "postcard");
        match act {
            "garbage first" => self.send(b"hello, is it me you are looking for?"),
            "empty first" => self.send(b""),
            "ready first" => self.send(&[READY]),
            "reply first" => self.send(&reply(0, 0, &[42])),
            "other version" => self.send(&hello(999, self.token, "postcard")),
            "wrong token" => self.send(&hello(VERSION, [7; 16], "postcard")),
            "wrong magic" => self.send(&[&[HELLO], b"prcpool!".as_slice(), &[1, 0]].concat()),
            "short hello" => self.send(&good[..20]),
            "other codec" => self.send(&hello(VERSION, self.token, "pickle")),
            "too long" => self.raw(&0xffff_fff0_u32.to_le_bytes()),
            "half a frame" => {
                self.raw(&[100, 0, 0, 0, 1, 2, 3]);
                exit(3);
            }
            "silent" => self.idle(),
            _ => return self.send(&good),
        }
        self.idle();
    }

    fn serve(&mut self, act: &str) {
        match act {
            "hello then garbage" => self.send(b"garbage"),
            "hello twice" => self.send(&hello(VERSION, self.token, "postcard")),
            "bye early" => self.send(&[BYE]),
            "malformed init failure" => self.send(&[INIT_FAILED, 0xff, 0xff]),
            "hello then exit" => exit(5),
            "never ready" => self.idle(),
            _ => {}
        }
        self.send(&[READY]);
        if act == "ready then exit" {
            exit(6);
        }
        loop {
            let frame = self.receive();
            let Some((&CALL, rest)) = frame.split_first() else { exit(0) };
            let seq = u64::from_le_bytes(*rest.first_chunk().expect("a call's number"));
            // "… claimed": the call has started, so it is lost with this worker; else it may be sent again.
            if let Some(act) = act.strip_suffix(" claimed") {
                assert!(self.channel.claim(Seq(seq)));
                self.answer(act, seq);
            } else {
                self.answer(act, seq);
            }
        }
    }

    fn answer(&mut self, act: &str, seq: u64) {
        match act {
            "unknown number" => self.send(&reply(seq + 1_000_000, 0, &[42])),
            "malformed reply" => self.send(&[REPLY, 1, 2]),
            "unknown status" => self.send(&reply(seq, 9, &[42])),
            "malformed failure" => self.send(&reply(seq, 1, &[200, 200])),
            "unknown kind" => self.send(&[200, 1]),
            "parent's kind" => self.send(&[CALL, 1]),
            "hello late" => self.send(&hello(VERSION, self.token, "postcard")),
            "too long late" => self.raw(&0xffff_fff0_u32.to_le_bytes()),
            "half a frame late" => {
                self.raw(&[100, 0, 0, 0, REPLY, 2, 3]);
                exit(3);
            }
            "bye instead" => {
                self.send(&[BYE]);
                exit(0);
            }
            "exit instead" => exit(6),
            "twice" => {
                self.send(&reply(seq, 0, &[42]));
                self.send(&reply(seq, 0, &[43]));
            }
            "nothing" => self.send(&reply(seq, 0, &[])),
            // As a `Vec<u64>` this says that it has 2^64 - 1 elements.
            "endless" => self.send(&reply(seq, 0, &[[0xff].repeat(9), vec![1]].concat())),
            act => panic!("not an act: {act:?}"),
        }
    }

    fn send(&mut self, frame: &[u8]) {
        self.channel.send(frame, &[]).expect("sent");
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.raw.write_all(bytes).expect("written");
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut frame = Vec::new();
        if !self.channel.recv(&mut frame).expect("received") {
            exit(0);
        }
        frame
    }

    /// Until the parent has had enough.
    fn idle(&mut self) -> ! {
        loop {
            self.receive();
        }
    }
}

fn hello(version: u16, token: [u8; 16], codec: &str) -> Vec<u8> {
    let mut frame = vec![HELLO];
    frame.extend(b"prcpool\x1a");
    frame.extend(version.to_le_bytes());
    frame.extend(token);
    // No image, one codec, no tasks.
    frame.extend([0, 1, u8::try_from(codec.len()).expect("short")]);
    frame.extend(codec.as_bytes());
    frame.push(0);
    frame
}

fn reply(seq: u64, status: u8, body: &[u8]) -> Vec<u8> {
    // It took no time at all.
    [&[REPLY], seq.to_le_bytes().as_slice(), &[status], &[0; 4], body].concat()
}
