//! Runs each case in a process of its own, under a watchdog; and what the cases share.

use std::borrow::Cow;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pool_core::transport::{Closed, Link, LinkEvents, Outgoing, Payload, Ticket, Transport};
use pool_transport_ipc::Ipc;

/// A name, and what to do.
pub(crate) type Case = (&'static str, fn());

/// Set for a bystander: which one.
pub(crate) const ROLE: &str = "POOL_IPC_TEST_ROLE";

/// Set for a process that runs one case.
const CASE: &str = "POOL_IPC_TEST_CASE";

/// After this long something hangs, even on a busy machine.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Longer than anything takes; a case that waits in vain fails by its own message before the watchdog comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// A little of the standard harness's command line: `--list`, `--exact`, and names to filter by.
pub(crate) fn main(cases: &[Case]) {
    if let Ok(name) = std::env::var(CASE) {
        let (_, run) = cases.iter().find(|(case, _)| *case == name).expect("a known case");
        return run();
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| {
        filters.is_empty()
            || filters.iter().any(|filter| if has("--exact") { name == *filter } else { name.contains(*filter) })
    };
    let chosen: Vec<&Case> = cases.iter().filter(|(name, _)| wanted(name) && !has("--ignored")).collect();
    if has("--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let failed: Vec<&str> = chosen.iter().map(|(name, _)| *name).filter(|name| !passes(name)).collect();
    println!("\ntest result: {} of {} passed; failed: {failed:?}", chosen.len() - failed.len(), chosen.len());
    if !failed.is_empty() {
        std::process::exit(101);
    }
}

fn passes(name: &str) -> bool {
    let program = std::env::current_exe().expect("a path");
    let start = Instant::now();
    let temp = std::env::temp_dir().join(format!("pool-ipc-{}", std::process::id()));
    fs::create_dir(&temp).expect("a directory");
    let mut child = Command::new(program).env(CASE, name).env("TMPDIR", &temp).spawn().expect("the case starts");
    let status = wait(&mut child, WATCHDOG);
    let left: Vec<PathBuf> = entries(&temp);
    let _ = fs::remove_dir_all(&temp);
    let ok = status == Some(0) && left.is_empty();
    let verdict = match status {
        Some(_) if ok => "ok".to_owned(),
        Some(0) => format!("FAILED (left behind: {left:?})"),
        Some(code) => format!("FAILED (exit code {code})"),
        None => "HANGS".to_owned(),
    };
    println!("test {name} ... {verdict} ({:.2?})", start.elapsed());
    ok
}

/// The exit code, -1 for a signal; `None` if the child had to be killed.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Option<i32> {
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

pub(crate) fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()).collect()
}

/// Waits until something is so that nothing announces.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// This program as a bystander, which is told `what` in an argument. What is said is a few bytes: no handles.
pub(crate) fn bystander(role: &str, what: &[u8]) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.env(ROLE, role).env_remove(CASE).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.arg(to_hex(what)).spawn().expect("the bystander starts")
}

/// What a bystander was told.
pub(crate) fn told() -> Vec<u8> {
    from_hex(&std::env::args().nth(1).expect("an argument"))
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().as_chunks::<2>().0;
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    digits.iter().map(|pair| byte(pair).expect("hex digits")).collect()
}

/// A line that a bystander says.
pub(crate) fn line(child: &mut Child) -> String {
    let mut out = child.stdout.take().expect("piped");
    let (mut text, mut byte) = (String::new(), [0]);
    while out.read(&mut byte).expect("it can be read") == 1 && byte != *b"\n" {
        text.push(char::from(byte[0]));
    }
    child.stdout = Some(out);
    text
}

/// What a link tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Frame(Vec<u8>),
    Closed(Closed),
}

struct Teller(Mutex<Sender<Event>>);

impl Teller {
    fn tell(&self, event: Event) {
        // A case that is over does not listen.
        let _ = self.0.lock().expect("no panic").send(event);
    }
}

impl LinkEvents for Teller {
    fn arriving(&self) {}

    fn frame(&self, frame: Cow<'_, [u8]>) {
        self.tell(Event::Frame(frame.into_owned()));
    }

    fn drained(&self) {}

    fn closed(&self, why: Closed) {
        self.tell(Event::Closed(why));
    }
}

/// A link, and what it tells.
pub(crate) struct Opened {
    pub(crate) link: Box<dyn Link>,
    pub(crate) events: Receiver<Event>,
    pub(crate) ticket: Ticket,
}

pub(crate) fn open() -> Opened {
    let (teller, events) = mpsc::channel();
    let (link, ticket) = Ipc::new().open(Arc::new(Teller(Mutex::new(teller)))).expect("opens");
    Opened { link, events, ticket }
}

impl Opened {
    pub(crate) fn send(&self, frame: &[u8]) {
        self.link.send(Outgoing { seq: None, head: frame, body: &Payload::EMPTY });
        self.link.flush();
    }

    #[track_caller]
    pub(crate) fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("something happens")
    }
}

/// A ticket of these bytes.
pub(crate) fn ticket(bytes: Vec<u8>) -> Ticket {
    Ticket { transport: "ipc".to_owned(), bytes, handles: Vec::new() }
}
