//! Cases about the server: its death, its shortages, its cost, and other servers beside it.

use std::error::Error;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use pool_core::error::Exit;
use pool_core::spawner::{Signal, SpawnError, Spawner};
use pool_spawn_exec::Exec;
use pool_spawn_fork::{Fork, ForkServer, TooManyThreads};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, kill_process, prlimit};

use crate::harness::{Case, Method, Named, read_all, read_some, start, start_up, start_with_pipe};
use crate::jobs;
use crate::linux::{children, descriptors, is_asleep, parent_of, settles, stop, threads};

pub(crate) fn all() -> Vec<Named> {
    vec![
        ("a_servers_death_is_its_workers", a_servers_death_is_its_workers),
        ("a_stopped_servers_workers_can_be_killed", a_stopped_servers_workers_can_be_killed),
        ("no_process_left_is_a_shortage_and_passes", no_process_left_is_a_shortage_and_passes),
        ("a_server_short_of_descriptors_recovers", a_server_short_of_descriptors_recovers),
        ("starting_takes_no_time", starting_takes_no_time),
    ]
}

/// For one start method.
pub(crate) fn special() -> Vec<Case> {
    let case = |name: &str, method, run: fn(Method)| (name.to_owned(), method, run);
    vec![
        case("forkserver with threads", Method::ForkServer, |_| a_server_with_threads_is_refused()),
        case("forkserver of a large parent", Method::ForkServer, |_| a_large_parent_starts_workers_as_fast()),
        case(KEPT, Method::ForkServer, |_| what_the_program_started_before_is_no_stray()),
        case("forkserver clones share it", Method::ForkServer, |_| clones_share_a_server()),
        case("fork with threads", Method::Fork, |_| a_program_with_threads_is_not_forked()),
        case("fork beside others", Method::Fork, |_| a_copy_has_the_programs_descriptors_and_not_the_pools()),
        case("fork of a copy", Method::Fork, |_| a_copied_value_is_of_no_use()),
    ]
}

fn pid_of(worker: &crate::harness::Started) -> i32 {
    worker.worker.pid().expect("a pid") as i32
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).expect("a pid"), rustix::process::Signal::KILL).expect("killed");
}

/// What is said of a dead one.
fn epitaph(method: Method) -> &'static str {
    match method {
        Method::ForkServer => "the fork server died",
        Method::Fork => "the fork keeper died",
    }
}

fn a_servers_death_is_its_workers(method: Method) {
    let at_first = descriptors();
    let spawner = method.spawner();
    for round in 0..3 {
        let mut workers = ["idle", "busy", "idle"].map(|job| start_up(&*spawner, job));
        stop(pid_of(&workers[2].0));
        let server = parent_of(pid_of(&workers[0].0));
        assert_eq!(parent_of(server), std::process::id() as i32);
        let begin = Instant::now();
        kill(server);
        for (started, reader) in &mut workers {
            assert_eq!(started.report().exit, Exit::Unknown(epitaph(method).to_owned()));
            // It has ended: nobody holds its end of the pipe.
            assert_eq!(rustix::io::ioctl_fionread(&*reader).expect("asked"), 0);
            let mut byte = [0];
            assert_eq!(std::io::Read::read(reader, &mut byte).expect("read"), 0);
            started.worker.signal(Signal::Kill).expect("nobody to hit");
        }
        println!("all told after {:?}", begin.elapsed());
        assert!(begin.elapsed() < Duration::from_millis(900));
        match (method, start(&*spawner, "return", &[round], vec![])) {
            (Method::ForkServer, next) => {
                assert_eq!(next.expect("a new server").report().exit, Exit::Code(i32::from(round)));
            }
            (Method::Fork, next) => {
                let error = next.map(drop).expect_err("no new keeper");
                assert!(!error.is_transient() && error.to_string().contains("the fork keeper died"), "{error}");
                break;
            }
        }
    }
    drop(spawner);
    settles(|| threads() == 1 && children().is_empty() && descriptors() == at_first);
}

fn a_stopped_servers_workers_can_be_killed(method: Method) {
    let spawner = method.spawner();
    let (started, reader) = start_up(&*spawner, "busy");
    let server = parent_of(pid_of(&started));
    stop(server);
    started.worker.signal(Signal::Kill).expect("sent");
    assert_eq!(read_all(reader), "");
    kill_process(Pid::from_raw(server).expect("a pid"), rustix::process::Signal::CONT).expect("continued");
    assert_eq!(started.report().exit, Exit::Signal(9));
}

/// Another user's limits, so that it counts: root has none. The children of this case are that user's only ones.
fn no_process_left_is_a_shortage_and_passes(method: Method) {
    const NOBODY: u32 = 61_001;
    if rustix::process::getuid().is_root() {
        let gid = rustix::process::Gid::from_raw(NOBODY);
        rustix::thread::set_thread_res_gid(gid, gid, gid).expect("set");
        let uid = rustix::process::Uid::from_raw(NOBODY + u32::from(method == Method::Fork));
        rustix::thread::set_thread_res_uid(uid, uid, uid).expect("set");
    }
    let spawner = method.spawner();
    let (first, _reader) = start_up(&*spawner, "idle");
    let server = Pid::from_raw(parent_of(pid_of(&first))).expect("a pid");
    let none = Rlimit { current: Some(0), maximum: getrlimit(Resource::Nproc).maximum };
    let old = prlimit(Some(server), Resource::Nproc, none).expect("set");
    let before = descriptors();
    for _ in 0..3 {
        let refused = start(&*spawner, "return", &[1], vec![]).map(drop).expect_err("no process left");
        assert!(matches!(refused, SpawnError::Resources { .. }), "{refused:?}");
        assert_eq!(descriptors(), before);
    }
    prlimit(Some(server), Resource::Nproc, old).expect("set");
    assert_eq!(start(&*spawner, "return", &[1], vec![]).expect("started").report().exit, Exit::Code(1));
}

fn a_server_short_of_descriptors_recovers(method: Method) {
    let spawner = method.spawner();
    let (first, _reader) = start_up(&*spawner, "idle");
    let server = parent_of(pid_of(&first));
    // It has let go of what it needed for the first.
    settles(|| is_asleep(server));
    let is_free = |number: &u64| !fs::exists(format!("/proc/{server}/fd/{number}")).expect("asked");
    let lowest = (0..).find(is_free).expect("some number");
    let maximum = getrlimit(Resource::Nofile).maximum;
    let (mut refused, mut worked) = (0, 0);
    for spare in 0..6 {
        let tight = Rlimit { current: Some(lowest + spare), maximum };
        prlimit(Some(Pid::from_raw(server).expect("a pid")), Resource::Nofile, tight).expect("set");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        match start(&*spawner, "idle", b"", vec![writer.into()]) {
            Err(SpawnError::Resources { .. }) => refused += 1,
            Err(error) => panic!("{spare} to spare: {error:?}"),
            Ok(started) => {
                let mut reader = reader;
                assert_eq!(read_some(&mut reader, 2), "up");
                // Without a descriptor of the process the server passes the signal on.
                started.worker.signal(Signal::Terminate).expect("sent");
                assert_eq!(started.report().exit, Exit::Signal(15));
                worked += 1;
            }
        }
    }
    println!("refused {refused}, worked {worked}");
    assert!(refused >= 2 && worked >= 2);
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The time that `spawn` takes, and that until the worker has written to its handle.
fn times(spawner: &dyn Spawner) -> (Duration, Duration) {
    let one = |_| {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let begin = Instant::now();
        let started = start(spawner, "number the handles", b"", vec![writer.into()]).expect("started");
        let spawned = begin.elapsed();
        assert_eq!(read_some(&mut reader, 1), "0");
        let up = begin.elapsed();
        started.report();
        (spawned, up)
    };
    let (spawned, up) = (0..200).map(one).unzip();
    (median(spawned), median(up))
}

fn starting_takes_no_time(method: Method) {
    let spawner = method.spawner();
    start(&*spawner, "return", &[0], vec![]).expect("started").report();
    let (spawned, up) = times(&*spawner);
    pool_core::WorkerMain::new().run();
    let (exec_spawned, exec_up) = times(&Exec::new());
    println!("{}: spawn {spawned:?}, up {up:?}; exec: spawn {exec_spawned:?}, up {exec_up:?}", method.name());
    assert!(spawned < Duration::from_millis(5), "{spawned:?}");
}

fn a_large_parent_starts_workers_as_fast() {
    let spawner = Method::ForkServer.spawner();
    start(&*spawner, "return", &[0], vec![]).expect("started").report();
    let (small, _) = times(&*spawner);
    // To copy the page tables of this much takes 100 ms.
    let memory = vec![1u8; 1 << 30];
    let (large, _) = times(&*spawner);
    // A server that starts now, too.
    let (late, _) = times(&*Method::ForkServer.spawner());
    println!("{small:?}; beside {} MiB: {large:?}, {late:?}", memory.len() >> 20);
    assert!(large.max(late) < small * 2 + Duration::from_millis(2), "{small:?} {large:?} {late:?}");
}

fn a_server_with_threads_is_refused() {
    let spawner = Method::ForkServer.spawner();
    for _ in 0..2 {
        let error = start(&*spawner, "return", &[0], vec![]).map(drop).expect_err("refused");
        let text = error.to_string();
        assert!(text.contains("the fork server died: this process has 3 threads"), "{text}");
        assert!(!error.is_transient());
    }
    drop(spawner);
    settles(|| threads() == 1 && children().is_empty());
}

/// The case in which a server starts something before `init()`.
pub(crate) const KEPT: &str = "forkserver of a program that has children";

fn what_the_program_started_before_is_no_stray() {
    let spawner = Method::ForkServer.spawner();
    let (first, _reader) = start_up(&*spawner, "idle");
    let server = parent_of(pid_of(&first));
    let children_of = |pid: i32| {
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it is there");
        list.split_whitespace().map(|pid| pid.parse().expect("a number")).collect::<Vec<i32>>()
    };
    let of_the_server = || children_of(server);
    let is_sleep = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
    // One that it started itself, and one that this has started.
    let of_the_program: Vec<_> = of_the_server().into_iter().filter(|pid| *pid != pid_of(&first)).collect();
    assert_eq!(of_the_program.len(), 1);
    for _ in 0..3 {
        start(&*spawner, "return", &[0], vec![]).expect("started").report();
    }
    assert!(of_the_server().contains(&of_the_program[0]));
    settles(|| children_of(of_the_program[0]).iter().any(is_sleep));
    let left = children_of(of_the_program[0]).into_iter().find(is_sleep).expect("it is there");
    kill(of_the_program[0]);
    settles(|| xtests::processes::parent_of(left.cast_unsigned()) != Some(of_the_program[0].cast_unsigned()));
    // What it leaves is not taken for a worker's.
    for _ in 0..3 {
        start(&*spawner, "return", &[0], vec![]).expect("started").report();
    }
    let ended = || xtests::processes::state(left.cast_unsigned()).is_none_or(|state| state == 'Z');
    assert!(!ended());
    // It goes with the server, in whose group it is.
    drop((first, spawner));
    kill(server);
    settles(ended);
}

fn clones_share_a_server() {
    Method::ForkServer.spawner();
    let one = ForkServer::new();
    let two = one.clone();
    let server = |spawner: &ForkServer| {
        let (started, _reader) = start_up(spawner, "idle");
        let server = parent_of(pid_of(&started));
        started.worker.signal(Signal::Kill).expect("sent");
        started.report();
        server
    };
    let (first, second, other) = (server(&one), server(&two), server(&ForkServer::new()));
    assert_eq!(first, second);
    assert_ne!(first, other);
    drop(one);
    assert_eq!(server(&two), first, "the last ends it, not the first");
    drop(two);
    settles(|| threads() == 1 && children().is_empty());
}

fn a_program_with_threads_is_not_forked() {
    let at_first = descriptors();
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || held.recv());
    let fork = Fork::new();
    let refused = fork.prepare_with(jobs::work).expect_err("two threads");
    let cause = refused.source().and_then(Error::source).or(refused.source());
    let cause = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>()).and_then(std::io::Error::get_ref);
    let count = cause.and_then(|cause| cause.downcast_ref::<TooManyThreads>()).map(|error| error.count);
    assert_eq!(count, Some(2), "{refused:?}");
    assert!(refused.to_string().contains("2 threads"), "{refused}");
    // SAFETY: the other thread does nothing but wait.
    let unchecked = unsafe { Fork::new_unchecked() };
    unchecked.prepare_with(jobs::work).expect("not checked");
    assert_eq!(start(&unchecked, "return", &[9], vec![]).expect("started").report().exit, Exit::Code(9));
    drop(unchecked);
    drop(hold);
    thread.join().expect("joined").expect_err("nothing sent");
    settles(|| threads() == 1 && children().is_empty() && descriptors() == at_first);
    // Nothing stands in the way any more.
    fork.prepare_with(jobs::work).expect("one thread");
    assert_eq!(start(&fork, "return", &[8], vec![]).expect("started").report().exit, Exit::Code(8));
}

fn a_copy_has_the_programs_descriptors_and_not_the_pools() {
    let path = std::env::temp_dir().join(format!("pool-spawn-fork-own-{}", std::process::id()));
    let own = File::options().create_new(true).append(true).open(&path).expect("created");
    // Another pool's, with a worker whose lifeline is here.
    let other = Method::ForkServer.spawner();
    let (theirs, _reader) = start_up(&*other, "idle");
    let exec = Exec::new();
    let (also_theirs, _other_reader) = start_up(&exec, "idle");
    // SAFETY: the other threads wait for their workers and hold nothing.
    let fork = unsafe { Fork::new_unchecked() };
    fork.prepare_with(jobs::work).expect("not checked");
    let (started, reader) = start_with_pipe(&fork, "list descriptors", b"");
    let text = read_all(reader);
    assert_eq!(text.matches("socket:").count(), 1, "its own lifeline: {text}");
    assert_eq!(text.matches("anon_inode:").count(), 0, "{text}");
    assert!(text.contains(&format!("\"{} {}\"", own.as_raw_fd(), path.display())), "{text}");
    started.report();
    let number = own.as_raw_fd().to_string();
    start(&fork, "write to descriptor", number.as_bytes(), vec![]).expect("started").report();
    assert_eq!(fs::read_to_string(&path).expect("read"), "from the worker");
    fs::remove_file(&path).expect("removed");
    // The others work on.
    for started in [theirs, also_theirs] {
        started.worker.signal(Signal::Kill).expect("sent");
        assert_eq!(started.report().exit, Exit::Signal(9));
    }
}

fn a_copied_value_is_of_no_use() {
    // In the keeper and its workers, a copy of the first value, whose server is the parent's.
    let first = Method::ForkServer.spawner();
    start(&*first, "return", &[0], vec![]).expect("started").report();
    // SAFETY: the other threads wait and hold nothing.
    let [inner, outer] = [(); 2].map(|()| unsafe { Fork::new_unchecked() });
    inner.prepare_with(jobs::work).expect("not checked");
    let (inner, copy) = (std::sync::Arc::new(inner), first);
    let theirs = std::sync::Arc::clone(&inner);
    let run = move |_, last_words: Box<dyn FnOnce(&str) + Send>| {
        let error = start(&*theirs, "return", &[0], vec![]).map(drop).expect_err("the parent's");
        last_words(&error.to_string());
        // This one starts a server of its own.
        match start(&*copy, "return", &[6], vec![]).expect("started").report().exit {
            Exit::Code(code) => code,
            _ => -1,
        }
    };
    outer.prepare_with(run).expect("not checked");
    let report = start(&outer, "return", &[0], vec![]).expect("started").report();
    assert!(report.last_words.as_deref().is_some_and(|words| words.contains("the parent's")), "{report:?}");
    assert_eq!(report.exit, Exit::Code(6));
    assert_eq!(start(&*inner, "return", &[5], vec![]).expect("started").report().exit, Exit::Code(5));
}
