//! Runs the cases of a test binary, each in its own process, under a watchdog.
//!
//! A process pool is tested by killing, hanging and leaking. So that one case cannot spoil the next, each
//! is this program, started again with `--one`; so that a hang has a name, it is killed after a while and
//! reported; so that nothing leaks, its process has to have the threads, descriptors and children at its
//! end that it had before.
//!
//! It speaks the standard harness's command line and output as far as cargo and cargo-nextest need them.

use std::any::Any;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pool_core::transport::LinkCaps;
use pool_core::{Builder, Executor};
use process_pool::carry::{Ipc, Pipe};

use crate::args::Args;
use crate::leaks::{self, Inventory};
use crate::{context, sys};

/// After this long something hangs, even on a busy machine.
const WATCHDOG: Duration = Duration::from_secs(60);

/// How a case's process says that it was skipped. 77 is what other harnesses use.
const SKIPPED: i32 = 77;

/// How it says that it failed: as the standard harness does.
pub(crate) const FAILED: i32 = 101;

/// Where a case may write, in its environment.
pub(crate) const DIR: &str = "XTESTS_DIR";

/// How many cases run at a time. They start processes of their own, so this is not the number of cores.
const THREADS: usize = 2;

/// Something that holds for every context.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name: a sentence that states the truth tested.
    pub name: &'static str,
    /// Panics if the truth does not hold.
    pub run: fn(&Subject),
    /// How long it may take.
    pub watchdog: Duration,
    /// The one context to run it for, if it is not about contexts; and what it is about.
    pub only: Option<(&'static str, &'static str)>,
    /// Why it does not hold yet, if so. Such a case runs only when asked for, with `--ignored`.
    pub known_failing: Option<&'static str>,
}

impl Case {
    /// A case with the usual watchdog.
    pub const fn new(name: &'static str, run: fn(&Subject)) -> Self {
        Self { name, run, watchdog: WATCHDOG, only: None, known_failing: None }
    }

    /// The same case, allowed to take so long.
    pub const fn watchdog(self, watchdog: Duration) -> Self {
        Self { watchdog, ..self }
    }

    /// The same case, run for this context only, since it is about something else: this.
    pub const fn only(self, context: &'static str, about: &'static str) -> Self {
        Self { only: Some((context, about)), ..self }
    }

    /// The same case, known to fail, and why.
    pub const fn known_failing(self, why: &'static str) -> Self {
        Self { known_failing: Some(why), ..self }
    }
}

/// A list of cases, each a function that is its name.
#[macro_export]
macro_rules! cases {
    ($($($path:ident)::+),* $(,)?) => {
        &[$($crate::runner::Case::new($crate::last_name!($($path)::+), $($path)::+)),*]
    };
}

/// The last name of a path.
#[doc(hidden)]
#[macro_export]
macro_rules! last_name {
    ($name:ident) => { stringify!($name) };
    ($first:ident :: $($rest:ident)::+) => { $crate::last_name!($($rest)::+) };
}

/// What a case is about: one context, and a directory to itself.
#[derive(Debug)]
pub struct Subject {
    /// Start method and transport, such as `"exec+pipe"`.
    pub context: String,
    /// An empty directory that goes away after the case.
    pub dir: PathBuf,
}

impl Subject {
    /// A pool's builder, with the context set.
    ///
    /// # Panics
    /// If this program does not know the context.
    pub fn builder(&self) -> Builder {
        Executor::builder().context(context::named(&self.context))
    }

    /// A pool's builder, with the context set, whose transport carries frames of so many bytes.
    ///
    /// # Panics
    /// If this program does not know the context.
    pub fn builder_of_frames(&self, frame_max: usize) -> Builder {
        let context = context::named(&self.context);
        Executor::builder().context(match self.transport() {
            "ipc" => context.transport(Ipc::new().frame_max(frame_max)),
            _ => context.transport(Pipe::new().frame_max(frame_max)),
        })
    }

    /// The name of the start method.
    pub fn start_method(&self) -> &str {
        self.names().0
    }

    /// The name of the transport.
    pub fn transport(&self) -> &str {
        self.names().1
    }

    fn names(&self) -> (&str, &str) {
        self.context.split_once('+').expect("a context's name has both")
    }

    /// What a link of the transport can do. Starts the transport's thread for a moment.
    ///
    /// # Panics
    /// If no link can be opened.
    pub fn caps(&self) -> LinkCaps {
        context::link_caps(self.transport())
    }

    /// A pool of so many workers.
    ///
    /// # Panics
    /// If it cannot be built.
    pub fn pool(&self, max_workers: usize) -> Executor {
        self.builder().max_workers(max_workers).build().expect("a pool")
    }
}

/// Kills a process of this case's, whoever started it, by the system's hardest means; false if it is not there.
///
/// A process id that is no longer that of a process of the case may be anybody's: it is left alone.
pub fn kill_if_there(pid: u32) -> bool {
    leaks::sys::kill_if_there(pid)
}

/// Ends the case as skipped, and has the runner print why.
pub fn skip(why: &str) -> ! {
    resume_unwind(Box::new(Skip(why.to_owned())))
}

struct Skip(String);

/// Runs the cases, for each context that `init()` made known, and ends the program.
pub fn main(cases: &[Case]) -> ! {
    let contexts = pool_core::available();
    assert!(!contexts.is_empty(), "call `process_pool::init()` before the runner");
    main_with(&contexts, cases)
}

/// Runs the cases, for each of these contexts, and ends the program.
pub fn main_with(contexts: &[String], cases: &[Case]) -> ! {
    let args = Args::parse(std::env::args().skip(1)).unwrap_or_else(|why| {
        eprintln!("error: {why}");
        std::process::exit(2);
    });
    let all = contexts.iter().flat_map(|context| cases.iter().map(move |case| Test::new(context, case)));
    let (chosen, others): (Vec<_>, Vec<_>) =
        all.partition(|test| args.wants(&test.name) && (!args.ignored || test.case.known_failing.is_some()));
    if args.one {
        let test = chosen.first().expect("the runner names a case that it has");
        std::process::exit(test.run_here());
    }
    if args.list {
        chosen.iter().for_each(|test| println!("{}: test", test.name));
        if !args.terse {
            println!("\n{} tests, 0 benchmarks", chosen.len());
        }
        std::process::exit(0);
    }
    std::process::exit(if run_all(&args, &chosen, others.len()) { 0 } else { FAILED })
}

/// A case for one context.
#[derive(Debug)]
struct Test<'a> {
    name: String,
    context: &'a str,
    case: &'a Case,
}

#[derive(Debug)]
enum Verdict {
    Ok,
    Failed(String),
    Skipped(String),
}

/// One that did not pass.
struct Failure<'a> {
    name: &'a str,
    output: String,
}

impl<'a> Test<'a> {
    fn new(context: &'a str, case: &'a Case) -> Self {
        Self { name: format!("{context}::{}", case.name), context, case }
    }

    /// Runs the case in this process, and returns its exit code.
    fn run_here(&self) -> i32 {
        sys::end_with_the_runner();
        let dir = PathBuf::from(std::env::var_os(DIR).expect("the runner has made a directory"));
        let subject = Subject { context: self.context.to_owned(), dir };
        let before = Inventory::take();
        let ended = catch_unwind(AssertUnwindSafe(|| (self.case.run)(&subject)));
        if let Err(payload) = ended {
            return self.unwound(payload.as_ref(), &subject.dir);
        }
        match before.map_or(Ok(()), |before| before.check()) {
            Ok(()) => 0,
            Err(what) => {
                eprintln!("{what}");
                FAILED
            }
        }
    }

    fn unwound(&self, payload: &(dyn Any + Send), dir: &Path) -> i32 {
        match payload.downcast_ref::<Skip>() {
            Some(Skip(why)) => {
                fs::write(dir.join("skipped"), why).expect("the reason can be written down");
                SKIPPED
            }
            // The panic hook has told about it.
            None => FAILED,
        }
    }

    /// Runs the case in a process of its own. Its output goes to a file, not a pipe: a process that it
    /// leaves behind could hold a pipe open.
    fn run(&self, root: &Path, number: usize, nocapture: bool) -> (Verdict, String) {
        let dir = root.join(number.to_string());
        let output = root.join(format!("{number}.out"));
        let marker = format!("{}.{number}", std::process::id());
        fs::create_dir(&dir).expect("a directory for the case");
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command.args(["--one", "--exact", &self.name]).env(DIR, &dir).env(leaks::MARKER, &marker);
        command.stdin(Stdio::piped()).env("RUST_BACKTRACE", "1");
        if !nocapture {
            let file = File::create(&output).expect("a file for the output");
            command.stdout(file.try_clone().expect("another handle of it")).stderr(file);
        }
        let mut child = command.spawn().expect("the case's process starts");
        let verdict = match wait(&mut child, self.case.watchdog) {
            Some(0) => Verdict::Ok,
            Some(SKIPPED) => Verdict::Skipped(fs::read_to_string(dir.join("skipped")).unwrap_or_default()),
            Some(code) => Verdict::Failed(format!("exit code {code}")),
            None => Verdict::Failed(format!("hang: {:?} passed\n{}", self.case.watchdog, end(child, &marker))),
        };
        let bytes = fs::read(&output).unwrap_or_default();
        // On Windows something that still runs may keep files open; the system's own cleaning gets them.
        let _ = fs::remove_dir_all(&dir);
        let _ = fs::remove_file(&output);
        (verdict, String::from_utf8_lossy(&bytes).into_owned())
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

/// Runs the tests, some at a time. Whether all is well.
fn run_all(args: &Args, tests: &[Test<'_>], filtered_out: usize) -> bool {
    let start = Instant::now();
    // Process ids are soon used again on Windows, and a folder may have stayed behind.
    let folder = tempfile::Builder::new().prefix("xtests-").tempdir().expect("a directory for the cases");
    let root = folder.path();
    println!("\nrunning {} tests", tests.len());
    if !Inventory::is_possible() {
        println!("(not looking for leaks: not on this platform)");
    }
    let next = AtomicUsize::new(0);
    let tally = Mutex::new((0, 0, Vec::new()));
    let work = || {
        while let Some((number, test)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            tests.get(number).map(|test| (number, test))
        } {
            let (verdict, output) = match test.case.known_failing {
                _ if let Some((only, about)) = test.case.only
                    && only != test.context =>
                {
                    (Verdict::Skipped(format!("about {about}, not the context: run with {only}")), String::new())
                }
                Some(why) if !args.ignored && !args.include_ignored => {
                    (Verdict::Skipped(format!("known to fail: {why}")), String::new())
                }
                _ => test.run(root, number, args.nocapture),
            };
            let mut tally = tally.lock().expect("no runner thread panics");
            let (passed, skipped, failures) = &mut *tally;
            match verdict {
                Verdict::Ok => {
                    *passed += 1;
                    println!("test {} ... ok", test.name);
                }
                Verdict::Skipped(why) => {
                    *skipped += 1;
                    println!("test {} ... ignored, {why}", test.name);
                }
                Verdict::Failed(how) => {
                    println!("test {} ... FAILED", test.name);
                    failures.push(Failure { name: &test.name, output: format!("{output}{how}") });
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..args.threads.unwrap_or(THREADS) {
            scope.spawn(work);
        }
    });
    let _ = folder.close();
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
