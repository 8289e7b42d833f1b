//! Descriptors, threads, directories: what Linux lets us count.

use std::fs::{self, File};
use std::io::{Read, stdin};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pool_core::transport::{Channel, Closed, Connector, Transport};
use pool_transport_ipc::{Ipc, IpcConnector};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use xtests::processes::is_emulated;

use crate::harness::{
    Case, Event, Opened, PATIENCE, ROLE, bystander, entries, eventually, from_hex, line, open, ticket, wait,
};

pub(crate) fn all() -> Vec<Case> {
    vec![
        ("links_leave_nothing_behind", links_leave_nothing_behind),
        ("without_descriptors_a_link_does_not_open", without_descriptors_a_link_does_not_open),
        ("without_descriptors_for_the_worker_the_link_ends", without_descriptors_for_the_worker_the_link_ends),
        ("an_unusable_temporary_directory_is_an_error", an_unusable_temporary_directory_is_an_error),
        ("the_directory_is_private_and_short_lived", the_directory_is_private_and_short_lived),
        ("a_worker_whose_parent_is_gone_tidies_up", a_worker_whose_parent_is_gone_tidies_up),
        ("close_does_not_wait_for_a_grandchild", close_does_not_wait_for_a_grandchild),
    ]
}

fn descriptors() -> Vec<PathBuf> {
    let all = fs::read_dir("/proc/self/fd").expect("proc");
    all.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()).collect()
}

pub(crate) fn sockets() -> usize {
    descriptors().iter().filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

fn threads() -> Vec<PathBuf> {
    entries(Path::new("/proc/self/task"))
}

/// Whether there is but one thread, and an emulator's where there is one.
fn is_alone() -> bool {
    threads().len() == 1 + usize::from(is_emulated())
}

pub(crate) fn threads_named(name: &str) -> usize {
    let names = threads().into_iter().filter_map(|thread| fs::read_to_string(thread.join("comm")).ok());
    names.filter(|comm| comm.trim() == name).count()
}

fn connect(opened: &Opened) -> Box<dyn Channel> {
    IpcConnector.connect(ticket(opened.ticket.bytes.clone())).expect("connects")
}

/// The directory in which a link waits for its worker.
fn directory(opened: &Opened) -> PathBuf {
    let name = str::from_utf8(&opened.ticket.bytes[21..]).expect("a name");
    Path::new(name).parent().expect("a directory").to_owned()
}

fn links_leave_nothing_behind() {
    // The first use of anything may keep something for ever.
    drop(connect(&open()));
    eventually("one thread", is_alone);
    let before = descriptors().len();
    for round in 0..300 {
        let opened = open();
        if round % 2 == 0 {
            let mut channel = connect(&opened);
            channel.send(b"frame", &[]).expect("sent");
            opened.send(&[0; 200_000]);
            match round % 8 {
                0 => drop(channel),
                2 => opened.link.close(),
                4 => assert_eq!(opened.next(), Event::Frame(b"frame".to_vec())),
                _ => {}
            }
        } else if round % 4 == 1 {
            opened.link.close();
        }
        let directory = directory(&opened);
        drop(opened);
        eventually("the directory is gone", || !directory.exists());
    }
    eventually("all threads end", is_alone);
    let after = || descriptors().len();
    eventually("all descriptors are closed", || after() == before);
}

/// Takes all numbers below the highest that is in use, so that a limit leaves exactly what it says.
fn plug() -> (Vec<File>, u64) {
    let mut plugs = Vec::new();
    loop {
        let next = File::open("/dev/null").expect("opens");
        let numbers = entries(Path::new("/proc/self/fd"));
        let highest = numbers.iter().filter_map(|fd| fd.file_name()?.to_str()?.parse().ok()).max();
        let number = next.as_raw_fd();
        plugs.push(next);
        // The listing itself took the one after.
        if highest <= Some(number + 1) {
            return (plugs, number as u64 + 1);
        }
    }
}

/// Leaves room for so many descriptors more.
fn limit_to(descriptors: u64) {
    let hard = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(descriptors), ..hard }).expect("set");
}

fn without_descriptors_a_link_does_not_open() {
    // What is initialised once is, or is not and will be: both are tried, by a process each.
    for first in ["use", "nothing"] {
        let mut child = Command::new(std::env::current_exe().expect("a path"));
        child.arg0("opener").env(ROLE, "opener").arg(crate::harness::to_hex(first.as_bytes()));
        let mut child = child.stdin(Stdio::null()).spawn().expect("starts");
        assert_eq!(wait(&mut child, PATIENCE), Some(0), "{first}");
    }
}

/// Opens links with too few descriptors, then with enough.
pub(crate) fn opener() {
    struct Silent;
    impl pool_core::transport::LinkEvents for Silent {
        fn arriving(&self) {}

        fn frame(&self, _: std::borrow::Cow<'_, [u8]>) {}
        fn drained(&self) {}
        fn closed(&self, _: Closed) {}
    }
    if crate::harness::told() == b"use" {
        drop(connect(&open()));
        eventually("one thread", is_alone);
    }
    let temp = std::env::temp_dir();
    let (_plugs, used) = plug();
    let before = descriptors().len();
    let all = getrlimit(Resource::Nofile);
    let mut refused = 0;
    for more in 0..12 {
        limit_to(used + more);
        let opened = Ipc::new().open(std::sync::Arc::new(Silent));
        setrlimit(Resource::Nofile, all).expect("set");
        match opened {
            Err(error) => {
                refused += 1;
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{more}: {error}");
            }
            Ok(link) => drop(link),
        }
        eventually("nothing is left", || entries(&temp).is_empty() && is_alone());
        eventually("all descriptors are closed", || descriptors().len() == before);
    }
    assert!((3..10).contains(&refused), "{refused} refused");
    drop(connect(&open()));
}

fn without_descriptors_for_the_worker_the_link_ends() {
    drop(connect(&open()));
    eventually("one thread", is_alone);
    let (_plugs, used) = plug();
    let all = getrlimit(Resource::Nofile);
    for more in 0..6 {
        let opened = open();
        let worker = {
            let bytes = opened.ticket.bytes.clone();
            limit_to(used + more);
            bystander_without_pipes(&bytes)
        };
        let Some(mut worker) = worker else {
            setrlimit(Resource::Nofile, all).expect("set");
            continue;
        };
        opened.send(b"call");
        let event = opened.next();
        match &event {
            Event::Frame(frame) => assert_eq!(frame, b"call"),
            Event::Closed(why) => assert!(matches!(why, Closed::Io(_) | Closed::Malformed(_)), "{more}: {why:?}"),
        }
        setrlimit(Resource::Nofile, all).expect("set");
        drop(opened);
        assert!(wait(&mut worker, PATIENCE).is_some(), "the worker ends");
    }
}

/// An echoing worker, if there are descriptors enough to start one. Its own limit is as before.
fn bystander_without_pipes(bytes: &[u8]) -> Option<std::process::Child> {
    let mut command = Command::new("/bin/sh");
    let program = std::env::current_exe().ok()?;
    command.args(["-c", "ulimit -S -n 256; exec \"$0\" \"$1\""]).arg(program).arg(crate::harness::to_hex(bytes));
    command.env(ROLE, "echo").stdin(Stdio::inherit()).spawn().ok()
}

fn an_unusable_temporary_directory_is_an_error() {
    let long = std::env::temp_dir().join("x".repeat(80));
    fs::create_dir(&long).expect("a directory");
    for temp in [&long, Path::new("/not/there"), Path::new("/proc")] {
        let mut child = Command::new(std::env::current_exe().expect("a path"));
        child.env(ROLE, "parent").env("TMPDIR", temp).arg("").stdin(Stdio::null()).stderr(Stdio::piped());
        let output = child.output().expect("runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("temporary directory"), "{said}");
    }
    assert!(entries(&long).is_empty());
    fs::remove_dir(long).expect("empty");
}

fn the_directory_is_private_and_short_lived() {
    let opened = open();
    let directory = directory(&opened);
    let mode = fs::metadata(&directory).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let _channel = connect(&opened);
    assert!(!directory.exists(), "gone when the worker has connected");
}

fn a_worker_whose_parent_is_gone_tidies_up() {
    let mut parent = bystander("parent", b"");
    let bytes = from_hex(line(&mut parent).trim());
    parent.kill().expect("killed");
    parent.wait().expect("waited for");
    let temp = std::env::temp_dir();
    assert_eq!(entries(&temp).len(), 1, "nobody was there to remove it");
    let start = std::time::Instant::now();
    assert!(IpcConnector.connect(ticket(bytes)).is_err());
    assert!(start.elapsed() < PATIENCE && entries(&temp).is_empty());
}

/// Connects, sends, and leaves a copy of itself behind.
pub(crate) fn forker() {
    let mut channel = crate::bystanders::connect();
    channel.send(b"", b"mine").expect("sent");
    if crate::sys::fork() {
        let _ = stdin().read(&mut [0]);
    }
}

fn close_does_not_wait_for_a_grandchild() {
    let opened = open();
    let mut worker = bystander("forker", &opened.ticket.bytes);
    // `wait` would close its standard input, which the copy waits for.
    let input = worker.stdin.take();
    assert_eq!(wait(&mut worker, PATIENCE), Some(0));
    assert_eq!(opened.next(), Event::Frame(b"mine".to_vec()));
    opened.send(&vec![1; 10 << 20]);
    assert!(opened.events.try_recv().is_err(), "the copy holds the worker's end");
    opened.link.close();
    assert_eq!(opened.next(), Event::Closed(Closed::Ours));
    drop(opened);
    eventually("the thread ends", || threads_named("pool-ipc") == 0);
    drop(input);
}
