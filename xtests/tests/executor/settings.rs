//! Worker processes that are not to be like their parent.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

#[cfg(unix)]
use process_pool::error::Exit;
use process_pool::error::{BreakReason, Cause, StartError};
use process_pool::spawn::Attach;
#[cfg(unix)]
use process_pool::spawn::ForkServer;
use process_pool::{BuildError, Context, Executor, TaskError, WorkerSettings};
use xtests::calls::{exit, lost, pid, run, submit};
use xtests::processes::is_wine;
use xtests::runner::{Subject, skip};

/// A variable that no process has by itself.
const OWN: &str = "XTESTS_SETTING";

/// One that each case has, and so its workers.
const INHERITED: &str = "RUST_BACKTRACE";

fn pool(subject: &Subject, settings: WorkerSettings) -> Executor {
    built(subject, settings).expect("a pool")
}

fn built(subject: &Subject, settings: WorkerSettings) -> Result<Executor, BuildError> {
    subject.builder().max_workers(1).worker_settings(settings).build()
}

/// For calls: what the environment says.
fn variable(name: String) -> Option<String> {
    std::env::var(name).ok()
}

/// For calls: the whole of it.
fn variables((): ()) -> BTreeMap<String, String> {
    std::env::vars().collect()
}

fn folder((): ()) -> PathBuf {
    std::env::current_dir().expect("there is one")
}

pub(crate) fn workers_have_the_environment_that_is_asked_for(subject: &Subject) {
    assert!(std::env::var_os(INHERITED).is_some() && std::env::var_os(OWN).is_none());
    let settings =
        WorkerSettings::new().env(OWN, "one").env(OWN, "a b=c").env_remove(INHERITED).env_remove("NONE");
    let pool = pool(subject, settings);
    for _ in 0..2 {
        assert_eq!(run(&pool, variable, OWN.to_owned()).as_deref(), Some("a b=c"));
        assert_eq!(run(&pool, variable, INHERITED.to_owned()), None);
        let others = std::env::vars().filter(|(name, _)| name != INHERITED && !name.starts_with("PROCESS_POOL"));
        let theirs = run(&pool, variables, ());
        others.for_each(|(name, value)| assert_eq!(theirs.get(&name), Some(&value), "{name}"));
        // Whoever takes a worker's place has it too.
        lost(submit(&pool, exit, 0).result());
    }
    assert!(std::env::var_os(INHERITED).is_some() && std::env::var_os(OWN).is_none(), "the parent has its own");
}

pub(crate) fn an_environment_can_be_cleared(subject: &Subject) {
    if cfg!(windows) {
        skip("a program without any environment may not even start there");
    }
    let pool = pool(subject, WorkerSettings::new().env("LOST", "1").env_clear().env(OWN, ""));
    let mut theirs = run(&pool, variables, ());
    // What the start method says itself.
    theirs.retain(|name, _| !name.starts_with("PROCESS_POOL"));
    assert_eq!(theirs, BTreeMap::from([(OWN.to_owned(), String::new())]));
}

pub(crate) fn workers_are_in_the_folder_that_is_asked_for(subject: &Subject) {
    let own = std::env::current_dir().expect("there is one");
    let wanted = fs::canonicalize(&subject.dir).expect("it is there");
    let pool = pool(subject, WorkerSettings::new().current_dir(&subject.dir));
    for _ in 0..2 {
        assert_eq!(fs::canonicalize(run(&pool, folder, ())).expect("it is there"), wanted);
        lost(submit(&pool, exit, 0).result());
    }
    assert_eq!(std::env::current_dir().expect("there is one"), own);
}

/// The last words of a pool that gave up.
#[track_caller]
fn reason(pool: &Executor) -> StartError {
    let error = submit(pool, pid, ()).result().expect_err("no worker comes up");
    let TaskError::Broken(broken) = error else { panic!("{error:?}") };
    match &*broken.reason {
        BreakReason::TooManyFailures { last, .. } => last.clone(),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn a_folder_that_is_gone_is_named(subject: &Subject) {
    let folder = subject.dir.join("folder");
    fs::create_dir(&folder).expect("created");
    let pool = pool(subject, WorkerSettings::new().current_dir(&folder));
    fs::remove_dir(&folder).expect("removed");
    let text = reason(&pool).to_string();
    assert!(text.contains("current folder that is asked for"), "{text}");
}

pub(crate) fn a_setting_that_a_worker_cannot_take_on_breaks_the_pool_and_is_named(subject: &Subject) {
    if cfg!(windows) {
        skip("there are no such settings");
    }
    // More than any user may have.
    match reason(&pool(subject, WorkerSettings::new().open_files_max(1 << 40))) {
        StartError::Setting { setting, why } => {
            assert_eq!(setting, "limit of open files");
            assert!(!why.is_empty());
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(built: Result<Executor, BuildError>, name: &str) {
    match built.map(drop) {
        Err(BuildError::Setting { setting, .. }) => assert_eq!(setting, name),
        other => panic!("{name} is refused: {other:?}"),
    }
}

pub(crate) fn settings_that_cannot_be_are_refused(subject: &Subject) {
    refused(built(subject, WorkerSettings::new().env("A=B", "c")), "environment");
    refused(built(subject, WorkerSettings::new().current_dir(subject.dir.join("nowhere"))), "current folder");
    refused(built(subject, WorkerSettings::new().affinity([])), "affinity");
    if cfg!(windows) {
        refused(built(subject, WorkerSettings::new().nice(1)), "niceness");
        refused(built(subject, WorkerSettings::new().open_files_max(100)), "limit of open files");
    }
    let large = WorkerSettings::new().env(OWN, "x".repeat(50_000));
    if subject.start_method() == "exec" {
        if !cfg!(windows) {
            assert_eq!(
                run(&pool(subject, large), variable, OWN.to_owned()).map(|value| value.len()),
                Some(50_000)
            );
        }
    } else {
        refused(built(subject, large), "environment");
    }
    let attached = || Context::new(Attach::new().expect("a door"), process_pool::carry::Pipe::new());
    let settings = WorkerSettings::new().env(OWN, "one");
    refused(Executor::builder().context(attached()).worker_settings(settings).build(), "kind of settings");
    Executor::builder()
        .context(attached())
        .worker_settings(WorkerSettings::new())
        .build()
        .expect("none is asked for");
}

#[cfg(not(unix))]
mod unix {
    use super::*;

    pub(crate) fn not_here(_: &Subject) {
        skip("there are no such settings")
    }

    pub(crate) use not_here as workers_are_as_nice_as_is_asked_for;
    pub(crate) use not_here as workers_have_the_limits_that_are_asked_for;
    pub(crate) use not_here as pools_of_one_fork_server_have_settings_of_their_own;
}

#[cfg(unix)]
mod unix {
    use rustix::process::{Resource, getpriority_process, getrlimit};

    use super::*;

    fn niceness((): ()) -> i32 {
        getpriority_process(None).expect("anybody may ask")
    }

    pub(crate) fn workers_are_as_nice_as_is_asked_for(subject: &Subject) {
        let own = niceness(());
        assert_eq!(run(&pool(subject, WorkerSettings::new().nice(3)), niceness, ()), (own + 3).min(19));
        assert_eq!(niceness(()), own);
    }

    fn limits((): ()) -> [Option<u64>; 3] {
        [Resource::Nofile, Resource::Core, Resource::Cpu].map(|limit| getrlimit(limit).current)
    }

    pub(crate) fn workers_have_the_limits_that_are_asked_for(subject: &Subject) {
        let own = limits(());
        let settings = WorkerSettings::new().open_files_max(77).core_size_max(0);
        let pool = pool(subject, settings.cpu_time_max(Duration::from_millis(100_500)));
        assert_eq!(run(&pool, limits, ()), [Some(77), Some(0), Some(101)]);
        assert_eq!(limits(()), own);
    }

    pub(crate) fn pools_of_one_fork_server_have_settings_of_their_own(subject: &Subject) {
        if subject.start_method() != "forkserver" {
            skip("there is no server to share");
        }
        let server = ForkServer::new();
        let context = || subject.context.parse::<Context>().expect("known").start_method(server.clone());
        let of = |settings| {
            let builder = Executor::builder().context(context()).max_workers(1).worker_settings(settings);
            builder.build().expect("a pool")
        };
        let one = of(WorkerSettings::new().env(OWN, "1").current_dir(&subject.dir).nice(1));
        let two = of(WorkerSettings::new().env(OWN, "2"));
        let none = of(WorkerSettings::new());
        let values = [&one, &two, &none].map(|pool| run(pool, variable, OWN.to_owned()));
        assert_eq!(values, [Some("1".to_owned()), Some("2".to_owned()), None]);
        assert_ne!(run(&one, folder, ()), run(&two, folder, ()));
        assert_eq!(run(&none, niceness, ()), niceness(()));
    }
}

pub(crate) use unix::*;

fn spin((): ()) {
    loop {
        std::hint::spin_loop();
    }
}

pub(crate) fn a_worker_that_uses_up_its_time_costs_its_call(subject: &Subject) {
    let pool = pool(subject, WorkerSettings::new().cpu_time_max(Duration::from_secs(1)));
    run(&pool, pid, ());
    if is_wine() {
        skip("Wine takes limits of jobs, and does not hold to them: the worker has its own, and works");
    }
    let exit = lost(submit(&pool, spin, ()).result()).exit;
    #[cfg(unix)]
    assert_eq!(exit, Exit::Signal(libc::SIGXCPU));
    #[cfg(windows)]
    assert_eq!(exit.cause(), Cause::Killed, "{exit}");
    run(&pool, pid, ());
}

fn allocate(bytes: usize) -> usize {
    std::hint::black_box(Vec::<u8>::with_capacity(bytes)).capacity()
}

pub(crate) fn a_worker_that_takes_too_much_memory_costs_its_call(subject: &Subject) {
    if cfg!(target_vendor = "apple") {
        skip("this system does not hold to such a limit");
    }
    let pool = pool(subject, WorkerSettings::new().address_space_max(4 << 30));
    assert_eq!(run(&pool, allocate, 1 << 20), 1 << 20);
    if is_wine() {
        skip("Wine takes limits of jobs, and does not hold to them: the worker has its own, and works");
    }
    assert_eq!(lost(submit(&pool, allocate, 8 << 30).result()).exit.cause(), Cause::Abort);
    run(&pool, pid, ());
}

#[cfg(target_os = "linux")]
pub(crate) fn workers_run_on_the_processors_that_are_asked_for(subject: &Subject) {
    fn processors((): ()) -> Vec<usize> {
        let set = rustix::thread::sched_getaffinity(None).expect("anybody may ask");
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|processor| set.is_set(*processor)).collect()
    }

    let own = processors(());
    let last = *own.last().expect("at least one");
    assert_eq!(run(&pool(subject, WorkerSettings::new().affinity([last])), processors, ()), [last]);
    assert_eq!(processors(()), own);
    // One that no machine has.
    let error = reason(&pool(subject, WorkerSettings::new().affinity([rustix::thread::CpuSet::MAX_CPU - 1])));
    assert!(matches!(&error, StartError::Setting { setting, .. } if setting == "affinity"), "{error:?}");
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn workers_run_on_the_processors_that_are_asked_for(subject: &Subject) {
    let built = built(subject, WorkerSettings::new().affinity([0]));
    if cfg!(windows) {
        run(&built.expect("a pool"), pid, ());
    } else {
        refused(built, "affinity");
    }
}
