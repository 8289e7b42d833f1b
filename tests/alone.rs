//! What is compiled in works, alone or with others: run with each pair of features by itself, this shows that none
//! leans on another (`.ci/run` does that).

use std::time::Duration;

use process_pool::context::ContextError;
use process_pool::{BuildError, Context, Executor, Shutdown, TaskError, available};

const START_METHODS: [(&str, bool); 3] = [
    ("exec", cfg!(feature = "exec")),
    ("forkserver", cfg!(all(unix, feature = "forkserver"))),
    ("fork", cfg!(all(unix, feature = "fork"))),
];

const TRANSPORTS: [(&str, bool); 3] = [
    ("pipe", cfg!(feature = "pipe")),
    ("ipc", cfg!(feature = "ipc")),
    ("shm", cfg!(all(any(target_os = "linux", target_os = "android"), feature = "shm"))),
];

/// Every context that there is, and whether it is compiled in.
fn contexts() -> impl Iterator<Item = (String, bool)> {
    START_METHODS.into_iter().flat_map(|(method, has_method)| {
        TRANSPORTS.map(|(way, has_way)| (format!("{method}+{way}"), has_method && has_way))
    })
}

fn square(n: u64) -> u64 {
    n * n
}

/// One process for each context: Fork wants one that has no threads yet.
fn main() {
    process_pool::worker_main().task("double", |n: u64| n * 2).run();
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    if let Some(context) = args.next().filter(|arg| arg.contains('+')) {
        return works(&context);
    }
    let expected: Vec<String> = contexts().filter(|(_, is_in)| *is_in).map(|(name, _)| name).collect();
    assert_eq!(available(), expected);
    for (name, is_in) in contexts() {
        if is_in && name.starts_with("fork") && is_emulated() {
            println!("skipped: {name}: the emulator has a thread in a process, which so cannot be forked");
        } else if is_in {
            let program = std::env::current_exe().expect("a path");
            let status = std::process::Command::new(program).arg(&name).status().expect("it runs");
            assert!(status.success(), "{name}: {status}");
        } else {
            is_missing(&name);
        }
    }
    the_default_is_the_same_whatever_is_compiled_in();
    println!("{} of 9 contexts work: {}", expected.len(), expected.join(", "));
}

/// Whether another program plays the processor for this one.
fn is_emulated() -> bool {
    std::fs::read_link("/proc/thread-self/exe")
        .is_ok_and(|program| program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("qemu-")))
}

fn works(name: &str) {
    let context: Context = name.parse().expect("a known name");
    let patience = Duration::from_secs(30);
    let pool =
        Executor::builder().max_workers(2).context(context).start_deadline(patience).build().expect("a pool");
    assert_eq!(pool.context(), name);
    assert_eq!(pool.submit(square, 12).expect("accepted").result().expect("a result"), 144);
    let squares: Vec<u64> = pool.map(square, 0..100).collect::<Result<_, _>>().expect("results");
    assert_eq!(squares, (0..100).map(square).collect::<Vec<_>>());
    let doubled: u64 = pool.submit_named("double", 21_u64).expect("accepted").result().expect("a result");
    assert_eq!(doubled, 42);
    let lost = pool.submit(|()| std::process::abort(), ()).expect("accepted").result();
    assert!(matches!(lost, Err::<(), _>(TaskError::WorkerLost(_))), "{lost:?}");
    assert_eq!(pool.submit(square, 3).expect("accepted").result().expect("it is replaced"), 9);
    pool.shutdown(Shutdown::default());
    assert_eq!(pool.workers(), 0);
}

/// The name is known, and what is missing is the feature of that name.
fn is_missing(name: &str) {
    let context: Context = name.parse().expect("a known name");
    let (method, way) = name.split_once('+').expect("both");
    let has_method = START_METHODS.contains(&(method, true));
    let missing = if has_method { way } else { method };
    let error = match Executor::builder().context(context).build() {
        Err(BuildError::Context(error)) => error,
        other => panic!("{name}: {other:?}"),
    };
    let says = if is_here(missing) {
        assert!(matches!(error, ContextError::NotCompiledIn { .. }), "{name}: {error:?}");
        format!("the feature `{missing}`")
    } else {
        assert!(matches!(error, ContextError::NotHere { .. }), "{name}: {error:?}");
        format!("`{missing}` on this system")
    };
    assert!(error.to_string().contains(&says), "{error}");
}

/// Whether this system has it, if it is compiled in.
fn is_here(name: &str) -> bool {
    let (of_unix, of_linux) = (["fork", "forkserver"].contains(&name), name == "shm");
    (cfg!(unix) || !of_unix) && (cfg!(any(target_os = "linux", target_os = "android")) || !of_linux)
}

fn the_default_is_the_same_whatever_is_compiled_in() {
    let transport = if cfg!(any(target_os = "linux", target_os = "android")) { "shm" } else { "pipe" };
    let usual = format!("exec+{transport}");
    match Executor::new() {
        Ok(pool) => assert_eq!(pool.context(), usual),
        Err(BuildError::Context(ContextError::NotCompiledIn { name, .. })) => {
            assert!(name == "exec" || name == transport, "{name}");
            assert!(!available().contains(&usual));
        }
        Err(error) => panic!("{error:?}"),
    }
}
