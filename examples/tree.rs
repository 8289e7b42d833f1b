//! Calls that start processes of their own, which start others: all of them end with their worker, however that one
//! ends. `cargo run --release --example tree`; it checks what it says, and ends by itself.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use process_pool::{CallOptions, Executor, TaskError};

/// Set for a process that a call has started: how many generations are to come, and where to report.
const TREE: &str = "EXAMPLE_TREE";

/// Starts this program as a process that starts others. Nobody waits for it.
fn start(generations: u32, port: u16) {
    let own = std::env::current_exe().expect("a path");
    let mut next = Command::new(own);
    next.env(TREE, format!("{generations} {port}")).stdin(Stdio::null());
    drop(next.spawn().expect("it starts"));
}

/// Says that this process is there, and stays for as long as somebody listens.
fn stay(port: u16) {
    let mut report = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("somebody listens");
    writeln!(report, "{}", std::process::id()).expect("somebody reads");
    // The end of the stream, or its reset: either way nobody cares any more.
    let _ = report.read(&mut [0]);
}

/// What a process does that a call has started.
fn grow(generations: u32, port: u16) {
    if generations > 1 {
        start(generations - 1, port);
    }
    stay(port);
}

/// A converter, say, whose helper program has a helper of its own.
fn convert(port: u16) {
    start(2, port);
    stay(port);
}

/// The same, but it ends badly.
fn crash(port: u16) {
    convert(port);
    std::process::abort();
}

/// Leaves them behind, for later calls.
fn prepare(port: u16) {
    start(2, port);
}

/// A process that is there for as long as its connection is open.
struct Member {
    pid: u32,
    connection: BufReader<TcpStream>,
}

impl Member {
    fn has_ended_within(&mut self, limit: Duration) -> io::Result<bool> {
        self.connection.get_ref().set_read_timeout(Some(limit))?;
        match self.connection.read(&mut [0]) {
            Ok(count) => Ok(count == 0),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(true),
            // A wait that has a limit is not taken up again by itself.
            Err(error) if error.kind() == ErrorKind::Interrupted => self.has_ended_within(limit),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Waits until so many processes are there.
fn members(listener: &TcpListener, count: usize) -> io::Result<Vec<Member>> {
    let member = |_| {
        let (mut connection, mut line) = (BufReader::new(listener.accept()?.0), String::new());
        connection.read_line(&mut line)?;
        Ok(Member { pid: line.trim().parse().map_err(io::Error::other)?, connection })
    };
    (0..count).map(member).collect()
}

/// Waits until all have ended, and tells how many they were.
fn gone(members: Vec<Member>, why: &str) -> io::Result<()> {
    let count = members.len();
    for mut member in members {
        assert!(member.has_ended_within(Duration::from_secs(30))?, "process {} is still there", member.pid);
    }
    println!("{why}: {count} processes are gone");
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some((generations, port)) = std::env::var(TREE).ok().as_deref().and_then(|tree| tree.split_once(' ')) {
        grow(generations.parse()?, port.parse()?);
        return Ok(());
    }
    process_pool::init();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let executor = Executor::builder().max_workers(1).build()?;

    let call = executor.submit(convert, port)?;
    let tree = members(&listener, 3)?;
    assert!(call.kill());
    gone(tree, "a call that is killed")?;
    assert!(matches!(call.result(), Err(TaskError::Killed(_))));

    let limit = CallOptions::new().time_limit(Duration::from_secs(5));
    let call = executor.with(limit).submit(convert, port)?;
    let tree = members(&listener, 3)?;
    gone(tree, "a call whose time is up")?;
    assert!(matches!(call.result(), Err(TaskError::TimedOut(_))));

    let call = executor.submit(crash, port)?;
    let mut tree = members(&listener, 3)?;
    let worker = executor.worker_pids()[0];
    // Its connection is closed by this, so it goes on, to its end.
    tree.retain(|member| member.pid != worker);
    assert_eq!(tree.len(), 2);
    gone(tree, "a worker that crashes")?;
    assert!(matches!(call.result(), Err(TaskError::WorkerLost(_))));

    // What a call leaves behind is there for later ones.
    executor.submit(prepare, port)?.result()?;
    let mut tree = members(&listener, 2)?;
    assert_eq!(executor.submit(u64::count_ones, 7)?.result()?, 3);
    for member in &mut tree {
        assert!(!member.has_ended_within(Duration::from_millis(20))?, "a call's end is not its worker's");
    }
    drop(executor);
    gone(tree, "a pool that is dropped")?;
    Ok(())
}
