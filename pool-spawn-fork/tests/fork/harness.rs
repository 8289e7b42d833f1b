//! Runs each case in a process of its own, under a watchdog; and what the cases share.

use std::io::{PipeReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use pool_core::spawner::{ExitReport, SpawnError, Spawner, Worker};
use pool_core::transport::{Handle, Ticket};
use pool_spawn_fork::{Fork, ForkServer};
use xtests::processes::is_emulated;
use xtests::runner::CANNOT_FORK;

use crate::jobs;

/// Which start method a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    ForkServer,
    Fork,
}

impl Method {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ForkServer => "forkserver",
            Self::Fork => "fork",
        }
    }

    /// Its spawner, ready. To be called first thing in a case: Fork takes a process without threads.
    pub(crate) fn spawner(self) -> Arc<dyn Spawner> {
        match self {
            Self::ForkServer => {
                // Nobody arrives here: this only notes that `init()` was called.
                pool_core::WorkerMain::new().run();
                Arc::new(ForkServer::new())
            }
            Self::Fork => {
                let fork = Fork::new();
                fork.prepare_with(jobs::work).expect("no threads yet");
                Arc::new(fork)
            }
        }
    }

    /// The one that a bystander was started for.
    pub(crate) fn of_bystander() -> Self {
        let name = std::env::var(METHOD).expect("set");
        if name == Self::Fork.name() { Self::Fork } else { Self::ForkServer }
    }
}

/// A name, and what to do for a start method.
pub(crate) type Named = (&'static str, fn(Method));

/// A name, a start method, and what to do for it.
pub(crate) type Case = (String, Method, fn(Method));

/// The same for both start methods.
pub(crate) fn for_both(cases: &[Named]) -> Vec<Case> {
    let of =
        |method: Method| cases.iter().map(move |(name, run)| (format!("{}::{name}", method.name()), method, *run));
    of(Method::ForkServer).chain(of(Method::Fork)).collect()
}

/// Set for a bystander: which one.
pub(crate) const ROLE: &str = "POOL_FORK_TEST_ROLE";

/// Set for a bystander: the start method.
const METHOD: &str = "POOL_FORK_TEST_METHOD";

/// Set for a process that runs one case, and for its workers.
const CASE: &str = "POOL_FORK_TEST_CASE";

/// After this long something hangs, even on a busy machine.
const WATCHDOG: Duration = Duration::from_secs(60);

/// The case that this process runs or is a worker of.
pub(crate) fn case() -> String {
    std::env::var(CASE).unwrap_or_default()
}

/// A little of the standard harness's command line: `--list`, `--exact`, and names to filter by.
pub(crate) fn main(cases: &[Case]) {
    if let Ok(name) = std::env::var(CASE) {
        let (_, method, run) = cases.iter().find(|(case, ..)| *case == name).expect("a known case");
        return run(*method);
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| {
        filters.is_empty()
            || filters.iter().any(|filter| if has("--exact") { name == *filter } else { name.contains(*filter) })
    };
    let chosen: Vec<&str> =
        cases.iter().map(|(name, ..)| name.as_str()).filter(|name| wanted(name) && !has("--ignored")).collect();
    if has("--list") {
        chosen.iter().for_each(|name| println!("{name}: test"));
        return;
    }
    if is_emulated() {
        chosen.iter().for_each(|name| println!("test {name} ... ignored, {CANNOT_FORK}"));
        println!("\ntest result: {} ignored", chosen.len());
        return;
    }
    let failed: Vec<&str> = chosen.iter().copied().filter(|name| !passes(name)).collect();
    println!("\ntest result: {} of {} passed; failed: {failed:?}", chosen.len() - failed.len(), chosen.len());
    if !failed.is_empty() {
        std::process::exit(101);
    }
}

fn passes(name: &str) -> bool {
    let program = std::env::current_exe().expect("a path");
    let start = Instant::now();
    let mut child = Command::new(program).env(CASE, name).spawn().expect("the case starts");
    let status = wait(&mut child, WATCHDOG);
    let ok = status == Some(0);
    let verdict = match status {
        Some(_) if ok => "ok".to_owned(),
        Some(code) => format!("FAILED (exit code {code})"),
        None => "HANGS".to_owned(),
    };
    println!("test {name} ... {verdict} ({:.2?})", start.elapsed());
    ok
}

/// The exit code, -1 for a signal; `None` if the child had to be killed.
fn wait(child: &mut Child, limit: Duration) -> Option<i32> {
    let deadline = Instant::now() + limit;
    // The runner may poll: no case's timing depends on it.
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            return Some(status.code().unwrap_or(-1));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// Longer than anything takes; a case that waits in vain fails by its own message before the watchdog comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A started worker and the way its exit is reported.
pub(crate) struct Started {
    pub(crate) worker: Box<dyn Worker>,
    pub(crate) exit: Receiver<ExitReport>,
}

impl Started {
    /// Waits for the report, and makes sure that there is only one.
    pub(crate) fn report(&self) -> ExitReport {
        let report = self.exit.recv_timeout(PATIENCE).expect("the exit is reported");
        assert!(self.exit.recv().is_err(), "and once only");
        report
    }
}

/// Starts a worker that does `job`.
pub(crate) fn start(
    spawner: &dyn Spawner,
    job: &str,
    bytes: &[u8],
    handles: Vec<Handle>,
) -> Result<Started, SpawnError> {
    let (tell, exit) = mpsc::channel();
    let ticket = Ticket { transport: job.to_owned(), bytes: bytes.to_vec(), handles };
    // A case may have stopped to wait.
    let on_exit = Box::new(move |report| drop(tell.send(report)));
    spawner.spawn(ticket, on_exit).map(|worker| Started { worker, exit })
}

/// Starts a worker with one end of a pipe as its first handle.
pub(crate) fn start_with_pipe(spawner: &dyn Spawner, job: &str, bytes: &[u8]) -> (Started, PipeReader) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    (start(spawner, job, bytes, vec![writer.into()]).expect("started"), reader)
}

/// Starts a worker that has said it is up.
pub(crate) fn start_up(spawner: &dyn Spawner, job: &str) -> (Started, PipeReader) {
    let (started, mut reader) = start_with_pipe(spawner, job, b"");
    assert_eq!(read_some(&mut reader, 2), "up");
    (started, reader)
}

/// Everything until the end, or a failure if that does not come.
pub(crate) fn read_all(mut reader: impl Read + Send + 'static) -> String {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let result = reader.read_to_string(&mut text).map(|_| text);
        let _ = tell.send(result);
    });
    told.recv_timeout(PATIENCE).expect("the end comes").expect("it can be read")
}

/// The next `count` bytes.
pub(crate) fn read_some(reader: &mut impl Read, count: usize) -> String {
    let mut bytes = vec![0; count];
    reader.read_exact(&mut bytes).expect("so many bytes");
    String::from_utf8(bytes).expect("text")
}

/// This program as a bystander.
pub(crate) fn bystander(role: &str, method: Method) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.env(ROLE, role).env(METHOD, method.name()).env_remove(CASE);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}
