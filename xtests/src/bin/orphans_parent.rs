//! A parent with a pool, which it brings into the state that its first argument names; then it tells its workers'
//! process ids, and ends as its second argument says.

#[cfg(unix)]
use std::os::unix::process::CommandExt;
#[cfg(unix)]
use std::process::Command;
use std::time::Duration;

use process_pool::{Builder, Bytes, Executor, TaskHandle};
use xtests::gate::{Gate, wait_at};
#[cfg(target_os = "linux")]
use xtests::{gate::wait_at_with, processes::eventually};

/// In the environment, of workers too: the name of the context.
const CONTEXT: &str = "ORPHANS_CONTEXT";

/// In the environment of a worker: the port of a gate where it waits before it becomes one.
const WAIT: &str = "ORPHANS_WAIT";

const WORKERS: usize = 2;

type Call = TaskHandle<Bytes>;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let (true, Some(port)) = (args.is_empty(), std::env::var(WAIT).ok().and_then(|port| port.parse().ok())) {
        wait_at(port);
    }
    process_pool::init();
    let (state, end) = (args[0].as_str(), args[1].as_str());
    let gate = Gate::new();
    let mut builder = builder().start_deadline(Duration::from_secs(60));
    if state == "starting" {
        builder = builder.initializer(blocks, gate.port());
    }
    let pool = builder.build().expect("a pool");
    let (calls, mut pids) = bring(&pool, &gate, state);
    #[cfg(unix)]
    if end == "leaves an heir" {
        heir();
    }
    pids.extend(pool.worker_pids());
    println!("{}", pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "));
    finish(pool, calls, end);
}

fn builder() -> Builder {
    let context = std::env::var(CONTEXT).expect("the case says");
    Executor::builder().max_workers(WORKERS).context(xtests::context::named(&context))
}

/// Makes calls, and returns when the workers are at what they are to be found at; and who else there is.
fn bring(pool: &Executor, gate: &Gate, state: &str) -> (Vec<Call>, Vec<u32>) {
    let call = || {
        let port = gate.port();
        let call = match state {
            "idle" | "stopped" | "starting" | "unborn" => pool.submit(passes, port),
            "busy" => pool.submit(spins, port),
            #[cfg(target_os = "linux")]
            "untied" => pool.submit(unties, port),
            "deaf" => pool.submit(hears_nothing, port),
            "blocked" => pool.submit(reads, port),
            "sending" => pool.submit(takes, (port, Bytes::from(vec![7; LARGE]))),
            "receiving" => pool.submit(gives, port),
            "nested" => pool.submit(has_a_pool, port),
            #[cfg(target_os = "linux")]
            "trees" => pool.submit(grows, port),
            state => panic!("not a state: {state:?}"),
        };
        call.expect("taken")
    };
    let mut calls: Vec<Call> = (0..WORKERS).map(|_| call()).collect();
    if state == "unborn" {
        // The gate at which they wait is the case's own.
        return (calls, Vec::new());
    }
    let visitors = gate.arrivals(if state == "nested" { WORKERS * WORKERS } else { WORKERS });
    let mut pids: Vec<_> = visitors.iter().map(|visitor| visitor.pid).collect();
    if state == "trees" {
        pids.extend(visitors.iter().flat_map(|visitor| [visitor.word as u32, (visitor.word >> 32) as u32]));
    }
    if state == "sending" || state == "receiving" {
        // More than is done by the time of the end.
        calls.extend((0..16).map(|_| call()));
    }
    drop(visitors);
    match state {
        "idle" => calls.iter().for_each(TaskHandle::wait),
        "stopped" => {
            calls.iter().for_each(TaskHandle::wait);
            #[cfg(unix)]
            pool.worker_pids().into_iter().for_each(stop);
        }
        // The next two have come, so that those before them are on their way back, or in.
        "sending" | "receiving" => drop(gate.arrivals(WORKERS)),
        _ => {}
    }
    (calls, pids)
}

fn finish(pool: Executor, calls: Vec<Call>, end: &str) {
    match end {
        "waits" | "leaves an heir" => loop {
            std::thread::park();
        },
        "panics" => panic!("with a pool"),
        "exits" => std::process::exit(5),
        "aborts" => std::process::abort(),
        "leaks" => std::mem::forget((pool, calls)),
        "drops" => drop(pool),
        #[cfg(unix)]
        "becomes another" => panic!("{}", Command::new("sleep").arg("2").exec()),
        end => panic!("not an end: {end:?}"),
    }
}

const LARGE: usize = 64 << 20;

fn blocks(port: u16) {
    wait_at(port);
    loop {
        std::thread::park();
    }
}

fn passes(port: u16) -> Bytes {
    wait_at(port);
    Bytes::default()
}

fn spins(port: u16) -> Bytes {
    wait_at(port);
    loop {
        std::hint::spin_loop();
    }
}

/// As a worker does that changes its user, say.
#[cfg(target_os = "linux")]
fn unties(port: u16) -> Bytes {
    rustix::process::set_parent_process_death_signal(None).expect("always possible");
    spins(port)
}

fn hears_nothing(port: u16) -> Bytes {
    #[cfg(unix)]
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGPIPE] {
        ignore(signal);
    }
    spins(port)
}

fn reads(port: u16) -> Bytes {
    let (mut reader, _writer) = std::io::pipe().expect("a pipe");
    wait_at(port);
    std::io::Read::read(&mut reader, &mut [0]).expect("nobody writes, so it never returns");
    Bytes::default()
}

fn takes((port, _): (u16, Bytes)) -> Bytes {
    wait_at(port);
    Bytes::default()
}

fn gives(port: u16) -> Bytes {
    wait_at(port);
    Bytes::from(vec![7; LARGE])
}

/// Starts a process, and a daemon, which is in a session of its own and nobody's child; tells the case of both.
#[cfg(target_os = "linux")]
fn grows(port: u16) -> Bytes {
    let child = Command::new("sleep").arg("60").spawn().expect("it starts").id();
    let daemon =
        Command::new("sh").args(["-c", "setsid sleep 60 >/dev/null 2>&1 & echo $!"]).output().expect("runs");
    let daemon = String::from_utf8(daemon.stdout).expect("text").trim().parse().expect("a number");
    // A moment before, it is a copy of the shell still.
    eventually("it has a session of its own", || xtests::processes::leads_a_session(daemon));
    wait_at_with((port, u64::from(child) | u64::from(daemon) << 32));
    spins(port)
}

fn has_a_pool(port: u16) -> Bytes {
    let pool = builder().build().expect("a pool");
    let calls = [(); WORKERS].map(|()| pool.submit(spins, port).expect("taken"));
    calls.iter().for_each(TaskHandle::wait);
    Bytes::default()
}

#[cfg(unix)]
fn stop(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("it is there");
}

#[cfg(unix)]
fn ignore(signal: i32) {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// A process that has every descriptor that this one has, for a second.
#[cfg(unix)]
fn heir() {
    // SAFETY: the child calls nothing but what is safe to call in a signal handler.
    if unsafe { libc::fork() } == 0 {
        // SAFETY: takes no memory.
        unsafe { libc::alarm(1) };
        loop {
            // SAFETY: takes no memory. The alarm ends the process.
            unsafe { libc::pause() };
        }
    }
}
