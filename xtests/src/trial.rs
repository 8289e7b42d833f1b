//! Runs what a test binary has to try, each in its own process, under a watchdog.
//!
//! A process pool is tested by killing, hanging and leaking. So that one case cannot spoil the next, each
//! is this program, started again with `--one`; so that a hang has a name, it is killed after a while and
//! reported; so that nothing leaks, its process has to have the threads, descriptors and children at its
//! end that it had before.
//!
//! It speaks the standard harness's command line and output as far as cargo and cargo-nextest need them.

use std::any::Any;
use std::fmt;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::leaks::{self, Inventory};
use crate::sys;

/// After this long something hangs, even on a busy machine.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(60);

/// How a case's process says that it was skipped. 77 is what other harnesses use.
const SKIPPED: i32 = 77;

/// How it says that it failed: as the standard harness does.
pub(crate) const FAILED: i32 = 101;

/// How it says that all it asserted was true, and that something is left behind.
const LEFT_BEHIND: i32 = 102;

/// Where a case may write, in its environment.
pub(crate) const DIR: &str = "XTESTS_DIR";

/// How many cases run at a time. They start processes of their own, so this is not the number of cores.
const THREADS: usize = 2;

/// Something to try.
pub(crate) struct Trial<'a> {
    /// Its full name.
    pub(crate) name: String,
    /// How long it may take.
    pub(crate) watchdog: Duration,
    /// Why there is no point in running it here, if so.
    pub(crate) beside_the_point: Option<String>,
    /// Why it is known to fail, if so. It runs only when asked for, with `--ignored`.
    pub(crate) known_failing: Option<&'static str>,
    /// Whether it is a part of another trial, which runs it: nobody else does.
    pub(crate) is_part: bool,
    /// Panics if it fails. Is given an empty directory, which goes away afterwards.
    pub(crate) run: Box<dyn Fn(&Path) + Sync + 'a>,
}

impl fmt::Debug for Trial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ok,
    Failed(String),
    /// Nothing else failed.
    LeftBehind,
    Skipped(String),
}

/// One that did not pass.
struct Failure<'a> {
    name: &'a str,
    output: String,
}

/// Ends the case as skipped, and has the runner print why.
pub fn skip(why: &str) -> ! {
    resume_unwind(Box::new(Skip(why.to_owned())))
}

struct Skip(String);

/// Runs the trials that the command line asks for, and ends the program.
pub(crate) fn main(trials: &[Trial<'_>]) -> ! {
    let args = Args::parse(std::env::args().skip(1)).unwrap_or_else(|why| {
        eprintln!("error: {why}");
        std::process::exit(2);
    });
    let is_wanted = |trial: &&Trial<'_>| {
        args.wants(&trial.name) && (!args.ignored || trial.known_failing.is_some()) && (!trial.is_part || args.one)
    };
    let chosen: Vec<_> = trials.iter().filter(is_wanted).collect();
    if args.one {
        let trial = chosen.first().expect("the runner names a case that it has");
        std::process::exit(trial.run_here());
    }
    if args.list {
        chosen.iter().for_each(|trial| println!("{}: test", trial.name));
        if !args.terse {
            println!("\n{} tests, 0 benchmarks", chosen.len());
        }
        std::process::exit(0);
    }
    let others = trials.iter().filter(|trial| !trial.is_part).count() - chosen.len();
    std::process::exit(if run_all(&args, &chosen, others) { 0 } else { FAILED })
}

impl<'a> Trial<'a> {
    /// With the usual watchdog.
    pub(crate) fn new(name: String, run: impl Fn(&Path) + Sync + 'a) -> Self {
        Self {
            name,
            watchdog: WATCHDOG,
            beside_the_point: None,
            known_failing: None,
            is_part: false,
            run: Box::new(run),
        }
    }

    /// Runs it in this process, and returns its exit code.
    fn run_here(&self) -> i32 {
        sys::end_with_the_runner();
        let dir = PathBuf::from(std::env::var_os(DIR).expect("the runner has made a directory"));
        let before = Inventory::take();
        let ended = catch_unwind(AssertUnwindSafe(|| (self.run)(&dir)));
        if let Err(payload) = ended {
            return unwound(payload.as_ref(), &dir);
        }
        match before.map_or(Ok(()), |before| before.check()) {
            Ok(()) => 0,
            Err(what) => {
                eprintln!("{what}");
                LEFT_BEHIND
            }
        }
    }

    /// Runs it in a process of its own, and returns what it said too. Its output goes to a file, not a pipe: a
    /// process that it leaves behind could hold a pipe open.
    pub(crate) fn run(&self, root: &Path, number: usize, nocapture: bool) -> (Verdict, String) {
        let dir = root.join(number.to_string());
        let output = root.join(format!("{number}.out"));
        let marker = format!("{}.{number}", std::process::id());
        let temp = root.join(format!("{number}.tmp"));
        for dir in [&dir, &temp] {
            fs::create_dir(dir).expect("a directory for the case");
        }
        sys::open_to_all(root, &temp);
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command.args(["--one", "--exact", &self.name]).env(DIR, &dir).env(leaks::MARKER, &marker);
        #[cfg(unix)]
        command.env("TMPDIR", &temp);
        command.stdin(Stdio::piped()).env("RUST_BACKTRACE", "1");
        if !nocapture {
            let file = File::create(&output).expect("a file for the output");
            command.stdout(file.try_clone().expect("another handle of it")).stderr(file);
        }
        let mut child = command.spawn().expect("the case's process starts");
        let verdict = match wait(&mut child, self.watchdog) {
            Some(0) => Verdict::Ok,
            Some(SKIPPED) => Verdict::Skipped(fs::read_to_string(dir.join("skipped")).unwrap_or_default()),
            Some(LEFT_BEHIND) => Verdict::LeftBehind,
            Some(code) => Verdict::Failed(format!("exit code {code}")),
            None => Verdict::Failed(format!("hang: {:?} passed\n{}", self.watchdog, end(child, &marker))),
        };
        let mut said = String::from_utf8_lossy(&fs::read(&output).unwrap_or_default()).into_owned();
        let left: Vec<_> = fs::read_dir(&temp).into_iter().flatten().flatten().map(|file| file.path()).collect();
        let verdict = if verdict == Verdict::Ok && !left.is_empty() { Verdict::LeftBehind } else { verdict };
        if !left.is_empty() {
            said.push_str(&format!("the case left something behind: temporary files {left:?}\n"));
        }
        // On Windows something that still runs may keep files open; the system's own cleaning gets them.
        for dir in [&dir, &temp] {
            let _ = fs::remove_dir_all(dir);
        }
        let _ = fs::remove_file(&output);
        (verdict, said)
    }
}

fn unwound(payload: &(dyn Any + Send), dir: &Path) -> i32 {
    match payload.downcast_ref::<Skip>() {
        Some(Skip(why)) => {
            fs::write(dir.join("skipped"), why).expect("the reason can be written down");
            SKIPPED
        }
        // The panic hook has told about it.
        None => FAILED,
    }
}

/// The exit code, -1 for a signal; `None` if it takes too long.
fn wait(child: &mut Child, limit: Duration) -> Option<i32> {
    let deadline = Instant::now() + limit;
    // The runner may poll: no case's timing depends on it.
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            return Some(status.code().unwrap_or(-1));
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    None
}

/// Ends a case that hangs and all that belongs to it; says what they were at.
fn end(mut child: Child, marker: &str) -> String {
    let processes = leaks::sys::processes_of(marker);
    let what: Vec<_> = processes.iter().map(|pid| leaks::sys::describe(*pid)).collect();
    // It may have ended in this very moment.
    let _ = child.kill();
    let _ = child.wait();
    processes.iter().filter(|pid| **pid != child.id()).for_each(|pid| leaks::sys::kill(*pid));
    what.join("\n")
}

/// Runs the trials, some at a time. Whether all is well.
fn run_all(args: &Args, trials: &[&Trial<'_>], filtered_out: usize) -> bool {
    let start = Instant::now();
    println!("\nrunning {} tests", trials.len());
    if !Inventory::is_possible() {
        println!("(not looking for leaks: not on this platform)");
    }
    let tally = Mutex::new((0, 0, Vec::new()));
    let skips = |trial: &Trial<'_>| match trial.known_failing {
        _ if let Some(why) = &trial.beside_the_point => Some(why.clone()),
        Some(why) if !args.ignored && !args.include_ignored => Some(format!("known to fail: {why}")),
        _ => None,
    };
    each(trials, args.threads.unwrap_or(THREADS), args.nocapture, skips, |trial, verdict, output| {
        let mut tally = tally.lock().expect("no runner thread panics");
        let (passed, skipped, failures) = &mut *tally;
        let how = match verdict {
            Verdict::Ok => {
                *passed += 1;
                println!("test {} ... ok", trial.name);
                return;
            }
            Verdict::Skipped(why) => {
                *skipped += 1;
                println!("test {} ... ignored, {why}", trial.name);
                return;
            }
            Verdict::Failed(how) => how,
            Verdict::LeftBehind => String::new(),
        };
        println!("test {} ... FAILED", trial.name);
        failures.push(Failure { name: &trial.name, output: format!("{output}{how}") });
    });
    let (passed, skipped, failures) = tally.into_inner().expect("no runner thread panics");
    report(&failures);
    println!(
        "\ntest result: {}. {passed} passed; {} failed; {skipped} ignored; 0 measured; {filtered_out} filtered out; \
         finished in {:.2}s\n",
        if failures.is_empty() { "ok" } else { "FAILED" },
        failures.len(),
        start.elapsed().as_secs_f64()
    );
    failures.is_empty()
}

/// Runs each trial that `skips` gives no reason against, so many at a time, and tells how it ended.
pub(crate) fn each<'a>(
    trials: &[&'a Trial<'a>],
    threads: usize,
    nocapture: bool,
    skips: impl Fn(&Trial<'_>) -> Option<String> + Sync,
    ended: impl Fn(&'a Trial<'a>, Verdict, String) + Sync,
) {
    // Process ids are soon used again on Windows, and a folder may have stayed behind.
    let folder = tempfile::Builder::new().prefix("xtests-").tempdir().expect("a directory for the cases");
    let root = folder.path();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((number, trial)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            trials.get(number).map(|trial| (number, *trial))
        } {
            let (verdict, output) = match skips(trial) {
                Some(why) => (Verdict::Skipped(why), String::new()),
                None => trial.run(root, number, nocapture),
            };
            ended(trial, verdict, output);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let _ = folder.close();
}

fn report(failures: &[Failure<'_>]) {
    if failures.is_empty() {
        return;
    }
    println!("\nfailures:");
    for Failure { name, output } in failures {
        println!("\n---- {name} stdout ----\n{output}");
    }
    println!("\nfailures:");
    failures.iter().for_each(|failure| println!("    {}", failure.name));
}
