//! What the workers and the bystanders of the cases do.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use pool_core::transport::{Handle, Ticket};

use super::bench::{Bench, Candidate};
use super::tools::read_some;
use crate::gate::{wait_at, wait_at_with};

/// Before the name of a job in a ticket, where a transport's name would be.
const JOB: &str = "job: ";

/// Set for a bystander: which one.
const ROLE: &str = "XTESTS_ROLE";

/// What a worker says at a gate.
pub(super) const WORKER: u64 = 1;

/// Set for a bystander that goes to a gate: the gate's port.
const PORT: &str = "XTESTS_PORT";

/// Set for a bystander: the candidate.
const CANDIDATE: &str = "XTESTS_CANDIDATE";

/// The name for a ticket.
pub(super) fn named(job: &str) -> String {
    format!("{JOB}{job}")
}

/// Whether it is one of these tickets.
pub(crate) fn is_job(ticket: &Ticket) -> bool {
    ticket.transport.starts_with(JOB)
}

/// A worker: the ticket's transport names the job. Returns the exit code.
pub(crate) fn work(ticket: Ticket, last_words: Box<dyn FnOnce(&str) + Send>) -> i32 {
    let Ticket { transport, bytes, handles } = ticket;
    match transport.strip_prefix(JOB).unwrap_or("a foreign ticket") {
        // Writes its bytes, each handle's number and how many there are into each handle.
        "number the handles" => {
            let count = handles.len();
            for (index, handle) in handles.into_iter().enumerate() {
                let mut file = File::from(handle);
                file.write_all(&bytes).expect("written");
                write!(file, "{index} of {count}").expect("written");
            }
        }
        "read stdin" => {
            let mut text = Vec::new();
            let count = std::io::stdin().read_to_end(&mut text).expect("read");
            write!(first(handles), "{count} bytes").expect("written");
        }
        "print" => {
            println!("{}", String::from_utf8_lossy(&bytes));
            eprintln!("{}", String::from_utf8_lossy(&bytes));
        }
        "exit" => std::process::exit(i32::from(bytes[0])),
        "return" => return i32::from(bytes[0]),
        "abort" => std::process::abort(),
        "say" => {
            last_words(&String::from_utf8_lossy(&bytes));
            return 3;
        }
        "idle" => {
            // It keeps all of them.
            let mut handles: Vec<_> = handles.into_iter().map(File::from).collect();
            write!(handles.first_mut().expect("a handle"), "up").expect("written");
            loop {
                std::thread::park();
            }
        }
        "busy" => {
            // It keeps all of them.
            let mut handles: Vec<_> = handles.into_iter().map(File::from).collect();
            write!(handles.first_mut().expect("a handle"), "up").expect("written");
            loop {
                std::hint::spin_loop();
            }
        }
        #[cfg(target_os = "linux")]
        "list descriptors" => {
            let list = super::linux::targets().into_iter().collect::<Vec<_>>();
            write!(first(handles), "{}", list.join("\n")).expect("written");
        }
        "start another" => {
            let order = String::from_utf8(bytes).expect("text");
            let [port, candidate, end] = order.split(' ').collect::<Vec<_>>().try_into().expect("three words");
            let other = bystander("visitor", candidate).env(PORT, port).stdout(Stdio::null()).spawn();
            // Nobody waits for it.
            drop(other.expect("it starts"));
            // Not before it is there.
            wait_at_with((port.parse().expect("a port"), WORKER));
            match end {
                "aborts" => std::process::abort(),
                end => assert_eq!(end, "returns"),
            }
        }
        unknown => panic!("no such job: {unknown}"),
    }
    0
}

fn first(handles: Vec<Handle>) -> File {
    File::from(handles.into_iter().next().expect("a handle"))
}

/// This program as a bystander.
pub(super) fn bystander(role: &str, candidate: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.env(ROLE, role).env(CANDIDATE, candidate);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// In a bystander: does what it was started for, and ends the process. Elsewhere returns.
pub(crate) fn play<'a>(mut candidates: impl Iterator<Item = &'a Candidate>) {
    let (Ok(role), Ok(name)) = (std::env::var(ROLE), std::env::var(CANDIDATE)) else { return };
    let candidate = candidates.find(|candidate| candidate.name() == name).expect("one of them");
    let bench = Bench { candidate };
    match role.as_str() {
        "printer" => {
            let started =
                bench.start(&*bench.spawner(), "print", b"hello from the worker", vec![]).expect("started");
            started.report();
        }
        "parent" => parent(&bench),
        "visitor" => wait_at(std::env::var(PORT).expect("set").parse().expect("a port")),
        unknown => panic!("no such role: {unknown}"),
    }
    std::process::exit(0);
}

/// A parent to be killed: its workers share its standard output, so that its end tells of their end.
fn parent(bench: &Bench<'_>) {
    let spawner = bench.spawner();
    std::thread::scope(|scope| {
        // From a thread that ends, which must not matter.
        let workers = scope.spawn(|| {
            ["idle", "busy", "idle"].map(|job| {
                let (started, mut reader) = bench.start_with_pipe(&*spawner, job, b"");
                assert_eq!(read_some(&mut reader, 2), "up");
                println!("{}", started.worker.pid().map_or(0, |pid| pid));
                started
            })
        });
        let workers = workers.join().expect("all up");
        let gone = workers[0].exit.recv();
        panic!("nobody was to end before this process: {gone:?}");
    });
}
