//! Workers that are not of a pool, parents that are to be killed; and the cases that need no more than them.

use std::io::{Read, stdin};

use pool_core::transport::{Channel, Closed, Connector};
use pool_transport_ipc::IpcConnector;

use crate::harness::{Case, Event, PATIENCE, bystander, open, ticket, to_hex, told, wait};

pub(crate) fn play(role: &str) {
    match role {
        "echo" => echo(),
        "parent" => parent(),
        #[cfg(target_os = "linux")]
        "forker" => crate::linux::forker(),
        #[cfg(target_os = "linux")]
        "opener" => crate::linux::opener(),
        other => panic!("no such role: {other}"),
    }
}

pub(crate) fn all() -> Vec<Case> {
    vec![
        ("a_worker_needs_nothing_but_a_few_bytes", a_worker_needs_nothing_but_a_few_bytes),
        ("a_worker_sees_that_its_parent_is_gone", a_worker_sees_that_its_parent_is_gone),
    ]
}

pub(crate) fn connect() -> Box<dyn Channel> {
    IpcConnector.connect(ticket(told())).expect("connects")
}

/// Sends back what comes, until the end.
fn echo() {
    let (mut channel, mut frame) = (connect(), Vec::new());
    while channel.recv(&mut frame).expect("whole frames") {
        channel.send(b"", &frame).expect("sent");
    }
}

/// Opens a link, says its ticket, and waits to be killed.
fn parent() {
    let opened = open();
    opened.send(b"for the worker");
    println!("{}", to_hex(&opened.ticket.bytes));
    let _ = stdin().read(&mut [0]);
}

fn a_worker_needs_nothing_but_a_few_bytes() {
    let opened = open();
    assert!(opened.ticket.handles.is_empty());
    let mut worker = bystander("echo", &opened.ticket.bytes);
    for len in [0, 1, 1000, 100_000, 1 << 24] {
        opened.send(&vec![7; len]);
        assert_eq!(opened.next(), Event::Frame(vec![7; len]));
    }
    opened.link.close();
    assert_eq!(opened.next(), Event::Closed(Closed::Ours));
    assert_eq!(wait(&mut worker, PATIENCE), Some(0), "the worker sees the end");
}

fn a_worker_sees_that_its_parent_is_gone() {
    let mut parent = bystander("parent", b"");
    let bytes = crate::harness::from_hex(crate::harness::line(&mut parent).trim());
    let mut channel = IpcConnector.connect(ticket(bytes)).expect("connects");
    let mut frame = Vec::new();
    assert!(channel.recv(&mut frame).expect("a frame") && frame == b"for the worker");
    parent.kill().expect("killed");
    parent.wait().expect("waited for");
    assert!(!channel.recv(&mut frame).expect("the end"));
    assert!(channel.send(b"", b"anybody?").is_err());
}
