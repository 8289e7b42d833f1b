//! What the workers and the bystanders of the cases do.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio, exit};

use pool_core::transport::{Handle, Ticket};

use crate::harness;

/// A worker: the ticket's transport names the job.
pub(crate) fn run(ticket: Ticket, last_words: Box<dyn FnOnce(&str) + Send>) {
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
        "print" => {
            println!("{}", String::from_utf8_lossy(&bytes));
        }
        "exit" => exit(i32::from(bytes[0])),
        "say" => {
            last_words(&String::from_utf8_lossy(&bytes));
            exit(3);
        }
        "busy" => {
            write!(first(handles), "up").expect("written");
            loop {
                std::hint::spin_loop();
            }
        }
        "surroundings" => {
            let args: Vec<_> = std::env::args_os().collect();
            write!(first(handles), "{args:?} {:?}", std::env::var("FLAVOUR")).expect("written");
        }
        "have a child" => have_a_child(first(handles)),
        #[cfg(target_os = "linux")]
        "list descriptors" => {
            let list = crate::linux::descriptors();
            write!(first(handles), "{list:?} {:?}", name()).expect("written");
        }
        unknown => panic!("no such job: {unknown}"),
    }
    exit(0);
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

/// A bystander.
pub(crate) fn play(role: &str) {
    match role {
        "echo" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).expect("read");
            print!("{text}");
        }
        "printer" => {
            let started =
                harness::start(&harness::own(), "print", b"hello from the worker", vec![]).expect("started");
            started.report();
        }
        "counter" => {
            let exec = harness::own();
            let reports = (0..30).map(|_| harness::start(&exec, "exit", &[0], vec![]).expect("started").report());
            print!("{} reports", reports.count());
        }
        #[cfg(target_os = "linux")]
        "printer of a file that is gone" => {
            std::fs::remove_file(std::env::current_exe().expect("a path")).expect("removed");
            play("printer");
        }
        unknown => panic!("no such role: {unknown}"),
    }
}

fn first(handles: Vec<Handle>) -> File {
    file(handles.into_iter().next().expect("a handle"))
}

fn file(handle: Handle) -> File {
    File::from(handle)
}

#[cfg(target_os = "linux")]
fn name() -> String {
    std::fs::read_to_string("/proc/self/comm").expect("a name").trim().to_owned()
}
