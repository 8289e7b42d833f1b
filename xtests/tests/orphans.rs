//! However a parent ends, a second later no worker of it is left; and what it starts beside its pool, sees
//! nothing of it.
//!
//! The parent is a program of its own, `orphans_parent`, which brings its workers into some state, tells their
//! process ids and ends in some way, of itself or by a signal.

fn main() {
    process_pool::init();
    #[cfg(target_os = "linux")]
    xtests::runner::main(linux::CASES);
    #[cfg(not(target_os = "linux"))]
    println!("skipped: it takes Linux's /proc to see who is left\n\n0 passed, 0 failed");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use process_pool::{Executor, Shutdown};
    use rustix::process::{Pid, Signal, kill_process};
    use xtests::cases;
    use xtests::gate::{Gate, wait_at};
    use xtests::processes::{eventually, is_there, parent_of, state};
    use xtests::runner::{Case, Subject, skip};

    pub(crate) const CASES: &[Case] = cases![
        idle_workers_end_with_a_killed_parent,
        busy_workers_end_with_a_killed_parent,
        workers_that_ignore_signals_end_with_a_killed_parent,
        workers_blocked_in_a_system_call_end_with_a_killed_parent,
        workers_that_lost_the_kernels_signal_end_with_a_killed_parent,
        stopped_workers_end_with_a_killed_parent,
        workers_in_their_initializer_end_with_a_killed_parent,
        workers_that_have_not_reached_init_end_when_they_do,
        workers_end_in_the_middle_of_a_large_argument,
        workers_end_in_the_middle_of_a_large_result,
        the_workers_of_a_worker_end_with_a_killed_parent,
        what_workers_have_started_ends_with_a_killed_parent_where_a_server_forks,
        what_workers_have_started_ends_with_a_killed_parent_whose_server_is_stopped,
        workers_end_with_a_killed_parent_that_has_left_an_heir,
        workers_end_with_a_parent_that_is_asked_to_end,
        workers_end_with_a_parent_that_is_interrupted,
        workers_end_with_a_parent_that_hangs_up,
        workers_end_with_a_parent_that_panics,
        workers_end_with_a_parent_that_exits,
        workers_end_with_a_parent_that_aborts,
        workers_end_with_a_parent_that_returns_and_has_leaked_its_pool,
        workers_end_with_a_parent_that_drops_its_pool,
        workers_end_with_a_parent_that_becomes_another_program,
        workers_do_not_end_with_the_thread_that_needed_them,
        no_child_is_left_when_shutdown_returns,
        a_foreign_program_started_beside_a_pool_has_none_of_its_descriptors,
    ];

    /// A parent that has told its workers' process ids.
    struct Parent {
        process: Child,
        workers: Vec<u32>,
    }

    impl Parent {
        #[track_caller]
        fn start(subject: &Subject, state: &str, end: &str) -> Self {
            let mut command = Self::command(subject, state, end);
            let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
            let mut line = String::new();
            let mut stdout = BufReader::new(process.stdout.take().expect("piped"));
            stdout.read_line(&mut line).expect("it speaks");
            let workers: Vec<_> = line.split_whitespace().map(|pid| pid.parse().expect("a number")).collect();
            assert!(workers.len() >= 2, "{line:?}");
            Self { process, workers }
        }

        fn command(subject: &Subject, state: &str, end: &str) -> Command {
            let mut command = Command::new(env!("CARGO_BIN_EXE_orphans_parent"));
            command.args([state, end]).env("ORPHANS_CONTEXT", &subject.context);
            command
        }

        fn signal(&self, signal: Signal) {
            self.workers.iter().for_each(|pid| assert!(is_there(*pid), "{pid} is there"));
            kill_process(Pid::from_child(&self.process), signal).expect("sent");
        }

        /// Waits for its end, and that of its workers.
        #[track_caller]
        fn ends(mut self) -> ExitStatus {
            let status = self.process.wait().expect("waited for");
            all_gone(&self.workers);
            status
        }

        #[track_caller]
        fn ends_by(self, signal: Signal) {
            self.signal(signal);
            assert_eq!(self.ends().signal(), Some(signal.as_raw()));
        }
    }

    /// So long after its parent's end a worker is gone.
    const SOON: Duration = Duration::from_secs(1);

    #[track_caller]
    fn all_gone(pids: &[u32]) {
        let start = Instant::now();
        loop {
            let left: Vec<_> = pids.iter().filter(|pid| is_there(**pid)).collect();
            if left.is_empty() {
                println!("gone after {:?}", start.elapsed());
                return;
            }
            if start.elapsed() > SOON {
                // Not for ever: they may be spinning.
                left.iter().for_each(|pid| end(**pid));
                panic!("still there: {left:?}");
            }
            std::thread::yield_now();
        }
    }

    fn end(pid: u32) {
        // It may have ended meanwhile.
        let _ = kill_process(Pid::from_raw(pid.cast_signed()).expect("a process id"), Signal::KILL);
    }

    fn workers_that_lost_the_kernels_signal_end_with_a_killed_parent(subject: &Subject) {
        Parent::start(subject, "untied", "waits").ends_by(Signal::KILL);
    }

    fn idle_workers_end_with_a_killed_parent(subject: &Subject) {
        Parent::start(subject, "idle", "waits").ends_by(Signal::KILL);
    }

    fn busy_workers_end_with_a_killed_parent(subject: &Subject) {
        Parent::start(subject, "busy", "waits").ends_by(Signal::KILL);
    }

    fn workers_that_ignore_signals_end_with_a_killed_parent(subject: &Subject) {
        Parent::start(subject, "deaf", "waits").ends_by(Signal::KILL);
    }

    fn workers_blocked_in_a_system_call_end_with_a_killed_parent(subject: &Subject) {
        Parent::start(subject, "blocked", "waits").ends_by(Signal::KILL);
    }

    fn stopped_workers_end_with_a_killed_parent(subject: &Subject) {
        let parent = Parent::start(subject, "stopped", "waits");
        // A precondition, and no promise: it may take its time.
        eventually("they have stopped", || parent.workers.iter().all(|pid| state(*pid) == Some('T')));
        parent.ends_by(Signal::KILL);
    }

    fn workers_in_their_initializer_end_with_a_killed_parent(subject: &Subject) {
        Parent::start(subject, "starting", "waits").ends_by(Signal::KILL);
    }

    /// Nothing can end a program that has not yet been told whose worker it is.
    fn workers_that_have_not_reached_init_end_when_they_do(subject: &Subject) {
        // A fork server comes there for all its workers.
        let arrivals = match subject.start_method() {
            "exec" => 2,
            "forkserver" => 1,
            _ => skip("its workers do not begin with `main`"),
        };
        let gate = Gate::new();
        // It tells of no workers before they are on their way.
        let mut command = Parent::command(subject, "unborn", "waits");
        command.env("ORPHANS_WAIT", gate.port().to_string());
        let mut parent = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts");
        let workers = gate.arrivals(arrivals);
        parent.kill().expect("killed");
        parent.wait().expect("waited for");
        let pids: Vec<_> = workers.iter().map(|worker| worker.pid).collect();
        drop(workers);
        all_gone(&pids);
        if subject.transport() == "ipc" {
            // A limit of its own: where both sides are killed before they have met, nobody is left to tidy up.
            let met_nobody = std::fs::read_dir(std::env::temp_dir()).expect("listed").flatten();
            met_nobody.for_each(|place| std::fs::remove_dir_all(place.path()).expect("removed"));
        }
    }

    fn workers_end_in_the_middle_of_a_large_argument(subject: &Subject) {
        for _ in 0..3 {
            Parent::start(subject, "sending", "waits").ends_by(Signal::KILL);
        }
    }

    fn workers_end_in_the_middle_of_a_large_result(subject: &Subject) {
        for _ in 0..3 {
            Parent::start(subject, "receiving", "waits").ends_by(Signal::KILL);
        }
        // A parent that does not read: the results wait half-way.
        let parent = Parent::start(subject, "receiving", "waits");
        parent.signal(Signal::STOP);
        parent.ends_by(Signal::KILL);
    }

    fn the_workers_of_a_worker_end_with_a_killed_parent(subject: &Subject) {
        let parent = Parent::start(subject, "nested", "waits");
        assert_eq!(parent.workers.len(), 6, "four and two");
        parent.ends_by(Signal::KILL);
    }

    fn what_workers_have_started_ends_with_a_killed_parent_where_a_server_forks(subject: &Subject) {
        let mut parent = Parent::start(subject, "trees", "waits");
        if subject.start_method() != "exec" {
            return parent.ends_by(Signal::KILL);
        }
        // With the parent all are gone who could know of it.
        let left: Vec<_> = parent.workers.drain(2..6).collect();
        parent.ends_by(Signal::KILL);
        left.iter().for_each(|pid| assert!(is_there(*pid), "as documented"));
        left.iter().for_each(|pid| end(*pid));
        all_gone(&left);
    }

    fn what_workers_have_started_ends_with_a_killed_parent_whose_server_is_stopped(subject: &Subject) {
        if subject.start_method() == "exec" {
            skip("there is no server");
        }
        let parent = Parent::start(subject, "trees", "waits");
        let server = parent_of(parent.workers[0]).expect("it lives");
        kill_process(Pid::from_raw(server.cast_signed()).expect("a process id"), Signal::STOP).expect("sent");
        eventually("it has stopped", || state(server) == Some('T'));
        parent.ends_by(Signal::KILL);
        all_gone(&[server]);
    }

    fn workers_end_with_a_killed_parent_that_has_left_an_heir(subject: &Subject) {
        Parent::start(subject, "busy", "leaves an heir").ends_by(Signal::KILL);
        Parent::start(subject, "idle", "leaves an heir").ends_by(Signal::KILL);
    }

    fn workers_end_with_a_parent_that_is_asked_to_end(subject: &Subject) {
        Parent::start(subject, "busy", "waits").ends_by(Signal::TERM);
    }

    fn workers_end_with_a_parent_that_is_interrupted(subject: &Subject) {
        // A shell that starts something in the background has it ignore this signal.
        let parent = Parent::start(subject, "busy", "waits");
        if ignores(&parent, Signal::INT) {
            println!("skipped: this program was started with SIGINT ignored");
            parent.ends_by(Signal::KILL);
        } else {
            parent.ends_by(Signal::INT);
        }
    }

    fn ignores(parent: &Parent, signal: Signal) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", parent.process.id())).expect("it is there");
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("Linux tells");
        u64::from_str_radix(mask.trim(), 16).expect("a number") >> (signal.as_raw() - 1) & 1 == 1
    }

    fn workers_end_with_a_parent_that_hangs_up(subject: &Subject) {
        let parent = Parent::start(subject, "deaf", "waits");
        let signal = if ignores(&parent, Signal::HUP) { Signal::QUIT } else { Signal::HUP };
        parent.ends_by(signal);
    }

    fn workers_end_with_a_parent_that_panics(subject: &Subject) {
        assert_eq!(Parent::start(subject, "idle", "panics").ends().code(), Some(101));
    }

    fn workers_end_with_a_parent_that_exits(subject: &Subject) {
        assert_eq!(Parent::start(subject, "busy", "exits").ends().code(), Some(5));
        assert_eq!(Parent::start(subject, "idle", "exits").ends().code(), Some(5));
        assert_eq!(Parent::start(subject, "starting", "exits").ends().code(), Some(5));
    }

    fn workers_end_with_a_parent_that_aborts(subject: &Subject) {
        assert_eq!(Parent::start(subject, "busy", "aborts").ends().signal(), Some(6));
    }

    fn workers_end_with_a_parent_that_returns_and_has_leaked_its_pool(subject: &Subject) {
        assert_eq!(Parent::start(subject, "busy", "leaks").ends().code(), Some(0));
        assert_eq!(Parent::start(subject, "idle", "leaks").ends().code(), Some(0));
    }

    fn workers_end_with_a_parent_that_drops_its_pool(subject: &Subject) {
        assert_eq!(Parent::start(subject, "idle", "drops").ends().code(), Some(0));
    }

    fn workers_end_with_a_parent_that_becomes_another_program(subject: &Subject) {
        for state in ["idle", "busy", "stopped"] {
            let Parent { mut process, workers } = Parent::start(subject, state, "becomes another");
            all_gone(&workers);
            assert!(is_there(process.id()), "it has become another, and not ended");
            process.kill().expect("killed");
            process.wait().expect("waited for");
        }
    }

    /// Linux tells of a parent's death when the *thread* that started the process ends.
    fn workers_do_not_end_with_the_thread_that_needed_them(subject: &Subject) {
        let gate = Gate::new();
        let port = gate.port();
        let needs = || {
            let pool = subject.pool(2);
            let calls = [(); 2].map(|()| pool.submit(wait_at, port).expect("taken"));
            (pool, calls)
        };
        let (pool, calls) = std::thread::scope(|scope| scope.spawn(needs).join().expect("it does not panic"));
        let visitors = gate.arrivals(2);
        let pids: Vec<_> = visitors.iter().map(|visitor| visitor.pid).collect();
        drop(visitors);
        for call in calls {
            call.result().expect("its worker lives");
        }
        let mut now = pool.worker_pids();
        now.retain(|pid| pids.contains(pid) && is_there(*pid));
        assert_eq!(now.len(), 2);
    }

    fn no_child_is_left_when_shutdown_returns(subject: &Subject) {
        let end = |pool: &Executor, how: &str| {
            match how {
                "shutdown" => {}
                "kill" => pool.kill_workers(),
                _ => pool.terminate_workers(),
            }
            pool.shutdown(Shutdown::default());
        };
        for how in ["shutdown", "kill", "terminate"] {
            let pool = subject.pool(2);
            let calls: Vec<_> = (0..50_u8).map(|n| pool.submit(|n: u8| n, n).expect("taken")).collect();
            end(&pool, how);
            let waited = rustix::process::wait(rustix::process::WaitOptions::NOHANG).map(drop);
            assert_eq!(waited, Err(rustix::io::Errno::CHILD), "after {how}");
            assert!(calls.iter().all(|call| call.done()), "after {how}");
        }
    }

    fn a_foreign_program_started_beside_a_pool_has_none_of_its_descriptors(subject: &Subject) {
        let look = || {
            let out =
                Command::new("ls").args(["-l", "/proc/self/fd"]).stdin(Stdio::null()).output().expect("runs");
            let text = String::from_utf8(out.stdout).expect("text");
            let open: Vec<_> = text.lines().filter_map(|line| line.split_once(" -> ")).collect();
            let number = |left: &str| left.rsplit(' ').next().expect("a number").to_owned();
            (open.iter().map(|(left, _)| number(left)).collect::<Vec<_>>(), text)
        };
        let (normal, _) = look();
        let done = AtomicBool::new(false);
        // Workers come and go all the time.
        let pool = subject.builder().max_workers(3).max_tasks_per_child(2).build().expect("a pool");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let results: Result<Vec<u32>, _> = pool.map(|n: u32| n, 0..300).collect();
                done.store(true, Ordering::Release);
                assert_eq!(results.expect("results").len(), 300);
            });
            let mut looks = 0;
            while !done.load(Ordering::Acquire) {
                let (open, text) = look();
                assert_eq!(open, normal, "{text}");
                looks += 1;
            }
            println!("looked {looks} times");
        });
    }
}
