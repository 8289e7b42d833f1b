//! Who knocks at the door and is no worker: of another user, talking nonsense, or saying nothing.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use process_pool::spawn::{Attach, Invitation};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use xtests::cases;
use xtests::processes::eventually_within;
use xtests::runner::{Case, Subject, skip};

use crate::kit::{self, Hand, PATIENCE, PROMPTLY, asks_for_pid, settled};

pub(crate) const CASES: &[Case] = cases![
    a_process_of_another_user_is_refused_whatever_it_shows,
    a_worker_does_not_join_a_pool_of_another_user,
    a_door_in_a_directory_is_out_of_the_reach_of_others_and_goes_with_the_pool,
    a_right_token_alone_does_not_do,
    nonsense_is_refused_at_once,
    another_version_is_refused_and_told_of_both,
    who_says_nothing_keeps_nobody_out_and_is_dropped_in_time,
    who_stops_in_the_middle_of_the_greeting_is_dropped_in_time,
    who_talks_while_waiting_is_dropped,
    nothing_of_the_door_is_inherited,
    a_door_without_descriptors_opens_when_there_are_some,
    a_door_closes_even_where_no_descriptor_may_be_waited_for,
];

/// In the environment of a process that acts the stranger: an invitation.
pub(crate) const STRANGER: &str = "ATTACH_STRANGER";

/// A greeting as workers send it, laid out here once more: a test that used the library's own encoding would not
/// notice if that changed without a new version.
fn greeting(invitation: &str, version: u32) -> Vec<u8> {
    let (_, token) = invitation.rsplit_once(':').expect("a token");
    let token = token
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("digits"));
    let mut bytes = b"\x89pjoin\r\n".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(token);
    bytes.extend([0, 0]);
    bytes
}

fn connect(invitation: &str) -> UnixStream {
    let (name, _) = invitation.rsplit_once(':').expect("a name");
    let name = name.strip_prefix('@').expect("an abstract name");
    let address = SocketAddr::from_abstract_name(name).expect("a name");
    let stream = UnixStream::connect_addr(&address).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    stream
}

/// What the door says before it closes: the reason of a refusal, or nothing.
fn answer(mut stream: &UnixStream) -> Option<String> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        // It was closed with something unread in it.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the door stays open and silent: {error}"),
    }
    match bytes.as_slice() {
        [] => None,
        [2, low, high, why @ ..] if why.len() == usize::from(u16::from_le_bytes([*low, *high])) => {
            Some(String::from_utf8_lossy(why).into_owned())
        }
        other => panic!("this is no refusal: {other:?}"),
    }
}

/// A stranger's whole life: shows an invitation as a worker would, and tells what came of it.
pub(crate) fn knock(invitation: &str) {
    let stream = connect(invitation);
    // It may be refused before it has said anything.
    let _ = (&stream).write_all(&greeting(invitation, 1));
    println!("{}", answer(&stream).unwrap_or_default());
}

const NOBODY: u32 = 65534;

/// Starts `command` as nobody, or skips the case.
#[track_caller]
fn as_nobody(mut command: std::process::Command) -> std::process::Output {
    if !rustix::process::geteuid().is_root() {
        skip("it takes root to start a process of another user");
    }
    command.uid(NOBODY).gid(NOBODY).stdin(Stdio::null());
    match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => skip("nobody else may run this program"),
        Err(error) => panic!("{error}"),
    }
}

fn a_process_of_another_user_is_refused_whatever_it_shows(_: &Subject) {
    let (pool, invitations) = kit::pool(1);
    let invitation = invitations.issue().expect("an invitation");
    let mut stranger = kit::program();
    stranger.env(STRANGER, invitation.to_string());
    let output = as_nobody(stranger);
    let why = String::from_utf8_lossy(&output.stdout);
    assert!(why.contains("it belongs to user 65534, and this is one of user 0"), "{why} {output:?}");
    let hand = Hand::starts(&invitation);
    assert_eq!(settled(&asks_for_pid(&pool)).expect("its owner may still use it"), hand.pid());
}

fn a_worker_does_not_join_a_pool_of_another_user(_: &Subject) {
    let (pool, invitations) = kit::pool(1);
    let invitation = invitations.issue().expect("an invitation");
    let mut worker = kit::program();
    worker.env(Invitation::VARIABLE, invitation.to_string());
    let output = as_nobody(worker);
    let why = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{why}");
    assert!(why.contains("this is not our pool") && why.contains("it belongs to user 0"), "{why}");
    let hand = Hand::starts(&invitation);
    assert_eq!(settled(&asks_for_pid(&pool)).expect("a result"), hand.pid());
}

fn listing(directory: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(directory).expect("listed").map(|entry| entry.expect("an entry").path()).collect()
}

fn a_door_in_a_directory_is_out_of_the_reach_of_others_and_goes_with_the_pool(subject: &Subject) {
    let (pool, invitations) = kit::pool_of(Attach::in_directory(&subject.dir).expect("a door"), 1);
    let [directory] = listing(&subject.dir).try_into().expect("one directory");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&directory).expect("it is there").permissions());
    assert_eq!(mode & 0o777, 0o700);
    let invitation = invitations.issue().expect("an invitation");
    let call = asks_for_pid(&pool);
    let mut hand = Hand::starts(&invitation);
    assert_eq!(settled(&call).expect("a result"), hand.pid());
    if rustix::process::geteuid().is_root() {
        let mut worker = kit::program();
        worker.env(Invitation::VARIABLE, invitations.issue().expect("another").to_string());
        let output = as_nobody(worker);
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && why.contains("os error 13"), "{why}");
    }
    drop(pool);
    assert_eq!(listing(&subject.dir), Vec::<std::path::PathBuf>::new());
    assert!(hand.ends_within(PATIENCE).success());
}

fn a_right_token_alone_does_not_do(_: &Subject) {
    let (pool, invitations) = kit::pool(1);
    let invitation = invitations.issue().expect("an invitation");
    let stream = connect(&invitation.to_string());
    (&stream).write_all(&greeting(&invitation.to_string(), 1)).expect("it listens");
    let why = answer(&stream).expect("a reason");
    assert!(why.contains("it runs another program"), "this one does not say what it runs: {why}");
    let hand = Hand::starts(&invitation);
    assert_eq!(settled(&asks_for_pid(&pool)).expect("a result"), hand.pid());
}

fn nonsense_is_refused_at_once(_: &Subject) {
    let (pool, invitations) = kit::pool(1);
    let invitation = invitations.issue().expect("an invitation");
    let long = vec![0x89; 4 << 20];
    let mut too_long = greeting(&invitation.to_string(), 1);
    let len = too_long.len();
    too_long[len - 2..].copy_from_slice(&[0xff, 0xff]);
    let mut too_much = greeting(&invitation.to_string(), 1);
    too_much.push(0);
    for nonsense in [b"x".as_slice(), b"GET / HTTP/1.1\r\n\r\n", b"\x89ppool\r\n", &long, &too_long, &too_much] {
        let stream = connect(&invitation.to_string());
        let start = Instant::now();
        // Nobody listens to all of it.
        let _ = (&stream).write_all(nonsense);
        let why = answer(&stream);
        assert!(why.is_some(), "{} bytes", nonsense.len());
        assert!(start.elapsed() < PROMPTLY, "{:?}", start.elapsed());
    }
    let hand = Hand::starts(&invitation);
    assert_eq!(settled(&asks_for_pid(&pool)).expect("a result"), hand.pid());
}

fn another_version_is_refused_and_told_of_both(_: &Subject) {
    let (_pool, invitations) = kit::pool(1);
    let invitation = invitations.issue().expect("an invitation").to_string();
    let stream = connect(&invitation);
    (&stream).write_all(&greeting(&invitation, 77)).expect("it listens");
    let why = answer(&stream).expect("a reason");
    assert!(why.contains("version 77") && why.contains("version 1"), "{why}");
}

/// More than the door has room for.
const CROWD: usize = 50;

fn who_says_nothing_keeps_nobody_out_and_is_dropped_in_time(_: &Subject) {
    let deadline = Duration::from_secs(1);
    let (pool, invitations) = kit::pool_of(kit::attach().greeting_deadline(deadline), 1);
    let invitation = invitations.issue().expect("an invitation");
    let start = Instant::now();
    let crowd: Vec<_> = (0..CROWD).map(|_| connect(&invitation.to_string())).collect();
    let hand = Hand::starts(&invitation);
    assert_eq!(settled(&asks_for_pid(&pool)).expect("a result"), hand.pid());
    let told = crowd.iter().filter_map(answer).filter(|why| why.contains("in time")).count();
    assert!(told > 0 && told < CROWD, "{told} were told; others had to make room");
    assert!(start.elapsed() >= deadline && start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

fn who_stops_in_the_middle_of_the_greeting_is_dropped_in_time(_: &Subject) {
    let (pool, invitations) = kit::pool_of(kit::attach().greeting_deadline(Duration::from_millis(200)), 1);
    let invitation = invitations.issue().expect("an invitation");
    let whole = greeting(&invitation.to_string(), 1);
    for len in [1, 11, 12, 44, whole.len() - 1] {
        let stream = connect(&invitation.to_string());
        (&stream).write_all(&whole[..len]).expect("it listens");
        let why = answer(&stream).expect("a reason");
        assert!(why.contains("in time"), "{len}: {why}");
    }
    let hand = Hand::starts(&invitation);
    assert_eq!(settled(&asks_for_pid(&pool)).expect("a result"), hand.pid());
}

fn who_talks_while_waiting_is_dropped(_: &Subject) {
    let (pool, invitations) = kit::pool_of(kit::attach().any_program(), 1);
    let invitation = invitations.issue().expect("an invitation").to_string();
    let stream = connect(&invitation);
    (&stream).write_all(&greeting(&invitation, 1)).expect("it listens");
    eventually_within(PATIENCE, "it has joined", || invitations.waiting() == 1);
    (&stream).write_all(b"let me in").expect("it listens");
    assert_eq!(answer(&stream), None);
    assert_eq!(invitations.waiting(), 0);
    assert!(pool.broken().is_none());
}

/// How many descriptors a program has that this process starts.
fn inherited() -> usize {
    let mut list = std::process::Command::new("/bin/ls");
    let output = list.arg("/proc/self/fd").stdin(Stdio::null()).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).lines().count()
}

fn nothing_of_the_door_is_inherited(_: &Subject) {
    let before = inherited();
    let (pool, invitations) = kit::pool(1);
    let mut waits = Hand::starts(&invitations.issue().expect("an invitation"));
    assert_eq!(settled(&asks_for_pid(&pool)).expect("a result"), waits.pid());
    let second = Hand::starts(&invitations.issue().expect("an invitation"));
    eventually_within(PATIENCE, "it has joined", || invitations.waiting() == 1);
    assert_eq!(inherited(), before);
    drop(second);
    drop(pool);
    waits.ends_within(PATIENCE);
}

fn a_door_without_descriptors_opens_when_there_are_some(_: &Subject) {
    if cfg!(target_env = "musl") {
        skip("with this C library a process that has no descriptor left cannot start another");
    }
    let (pool, invitations) = kit::pool(1);
    let invitation = invitations.issue().expect("an invitation");
    let before = getrlimit(Resource::Nofile);
    let mut watcher = Watcher::start();
    // The first free number: all below are taken.
    let free = fs::File::open("/dev/null").expect("opened").as_raw_fd();
    let current = Some(u64::try_from(free).expect("a number"));
    setrlimit(Resource::Nofile, Rlimit { current, maximum: before.maximum }).expect("lowered");
    // It inherits the limit, and may raise it.
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "ulimit -S -n 256; exec \"$0\""]).arg(std::env::current_exe().expect("a path"));
    let hand = Hand::of(command.env(Invitation::VARIABLE, invitation.to_string()));
    // It knocks, and is let in by nobody; then it waits for an answer.
    watcher.waits_until_it_sleeps(hand.pid());
    let call = asks_for_pid(&pool);
    assert!(!call.wait_timeout(Duration::from_millis(250)), "there is no descriptor for it");
    assert_eq!(invitations.waiting(), 0);
    setrlimit(Resource::Nofile, before).expect("raised to what it was");
    assert_eq!(settled(&call).expect("a result"), hand.pid());
}

/// Another process that looks at processes, since this one has no descriptor for that.
struct Watcher(Child);

impl Watcher {
    fn start() -> Self {
        const LOOK: &str = "read -r pid; while read -r line < /proc/$pid/stat; do \
                            case $line in *'(attach'*') S'*) echo asleep; exit;; esac; done";
        let mut shell = std::process::Command::new("/bin/sh");
        shell.args(["-c", LOOK]).stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(shell.spawn().expect("it starts"))
    }

    /// This program sleeps for the first time when it waits for an answer at the door.
    fn waits_until_it_sleeps(&mut self, pid: u32) {
        writeln!(self.0.stdin.as_ref().expect("piped"), "{pid}").expect("written");
        let mut said = String::new();
        self.0.stdout.as_mut().expect("piped").read_to_string(&mut said).expect("read");
        assert_eq!(said, "asleep\n");
        assert!(self.0.wait().expect("waited for").success());
    }
}

/// `poll` refuses more descriptors than a process may have.
fn a_door_closes_even_where_no_descriptor_may_be_waited_for(_: &Subject) {
    let (pool, invitations) = kit::pool(1);
    let mut hand = Hand::starts(&invitations.issue().expect("an invitation"));
    eventually_within(PATIENCE, "it has joined", || invitations.waiting() == 1);
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum: before.maximum }).expect("lowered");
    hand.kill();
    eventually_within(PATIENCE, "it is missed", || invitations.waiting() == 0);
    let start = Instant::now();
    drop(pool);
    assert!(start.elapsed() < PROMPTLY, "{:?}", start.elapsed());
    setrlimit(Resource::Nofile, before).expect("raised to what it was");
    hand.ends_within(PATIENCE);
}
