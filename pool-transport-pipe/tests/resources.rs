//! The links of a transport share one thread. In a process of its own: threads are counted, and other tests would
//! count too.

#![cfg(any(target_os = "linux", target_os = "android"))]

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pool_core::transport::{Channel, Closed, Connector, Link, LinkEvents, Outgoing, Payload, Transport};
use pool_transport_pipe::{Pipe, PipeConnector};
use xtests::processes::is_emulated;

#[derive(Default)]
struct Count {
    frames: AtomicU64,
}

impl LinkEvents for Count {
    fn arriving(&self) {}

    fn frame(&self, _: Cow<'_, [u8]>) {
        self.frames.fetch_add(1, Ordering::SeqCst);
    }

    fn drained(&self) {}

    fn closed(&self, _: Closed) {}
}

fn open(pipe: &Pipe) -> (Box<dyn Link>, Arc<Count>, Box<dyn Channel>) {
    let count = Arc::<Count>::default();
    let (link, ticket) = pipe.open(count.clone()).unwrap();
    (link, count, PipeConnector.connect(ticket).unwrap())
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> BTreeSet<String> {
    fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().file_name().into_string().unwrap()).collect()
}

/// What a thread's `status` says after `key`; 0 if the thread is gone.
fn status(thread: &str, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("0");
    line.trim_start_matches(':').trim().parse().unwrap()
}

/// Waits, not for ever.
#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// One test, so that nothing else runs in this process.
#[test]
fn links_share_one_thread() {
    // The first use of anything may keep something for ever.
    drop(open(&Pipe::new()));
    eventually("the thread of the first link ends", || threads().len() <= 2 + usize::from(is_emulated()));
    let (own_threads, own_descriptors) = (threads(), descriptors());

    sixty_four_links_have_one_thread(&own_threads);
    eventually("the thread ends", || threads() == own_threads);
    eventually("the descriptors are closed", || descriptors() == own_descriptors);
}

fn sixty_four_links_have_one_thread(before: &BTreeSet<String>) {
    let pipe = Pipe::new();
    let mut links: Vec<_> = (0..64).map(|_| open(&pipe)).collect();
    let started: Vec<_> = threads().difference(before).cloned().collect();
    let [own] = &started[..] else { panic!("not one thread: {started:?}") };
    for (link, count, channel) in &mut links {
        let mut frame = Vec::new();
        link.send(Outgoing { seq: None, head: b"hello", body: &Payload::EMPTY });
        link.flush();
        assert!(channel.recv(&mut frame).unwrap());
        channel.send(&frame, b"").unwrap();
        eventually("the frame is delivered", || count.frames.load(Ordering::SeqCst) == 1);
    }
    it_sleeps_while_nothing_happens(own);
}

fn it_sleeps_while_nothing_happens(thread: &str) {
    let wakes = || status(thread, "voluntary_ctxt_switches");
    // It may still be on its way to sleep after the last frame.
    eventually("the thread sleeps", || {
        let before = wakes();
        thread::sleep(Duration::from_millis(20));
        wakes() == before
    });
    let before = wakes();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(wakes(), before, "it woke up for nothing");
}
