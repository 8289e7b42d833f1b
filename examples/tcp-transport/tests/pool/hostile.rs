//! Workers that do not fit. One that breaks the rules of the connection costs what it runs, and no other link.

use std::fs::OpenOptions;
use std::io;
use std::net::Shutdown;
use std::path::PathBuf;
use std::sync::Arc;

use process_pool::Context;
use process_pool::context::Way;
use process_pool::spawn::Exec;
use process_pool::transport::{Channel, Connector, Link, LinkEvents, Seq, Ticket, Transport};
use tcp_transport::{Tcp, TcpConnector};
use xtests::cases;
use xtests::gate::{Gate, wait_at};
use xtests::runner::{Case, Subject};

use crate::kit::{PATIENCE, builder, lost, settled};
use crate::raw::{ASK, FRAME, Raw, hear};

pub(crate) const CASES: &[Case] = cases![
    half_a_frame_costs_its_own_call_only,
    a_lying_length_costs_its_own_call_only,
    a_worker_that_does_not_know_the_transport_says_so
];

/// In a worker's environment: what the first worker of the case does in the place of its first answer.
const MISDEED: &str = "TCP_MISDEED";
/// And where it leaves a mark, so that the others know that they are not the first.
const MARK: &str = "TCP_MARK";
/// Set for workers that know the transport by another name.
pub(crate) const OTHER_NAME: &str = "TCP_OTHER_NAME";

/// `tcp`, with workers that behave as they are told.
pub(crate) fn way() -> Way {
    let is_other = std::env::var_os(OTHER_NAME).is_some();
    Way { name: if is_other { "tpc" } else { "tcp" }, make: || Box::new(Moody(Tcp::default())) }
}

#[derive(Debug)]
struct Moody(Tcp);

impl Transport for Moody {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn frame_max(&self) -> usize {
        Transport::frame_max(&self.0)
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(MoodyConnector)
    }

    fn open(&self, events: Arc<dyn LinkEvents>) -> io::Result<(Box<dyn Link>, Ticket)> {
        self.0.open(events)
    }
}

#[derive(Debug)]
struct MoodyConnector;

impl Connector for MoodyConnector {
    fn name(&self) -> &str {
        TcpConnector.name()
    }

    fn connect(&self, ticket: Ticket) -> io::Result<Box<dyn Channel>> {
        let Some((misdeed, mark)) = std::env::var(MISDEED).ok().zip(std::env::var_os(MARK)) else {
            return TcpConnector.connect(ticket);
        };
        match OpenOptions::new().write(true).create_new(true).open(PathBuf::from(mark)) {
            Ok(_) => Ok(Box::new(Hostile { raw: Raw::connect(&ticket)?, misdeed, sent: 0 })),
            Err(_) => TcpConnector.connect(ticket),
        }
    }
}

struct Hostile {
    raw: Raw,
    misdeed: String,
    sent: u32,
}

impl Channel for Hostile {
    fn recv(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        Ok(hear(&self.raw.calls)?.map(|(_, bytes)| *frame = bytes).is_some())
    }

    fn claim(&mut self, seq: Seq) -> bool {
        self.raw.say(ASK, 8, &seq.0.to_le_bytes()).expect("said");
        matches!(self.raw.answer(), Ok(Some(1)))
    }

    fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let len = (head.len() + body.len()) as u64;
        self.sent += 1;
        match self.sent {
            // It introduces itself, and says that it is ready.
            1 | 2 => {
                self.raw.say(FRAME, len, &[head, body].concat())?;
                self.raw.answer().map(drop)
            }
            _ if self.misdeed == "half" => {
                self.raw.say(FRAME, len + 1, &[head, body].concat())?;
                self.raw.replies.shutdown(Shutdown::Write)
            }
            _ => self.raw.say(FRAME, u32::MAX.into(), &[head, body].concat()),
        }
    }
}

/// Two workers, each with a call; the first to come misbehaves when its call is done. What the pool says of it.
fn first_of_two_does(misdeed: &str, subject: &Subject) -> Option<String> {
    let exec = Exec::new().env(MISDEED, misdeed).env(MARK, subject.dir.join("mark"));
    let (pool, gate) = (builder(exec, PATIENCE).max_workers(2).build().expect("a pool"), Gate::new());
    let calls = [(); 2].map(|()| pool.submit(wait_at, gate.port()).expect("taken"));
    gate.arrivals(2).into_iter().for_each(xtests::gate::Visitor::pass);
    let mut results: Vec<_> = calls.iter().map(settled).collect();
    results.sort_by_key(Result::is_err);
    let [Ok(()), Err(_)] = &results[..] else { panic!("one of the two: {results:?}") };
    let why = lost(results.pop().expect("two")).why;
    let sum: u64 = pool.map(|n: u64| n, 0..100).map(|n| n.expect("a result")).sum();
    assert_eq!(sum, 4950);
    why
}

fn half_a_frame_costs_its_own_call_only(subject: &Subject) {
    first_of_two_does("half", subject);
}

fn a_lying_length_costs_its_own_call_only(subject: &Subject) {
    let why = first_of_two_does("length", subject).expect("the pool says why it ended the worker");
    assert!(why.contains("malformed frame") && why.contains("4294967295"), "{why}");
}

/// A program that was started without it, as if somebody had forgotten to add it to the entry.
fn a_worker_that_does_not_know_the_transport_says_so(_: &Subject) {
    let exec = Exec::new().env(OTHER_NAME, "1");
    let pool = builder(exec, PATIENCE).max_workers(1).build().expect("a pool");
    let error = settled(&pool.submit(|n: u64| n, 1).expect("taken")).expect_err("no worker comes up");
    let (error, told) = (error.to_string(), "this worker does not know the transport `tcp`, only: ");
    assert!(error.split_once(told).is_some_and(|(_, known)| known.contains("tpc")), "{error}");
    // In this process it has its right name, which those who mistype it are told.
    let error = "exec+tpc".parse::<Context>().expect_err("a mistyped name");
    assert!(error.to_string().ends_with("known are pipe, ipc, shm, tcp"), "{error}");
}
