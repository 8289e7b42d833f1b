//! Calls that harm the process they run in.

#![expect(unsafe_code, reason = "harm takes calls that Rust has no safe wrapper for")]

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use process_pool::error::Exit;
use process_pool::{Executor, TaskError, TaskHandle};
use rustix::process::{Pid, Signal, kill_process};
use xtests::calls::{lost, pid};
use xtests::cases;
use xtests::gate::{Gate, wait_at};
use xtests::processes::{eventually, eventually_within, is_there, state};
use xtests::runner::{Case, Subject};

use crate::kit::{self, PATIENCE, PROMPTLY, call, panicked, settled};

pub(crate) const CASES: &[Case] = cases![
    what_a_task_prints_is_not_taken_for_a_frame,
    a_task_that_reads_standard_input_finds_its_end,
    a_task_may_close_the_standard_streams,
    a_task_that_closes_every_descriptor_is_lost_or_the_next_one_is,
    a_task_that_leaves_a_process_with_all_its_descriptors_is_lost_promptly,
    a_task_that_returns_in_two_processes_harms_nobody_for_long,
    a_thread_left_behind_that_aborts_costs_one_call,
    calls_behind_a_stopped_worker_move_on,
    a_huge_panic_message_arrives,
    a_panic_whose_payload_panics_when_dropped_fails_its_call,
    a_panic_whose_payload_panics_twice_when_dropped_fails_its_call,
    a_panic_that_bypasses_the_hook_fails_its_call,
    a_task_may_change_the_panic_hook,
    a_panic_hook_that_panics_costs_its_call,
    a_panic_at_the_end_of_a_thread_costs_its_call,
    a_panic_at_the_end_of_the_worker_costs_nothing,
    a_panic_in_the_exit_hook_is_written_down_and_costs_nothing,
    a_task_that_ends_its_process_is_lost_with_its_exit,
    a_task_that_overflows_its_stack_is_lost,
    a_task_that_accesses_no_memory_is_lost,
    a_task_that_exhausts_its_memory_is_lost,
    a_worker_that_does_not_end_is_ended,
    a_worker_that_ignores_the_request_to_end_is_killed,
    each_call_is_settled_once_while_workers_are_killed,
];

/// A signal, by process id.
fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process id");
    kill_process(pid, signal).expect("a worker that was not waited for");
}

/// Files in the place of the standard streams, which workers inherit; until dropped.
struct Redirected {
    out: (PathBuf, OwnedFd),
    err: (PathBuf, OwnedFd),
}

impl Redirected {
    fn to(folder: &Path) -> Self {
        let keep = |stream| rustix::io::fcntl_dupfd_cloexec(stream, 3).expect("another descriptor");
        let before = (keep(rustix::stdio::stdout()), keep(rustix::stdio::stderr()));
        let (out, err) = (folder.join("out"), folder.join("err"));
        let append = |path: &PathBuf| File::options().create(true).append(true).open(path).expect("a file");
        rustix::stdio::dup2_stdout(append(&out)).expect("redirected");
        rustix::stdio::dup2_stderr(append(&err)).expect("redirected");
        Self { out: (out, before.0), err: (err, before.1) }
    }
}

impl Drop for Redirected {
    fn drop(&mut self) {
        rustix::stdio::dup2_stdout(&self.out.1).expect("as it was");
        rustix::stdio::dup2_stderr(&self.err.1).expect("as it was");
        if std::thread::panicking() {
            println!("{}", fs::read_to_string(&self.err.0).unwrap_or_default());
        }
    }
}

fn what_a_task_prints_is_not_taken_for_a_frame(subject: &Subject) {
    fn prints(n: u64) -> u64 {
        println!("line {n}");
        eprintln!("error {n}");
        print!("no end of line {n}");
        let raw = b"raw\xff\0\x44\x01";
        // SAFETY: `raw` is readable and as long as is said.
        unsafe { libc::write(1, raw.as_ptr().cast(), raw.len()) };
        // SAFETY: as above.
        unsafe { libc::write(2, raw.as_ptr().cast(), raw.len()) };
        // SAFETY: the string ends with a zero byte.
        unsafe { libc::puts(c"from C".as_ptr()) };
        n
    }
    let redirected = Redirected::to(&subject.dir);
    // One worker: two that print in several writes would mix them.
    let pool = subject.pool(1);
    let calls: Vec<_> = (0..200).map(|n| pool.submit(prints, n).expect("taken")).collect();
    for (n, call) in calls.iter().enumerate() {
        assert_eq!(settled(call).expect("a result"), n as u64);
    }
    drop(pool);
    let read = |path: &PathBuf| fs::read(path).expect("read");
    let (out, err) = (read(&redirected.out.0), read(&redirected.err.0));
    drop(redirected);
    let has = |text: &[u8], part: &str| text.windows(part.len()).any(|window| window == part.as_bytes());
    for n in 0..200 {
        assert!(has(&out, &format!("line {n}\n")) && has(&out, &format!("no end of line {n}")), "{n}");
        assert!(has(&err, &format!("error {n}\n")), "{n}");
    }
    assert!(has(&out, "from C"), "what C keeps is written when the worker exits");
}

fn a_panic_in_the_exit_hook_is_written_down_and_costs_nothing(subject: &Subject) {
    /// Panics once more when it is dropped on the way out.
    struct Trap;
    impl Drop for Trap {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "the hook has it, and panics");
        }
    }
    let redirected = Redirected::to(&subject.dir);
    let builder = subject.builder().max_workers(2).max_tasks_per_child(3);
    let builder = builder.initializer(|()| Ok::<_, String>(Trap), ());
    let pool = builder.worker_exit(|_: Trap| panic!("closed in vain")).build().expect("a pool");
    for n in 0..10 {
        assert_eq!(call(&pool, |n: u64| n, n).expect("a result"), n);
    }
    assert!(pool.broken().is_none());
    drop(pool);
    let said = fs::read_to_string(&redirected.err.0).expect("read");
    drop(redirected);
    let lines: Vec<_> = said.lines().filter(|line| line.contains("closed in vain")).collect();
    assert!(lines.len() >= 4, "{said}");
    assert!(lines[0].contains("exit hook") && lines[0].contains("tasks.rs"), "{said}");
}

fn a_task_that_reads_standard_input_finds_its_end(subject: &Subject) {
    let reads = |()| {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text).map_err(|error| error.to_string())
    };
    let pool = subject.pool(1);
    for _ in 0..3 {
        assert_eq!(call(&pool, reads, ()).expect("a result"), Ok(String::new()));
    }
    kit::is_usable(&pool);
}

fn a_task_may_close_the_standard_streams(subject: &Subject) {
    let closes = |()| {
        for fd in 0..3 {
            // SAFETY: nothing in this process owns the standard streams, and `std` expects them to be closed.
            unsafe { libc::close(fd) };
        }
    };
    let prints = |n: u32| {
        print!("{n}");
        println!("{n}");
        eprintln!("{n}");
        n
    };
    let pool = subject.pool(1);
    let before = call(&pool, pid, ()).expect("a result");
    call(&pool, closes, ()).expect("a result");
    assert_eq!(call(&pool, prints, 7).expect("a result"), 7);
    // A file that takes a standard stream's number gets what is printed, and nothing else happens.
    let opens = |path: PathBuf| fs::write(path, "text").is_ok();
    assert!(call(&pool, opens, subject.dir.join("file")).expect("a result"));
    assert_eq!(fs::read(subject.dir.join("file")).expect("read"), b"text");
    kit::is_usable(&pool);
    assert_eq!(call(&pool, pid, ()).expect("a result"), before, "it is the same worker");
}

fn a_task_that_closes_every_descriptor_is_lost_or_the_next_one_is(subject: &Subject) {
    fn closes((): ()) {
        // Not `close_range`, which musl lacks; nobody here has more open.
        for fd in 3..1024 {
            // SAFETY: what breaks by it in this process is what the case is about.
            unsafe { libc::close(fd) };
        }
    }
    let pool = subject.pool(1);
    for _ in 0..10 {
        let start = Instant::now();
        let first = call(&pool, closes, ());
        let second = call(&pool, |n: u8| n, 1);
        // Memory is shared without any; that the bells are gone may be noticed a call later.
        let needs_descriptors = subject.transport() != "shm";
        assert!(first.is_err() || second.is_err() || !needs_descriptors, "{first:?} {second:?}");
        for result in [first, second.map(drop)] {
            assert!(matches!(result, Ok(()) | Err(TaskError::WorkerLost(_))), "{result:?}");
        }
        kit::is_usable(&pool);
        assert!(start.elapsed() < PROMPTLY, "{:?}", start.elapsed());
    }
}

/// Forks, and has the child wait with everything open that the worker has; the file tells who that is.
fn leaves_an_heir((path, code): (PathBuf, Option<i32>)) {
    // SAFETY: the child calls nothing but what is safe to call in a signal handler.
    let heir = unsafe { libc::fork() };
    if heir == 0 {
        // SAFETY: takes no memory.
        unsafe { libc::alarm(30) };
        loop {
            // SAFETY: takes no memory. The alarm ends the process, if nobody does before.
            unsafe { libc::pause() };
        }
    }
    fs::write(path, heir.to_string()).expect("written");
    match code {
        Some(code) => std::process::exit(code),
        None => std::process::abort(),
    }
}

fn a_task_that_leaves_a_process_with_all_its_descriptors_is_lost_promptly(subject: &Subject) {
    let pool = subject.pool(1);
    kit::is_usable(&pool);
    let (first, second) = (subject.dir.join("first"), subject.dir.join("second"));
    let start = Instant::now();
    assert_eq!(lost(call(&pool, leaves_an_heir, (first.clone(), Some(0)))).exit, Exit::Code(0));
    assert_eq!(lost(call(&pool, leaves_an_heir, (second.clone(), None))).exit, Exit::Signal(6));
    kit::is_usable(&pool);
    drop(pool);
    assert!(start.elapsed() < PROMPTLY, "the heirs are waited for: {:?}", start.elapsed());
    for heir in [first, second] {
        let heir = fs::read_to_string(heir).expect("read").parse().expect("a number");
        eventually("the heir has ended with its worker", || !is_there(heir));
    }
}

fn a_task_that_returns_in_two_processes_harms_nobody_for_long(subject: &Subject) {
    let forks = |()| {
        // SAFETY: the child goes on in the worker's loop, which a program should not do; here it may do what
        // it likes.
        unsafe { libc::fork() };
    };
    let pool = subject.builder().max_workers(1).stop_grace(Duration::from_millis(500)).build().expect("a pool");
    call(&pool, forks, ()).expect("a result");
    let start = Instant::now();
    for n in 0..100 {
        match call(&pool, |n: u32| n, n) {
            Ok(answer) => assert_eq!(answer, n),
            Err(TaskError::WorkerLost(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    drop(pool);
    assert!(start.elapsed() < PROMPTLY, "{:?}", start.elapsed());
}

fn a_thread_left_behind_that_aborts_costs_one_call(subject: &Subject) {
    let leaves = |port: u16| {
        std::thread::spawn(move || {
            wait_at(port);
            std::process::abort();
        });
    };
    let pool = subject.pool(1);
    let (abort, innocent) = (Gate::new(), Gate::new());
    call(&pool, leaves, abort.port()).expect("the task itself returns");
    let aborting = abort.arrival();
    let call = pool.submit(wait_at, innocent.port()).expect("taken");
    let waiting = innocent.arrival();
    assert_eq!(waiting.pid, aborting.pid);
    aborting.pass();
    let lost = lost(settled(&call));
    assert_eq!((lost.exit, lost.pid), (Exit::Signal(6), Some(waiting.pid)));
    assert!(lost.task.contains("wait_at"), "the call that ran is named: {}", lost.task);
    kit::is_usable(&pool);
}

fn calls_behind_a_stopped_worker_move_on(subject: &Subject) {
    let pool = subject.pool(2);
    let gate = Gate::new();
    let first: Vec<_> = (0..2).map(|_| pool.submit(wait_at, gate.port()).expect("taken")).collect();
    let mut visitors = gate.arrivals(2);
    let stopped = visitors.pop().expect("the second");
    let (stopped_pid, other_pid) = (stopped.pid, visitors[0].pid);
    signal(stopped_pid, Signal::STOP);
    eventually_within(PATIENCE, "the worker is stopped", || state(stopped_pid) == Some('T'));
    // Some of these are sent to the one that is stopped.
    let behind: Vec<_> = (0..50).map(|_| pool.submit(pid, ()).expect("taken")).collect();
    drop(visitors);
    for call in &behind {
        assert_eq!(settled(call).expect("a result"), other_pid);
    }
    // What it has started waits for it, and is not lost.
    stopped.pass();
    assert_eq!(first.iter().filter(|call| call.done()).count(), 1);
    signal(stopped_pid, Signal::CONT);
    first.iter().for_each(|call| settled(call).expect("a result"));
    kit::is_usable(&pool);
}

fn a_huge_panic_message_arrives(subject: &Subject) {
    fn panics(length: usize) {
        panic!("{}", "x".repeat(length));
    }
    let pool = subject.pool(1);
    for length in [0, 1, 70_000, 10_000_000] {
        assert_eq!(panicked(call(&pool, panics, length)).message.len(), length);
    }
    kit::is_usable(&pool);
}

/// Panics when it is dropped, so many times over.
struct Bomb(u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 > 0 {
            panic::panic_any(Bomb(self.0 - 1));
        }
    }
}

fn throws_a_bomb(depth: u32) {
    panic::panic_any(Bomb(depth));
}

#[track_caller]
fn survives_a_bomb(subject: &Subject, depth: u32) {
    let pool = subject.pool(1);
    let before = call(&pool, pid, ()).expect("a result");
    let panic = panicked(call(&pool, throws_a_bomb, depth));
    assert!(panic.message.contains("not text"), "{panic}");
    assert!(panic.location.is_some_and(|place| place.contains("tasks.rs:")));
    assert_eq!(call(&pool, pid, ()).expect("a result"), before, "it is the same worker");
}

fn a_panic_whose_payload_panics_when_dropped_fails_its_call(subject: &Subject) {
    survives_a_bomb(subject, 1);
}

fn a_panic_whose_payload_panics_twice_when_dropped_fails_its_call(subject: &Subject) {
    survives_a_bomb(subject, 2);
    survives_a_bomb(subject, 10);
}

fn a_panic_that_bypasses_the_hook_fails_its_call(subject: &Subject) {
    fn resumes(text: String) {
        panic::resume_unwind(Box::new(text));
    }
    let pool = subject.pool(1);
    let panic = panicked(call(&pool, resumes, "straight".to_owned()));
    assert_eq!((panic.message.as_str(), panic.location), ("straight", None));
    kit::is_usable(&pool);
}

fn panics_plainly((): ()) {
    panic!("plainly");
}

fn a_task_may_change_the_panic_hook(subject: &Subject) {
    let pool = subject.pool(1);
    call(&pool, |()| panic::set_hook(Box::new(|_| {})), ()).expect("a result");
    assert_eq!(panicked(call(&pool, panics_plainly, ())).message, "plainly");
    call(&pool, |()| drop(panic::take_hook()), ()).expect("a result");
    assert_eq!(panicked(call(&pool, panics_plainly, ())).message, "plainly");
    kit::is_usable(&pool);
}

fn a_panic_hook_that_panics_costs_its_call(subject: &Subject) {
    let sets = |()| panic::set_hook(Box::new(|_| panic!("in the hook")));
    let pool = subject.pool(1);
    call(&pool, sets, ()).expect("a result");
    assert_eq!(lost(call(&pool, panics_plainly, ())).exit, Exit::Signal(6));
    assert_eq!(panicked(call(&pool, panics_plainly, ())).message, "plainly");
}

/// Panics when its thread ends.
struct Late;

impl Drop for Late {
    fn drop(&mut self) {
        panic!("at the end of its thread");
    }
}

thread_local!(static LATE: Late = const { Late });

fn a_panic_at_the_end_of_a_thread_costs_its_call(subject: &Subject) {
    let pool = subject.pool(1);
    let starts = |()| drop(std::thread::spawn(|| LATE.with(|_| {})).join());
    assert_eq!(lost(call(&pool, starts, ())).exit, Exit::Signal(6));
    kit::is_usable(&pool);
}

fn a_panic_at_the_end_of_the_worker_costs_nothing(subject: &Subject) {
    let pool = subject.builder().max_workers(1).max_tasks_per_child(2).build().expect("a pool");
    for n in 0..10 {
        let touches = |n: u32| LATE.with(|_| n);
        assert_eq!(call(&pool, touches, n).expect("a result"), n);
    }
    kit::is_usable(&pool);
}

fn a_task_that_ends_its_process_is_lost_with_its_exit(subject: &Subject) {
    fn exits(code: i32) {
        std::process::exit(code);
    }
    fn aborts((): ()) {
        std::process::abort();
    }
    fn signals(number: i32) {
        // SAFETY: takes no memory.
        unsafe { libc::raise(number) };
    }
    let pool = subject.pool(1);
    for code in [0, 1, 255] {
        let lost = lost(call(&pool, exits, code));
        assert_eq!((lost.exit, lost.why), (Exit::Code(code), None));
    }
    assert_eq!(lost(call(&pool, aborts, ())).exit, Exit::Signal(6));
    for number in [libc::SIGKILL, libc::SIGTERM, libc::SIGUSR1, libc::SIGXCPU] {
        assert_eq!(lost(call(&pool, signals, number)).exit, Exit::Signal(number));
    }
    kit::is_usable(&pool);
}

fn a_task_that_overflows_its_stack_is_lost(subject: &Subject) {
    fn deep(n: u64) -> u64 {
        let room = std::hint::black_box([n; 512]);
        if n == u64::MAX { 0 } else { deep(n + 1) + room[(n % 512) as usize] }
    }
    let pool = subject.pool(1);
    assert!(matches!(lost(call(&pool, deep, 0)).exit, Exit::Signal(6 | 11)));
    kit::is_usable(&pool);
}

fn a_task_that_accesses_no_memory_is_lost(subject: &Subject) {
    fn writes(address: usize) {
        let place = std::ptr::without_provenance_mut::<u8>(address);
        // SAFETY: none; it must not work, and the kernel sees to that.
        unsafe { place.write_volatile(1) };
    }
    let pool = subject.pool(1);
    assert_eq!(lost(call(&pool, writes, 8)).exit, Exit::Signal(11));
    // Debug builds abort at a null pointer before the kernel sees it.
    assert!(matches!(lost(call(&pool, writes, 0)).exit, Exit::Signal(6 | 11)));
    kit::is_usable(&pool);
}

fn a_task_that_exhausts_its_memory_is_lost(subject: &Subject) {
    fn allocates((): ()) -> usize {
        let limit = rustix::process::Rlimit { current: Some(1 << 30), maximum: Some(1 << 30) };
        rustix::process::setrlimit(rustix::process::Resource::As, limit).expect("set");
        let blob: Vec<u8> = std::hint::black_box(vec![1; 2 << 30]);
        blob.len()
    }
    let pool = subject.pool(1);
    assert_eq!(lost(call(&pool, allocates, ())).exit, Exit::Signal(6));
    kit::is_usable(&pool);
}

fn a_worker_that_does_not_end_is_ended(subject: &Subject) {
    extern "C" fn forever() {
        loop {
            std::thread::park();
        }
    }
    let registers = |()| {
        // SAFETY: `forever` is a function of the right type and never unwinds.
        unsafe { libc::atexit(forever) }
    };
    let pool = subject.builder().max_workers(1).stop_grace(Duration::from_millis(200)).build().expect("a pool");
    assert_eq!(call(&pool, registers, ()).expect("a result"), 0);
    let start = Instant::now();
    drop(pool);
    assert!(start.elapsed() < PROMPTLY, "{:?}", start.elapsed());
}

fn a_worker_that_ignores_the_request_to_end_is_killed(subject: &Subject) {
    fn ignores(port: u16) {
        // SAFETY: no handler is installed.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        wait_at(port);
    }
    let pool = subject.builder().max_workers(1).stop_grace(Duration::from_millis(200)).build().expect("a pool");
    let gate = Gate::new();
    let call = pool.submit(ignores, gate.port()).expect("taken");
    let _visitor = gate.arrival();
    let start = Instant::now();
    pool.terminate_workers();
    assert_eq!(lost(settled(&call)).exit, Exit::Signal(9));
    drop(pool);
    assert!(start.elapsed() < PROMPTLY, "{:?}", start.elapsed());
}

const CALLS: u64 = 5_000;
const KILLS: usize = 200;

/// Counts its run in the byte of the file that is its own, then answers.
fn marks((path, n): (PathBuf, u64)) -> u64 {
    let file = File::options().append(true).open(path).expect("the file");
    // One write to the end of the file: whole, whoever else writes.
    (&file).write_all(&n.to_le_bytes()).expect("written");
    n
}

fn each_call_is_settled_once_while_workers_are_killed(subject: &Subject) {
    let path = subject.dir.join("runs");
    File::create(&path).expect("a file");
    let limit = process_pool::RestartLimit { failures: 1000, backoff_max: Duration::ZERO, ..Default::default() };
    let pool = Arc::new(subject.builder().max_workers(3).restart_limit(limit).build().expect("a pool"));
    let done = AtomicBool::new(false);
    let (kills, results) = std::thread::scope(|scope| {
        let killer = scope.spawn(|| kill_again_and_again(&pool, &done));
        let (tell, told) = std::sync::mpsc::channel();
        let mut calls: Vec<TaskHandle<u64>> = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        // As many calls as it takes for so many workers to die among them.
        while calls.len() < CALLS as usize || (!killer.is_finished() && Instant::now() < deadline) {
            for n in calls.len() as u64..calls.len() as u64 + CALLS / 10 {
                let call = pool.submit(marks, (path.clone(), n)).expect("taken");
                let tell = tell.clone();
                call.add_done_callback(move |_| tell.send(n).expect("the case waits"));
                calls.push(call);
            }
            calls.iter().for_each(|call| assert!(call.wait_timeout(PATIENCE)));
        }
        done.store(true, Ordering::Release);
        let kills = killer.join().expect("it does not panic");
        let results: Vec<_> = calls.iter().map(settled).collect();
        let mut settlings = vec![0_u32; calls.len()];
        for _ in 0..calls.len() {
            settlings[told.recv_timeout(PATIENCE).expect("each is settled") as usize] += 1;
        }
        assert!(settlings.iter().all(|count| *count == 1), "each is settled once");
        (kills, results)
    });
    let mut runs = vec![0_u32; results.len()];
    for n in fs::read(&path).expect("read").chunks_exact(8) {
        runs[u64::from_le_bytes(n.try_into().expect("eight bytes")) as usize] += 1;
    }
    let mut losses = 0;
    for (n, (result, runs)) in results.iter().zip(runs).enumerate() {
        match result {
            Ok(answer) => assert_eq!((*answer, runs), (n as u64, 1), "a result means one run"),
            Err(TaskError::WorkerLost(_)) => losses += 1,
            Err(error) => panic!("{n}: {error}"),
        }
        assert!(runs <= 1, "call {n} ran {runs} times");
    }
    println!("{} calls, {kills} kills, {losses} losses", results.len());
    assert!(losses <= kills, "a death costs one call at most: {losses} for {kills}");
    assert!(kills >= KILLS, "only {kills}");
    kit::is_usable(&pool);
}

/// Kills workers, and returns how many, until they are enough or nobody needs it any longer.
fn kill_again_and_again(pool: &Executor, done: &AtomicBool) -> usize {
    let mut killed = HashSet::new();
    while killed.len() < KILLS && !done.load(Ordering::Acquire) {
        for number in pool.worker_pids() {
            let Some(pid) = Pid::from_raw(number.cast_signed()) else { continue };
            // It may have ended meanwhile; that its number is nobody else's so soon is due to the kernel's
            // habit of counting up.
            if kill_process(pid, Signal::KILL).is_ok() {
                killed.insert(number);
            }
            let pause = Instant::now() + Duration::from_millis(2);
            while Instant::now() < pause {
                std::thread::yield_now();
            }
        }
    }
    killed.len()
}
