//! What the workers and the bystanders of the cases do.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio, exit};
use std::sync::atomic::{AtomicU64, Ordering};

use pool_core::spawner::Entry;
use pool_core::transport::{Handle, Ticket};

use crate::harness::{self, Method};

/// Rolled once in each process that began with `main`.
static DICE: AtomicU64 = AtomicU64::new(0);
/// Rolled in each worker.
static OTHER_DICE: AtomicU64 = AtomicU64::new(0);

fn roll(dice: &AtomicU64) {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("random bytes");
    dice.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
}

pub(crate) fn roll_the_dice() {
    roll(&DICE);
}

/// The hook.
pub(crate) fn roll_the_other_dice() {
    roll(&OTHER_DICE);
    assert!(!harness::case().ends_with("a_panicking_hook_is_told"), "on purpose");
}

/// What a program does that cannot have a fork server.
pub(crate) fn start_threads_too_early() {
    if harness::case() == "forkserver with threads" && pool_spawn_fork::ForkServerEntry.is_worker() {
        for _ in 0..2 {
            std::thread::spawn(std::thread::park);
        }
    }
}

/// A worker: the ticket's transport names the job.
pub(crate) fn work(ticket: Ticket, last_words: Box<dyn FnOnce(&str) + Send>) -> i32 {
    let Ticket { transport, bytes, handles } = ticket;
    match transport.as_str() {
        // Writes its bytes and the handle's number into each handle.
        "number the handles" => {
            for (index, handle) in handles.into_iter().enumerate() {
                let mut file = file(handle);
                file.write_all(&bytes).expect("written");
                write!(file, "{index}").expect("written");
            }
        }
        // Without an end of line, so that it is held back.
        "print" => print!("{}", String::from_utf8_lossy(&bytes)),
        "exit" => exit(i32::from(bytes[0])),
        "return" => return i32::from(bytes[0]),
        "panic" => panic!("on purpose"),
        "say" => {
            last_words(&String::from_utf8_lossy(&bytes));
            return 3;
        }
        "idle" => {
            write!(first(handles), "up").expect("written");
            loop {
                std::thread::park();
            }
        }
        "busy" => {
            write!(first(handles), "up").expect("written");
            loop {
                std::hint::spin_loop();
            }
        }
        "dice" => {
            let [dice, other] = [&DICE, &OTHER_DICE].map(|dice| dice.load(Ordering::Relaxed));
            write!(first(handles), "{dice} {other}").expect("written");
        }
        "have a child" => have_a_child(first(handles)),
        "surroundings" => {
            let args: Vec<_> = std::env::args_os().collect();
            write!(first(handles), "{args:?}").expect("written");
        }
        #[cfg(target_os = "linux")]
        "list descriptors" => {
            let list = crate::linux::descriptors();
            write!(first(handles), "{list:?} {}", crate::linux::threads()).expect("written");
        }
        #[cfg(target_os = "linux")]
        "write to descriptor" => {
            let path = format!("/proc/self/fd/{}", String::from_utf8_lossy(&bytes));
            let mut file = File::options().append(true).open(path).expect("it is there");
            write!(file, "from the worker").expect("written");
        }
        #[cfg(target_os = "linux")]
        "status" => {
            let status = std::fs::read_to_string("/proc/self/status").expect("read");
            let group = rustix::process::getpgrp().as_raw_pid() as u32 == std::process::id();
            write!(first(handles), "{status}leads its group: {group}").expect("written");
        }
        unknown => panic!("no such job: {unknown}"),
    }
    0
}

/// Starts a program that inherits the marker, to see what it takes itself for.
fn have_a_child(mut report: File) {
    let mut child = Command::new(std::env::current_exe().expect("a path"))
        .env(harness::ROLE, "echo")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("piped").write_all(b"not a byte of mine is lost").expect("written");
    let out = child.wait_with_output().expect("it ends");
    report.write_all(&out.stdout).expect("written");
}

/// In the server of one case: starts a process that starts another.
#[cfg(target_os = "linux")]
pub(crate) fn start_processes_early() {
    if harness::case() == crate::servers::KEPT && pool_spawn_fork::ForkServerEntry.is_worker() {
        let script = "sleep 60 & wait";
        drop(Command::new("sh").args(["-c", script]).stdin(Stdio::null()).spawn().expect("it starts"));
    }
}

/// A bystander.
pub(crate) fn play(role: &str) {
    match role {
        "echo" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).expect("read");
            print!("{text}");
        }
        "printer" => {
            // Held back when the keeper is forked: to be written once.
            print!("[");
            let spawner = Method::of_bystander().spawner();
            for _ in 0..2 {
                harness::start(&*spawner, "print", b"hello from the worker. ", vec![]).expect("started").report();
            }
            print!("]");
        }
        #[cfg(target_os = "linux")]
        "counter" => {
            let spawner = Method::of_bystander().spawner();
            let one = || harness::start(&*spawner, "return", &[7], vec![]).expect("started").report();
            let reports: Vec<_> = (0..30).map(|_| one()).collect();
            let right = reports.iter().filter(|report| report.exit == pool_core::error::Exit::Code(7)).count();
            print!("{right} reports");
        }
        #[cfg(target_os = "linux")]
        "printer of a file that is gone" => {
            std::fs::remove_file(std::env::current_exe().expect("a path")).expect("removed");
            play("printer");
        }
        "parent" => parent(),
        unknown => panic!("no such role: {unknown}"),
    }
}

/// A parent to be killed: its workers and their server share its standard output, so that its end tells of theirs.
fn parent() {
    let spawner = Method::of_bystander().spawner();
    // From a thread that ends, which must not matter.
    let workers = std::thread::spawn(move || {
        let workers = ["idle", "busy", "idle"].map(|job| {
            let (started, _) = harness::start_up(&*spawner, job);
            println!("{}", started.worker.pid().expect("a child"));
            started
        });
        (workers, spawner)
    });
    let (workers, _spawner) = workers.join().expect("all up");
    let gone = workers[0].exit.recv();
    panic!("nobody was to end before this process: {gone:?}");
}

fn first(handles: Vec<Handle>) -> File {
    file(handles.into_iter().next().expect("a handle"))
}

fn file(handle: Handle) -> File {
    File::from(handle)
}
