//! T9 and T10, in a process of their own: threads and descriptors are counted, and other tests would count too.

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

#[derive(Default)]
struct Count {
    frames: AtomicU64,
    closed: AtomicU64,
}

impl LinkEvents for Count {
    fn frame(&self, _: Cow<'_, [u8]>) {
        self.frames.fetch_add(1, Ordering::SeqCst);
    }

    fn drained(&self) {}

    fn closed(&self, _: Closed) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
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
fn links_share_one_thread_and_leave_nothing_behind() {
    // The first use of anything may keep something for ever.
    drop(open(&Pipe::new()));
    eventually("the thread of the first link ends", || threads().len() <= 2);
    let (own_threads, own_descriptors) = (threads(), descriptors());

    sixty_four_links_have_one_thread(&own_threads);
    eventually("the thread ends", || threads() == own_threads);
    eventually("the descriptors are closed", || descriptors() == own_descriptors);

    for round in 0..300 {
        let pipe = Pipe::new();
        let (link, count, mut channel) = open(&pipe);
        let (second, _, _) = open(&pipe);
        channel.send(b"frame", &[]).unwrap();
        link.send(Outgoing { seq: None, head: &[0; 200_000], body: &Payload::EMPTY });
        link.flush();
        match round % 4 {
            0 => drop(channel),
            1 => link.close(),
            2 => drop(pipe),
            _ => drop(second),
        }
        drop(link);
        assert!(count.closed.load(Ordering::SeqCst) <= 1);
    }
    eventually("all threads end", || threads() == own_threads);
    eventually("all descriptors are closed", || descriptors() == own_descriptors);
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
    no_descriptor_is_inheritable();
    it_sleeps_while_nothing_happens(own);
}

fn no_descriptor_is_inheritable() {
    for entry in fs::read_dir("/proc/self/fdinfo").unwrap() {
        let path = entry.unwrap().path();
        let number: u32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        // The descriptor of this very listing is gone again when it is looked at.
        let Ok(info) = fs::read_to_string(&path) else { continue };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = u32::from_str_radix(flags, 8).unwrap();
        const CLOEXEC: u32 = 0o2_000_000;
        let target = fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default();
        let target = target.to_string_lossy();
        let is_kind_of_ours = ["pipe:", "memfd:", "anon_inode:"].iter().any(|kind| target.contains(kind));
        // What the test itself was started with: the standard ones, and whatever cargo's jobserver is.
        let is_ours = number > 2 && (is_kind_of_ours && !target.contains("jobserver"));
        assert!(!is_ours || flags & CLOEXEC != 0 || was_there_at_start(number), "{number}: {target} {flags:o}");
    }
}

/// Whether the parent process has the same open: then it came from there.
fn was_there_at_start(number: u32) -> bool {
    let parent = std::os::unix::process::parent_id();
    let mine = fs::read_link(format!("/proc/self/fd/{number}"));
    let theirs = fs::read_dir(format!("/proc/{parent}/fd"))
        .map(|all| all.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()).collect::<Vec<_>>());
    matches!((mine, theirs), (Ok(mine), Ok(theirs)) if theirs.contains(&mine))
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
