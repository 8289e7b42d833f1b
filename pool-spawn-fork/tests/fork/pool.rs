//! A whole pool: executor, pipes and forked workers.

use pool_core::context::{StartMethod, Way};
use pool_core::{BuildError, Context, Executor, TaskError, WorkerMain};
use pool_spawn_fork::{Fork, ForkServer, ForkServerEntry};
use pool_transport_pipe::Pipe;

use crate::harness::{self, Method, Named};

pub(crate) fn all() -> Vec<Named> {
    vec![(POOL, a_pool_works_and_leaves_nothing), (BY_NAME, what_init_made_known_has_a_name)]
}

const POOL: &str = "a_pool_works_and_leaves_nothing";
const BY_NAME: &str = "what_init_made_known_has_a_name";

/// Whether this process runs such a case, or is a worker of it.
pub(crate) fn is_one() -> bool {
    let case = harness::case();
    case.ends_with(POOL) || case.ends_with(BY_NAME)
}

/// What `process_pool::init()` does. Fork does without it.
pub(crate) fn init() {
    if harness::case() == format!("fork::{POOL}") {
        return;
    }
    WorkerMain::new()
        .start_method(StartMethod {
            name: "forkserver",
            make: || Box::new(ForkServer::new()),
            entry: Some(Box::new(ForkServerEntry)),
        })
        .start_method(StartMethod { name: "fork", make: || Box::new(Fork::new()), entry: None })
        .transport(Way { name: "pipe", make: || Box::new(Pipe::new()) })
        .run();
}

fn square(n: u64) -> u64 {
    n * n
}

fn pid((): ()) -> u32 {
    std::process::id()
}

fn abort((): ()) {
    std::process::abort();
}

fn exit(code: i32) {
    std::process::exit(code);
}

fn a_pool_works_and_leaves_nothing(method: Method) {
    #[cfg(target_os = "linux")]
    let before = crate::linux::descriptors();
    let context = match method {
        Method::ForkServer => Context::new(ForkServer::new(), Pipe::new()),
        Method::Fork => Context::new(Fork::new(), Pipe::new()),
    };
    let pool = Executor::builder().max_workers(3).context(context).build().expect("built");
    let handles: Vec<_> = (0..1000).map(|n| pool.submit(square, n).expect("accepted")).collect();
    for (n, handle) in (0..1000).zip(handles) {
        assert_eq!(handle.result().expect("a result"), n * n);
    }
    // Lost in the middle of a call, between two, and by its own will.
    let lost = pool.submit(abort, ()).expect("accepted").result();
    assert!(matches!(lost, Err(TaskError::WorkerLost(_))), "{lost:?}");
    let lost = pool.submit(exit, 0).expect("accepted").result();
    assert!(matches!(lost, Err(TaskError::WorkerLost(_))), "{lost:?}");
    let victim = pool.submit(pid, ()).expect("accepted").result().expect("a pid");
    let number = rustix::process::Pid::from_raw(victim as i32).expect("a pid");
    rustix::process::kill_process(number, rustix::process::Signal::KILL).expect("killed");
    let squares: Result<Vec<_>, _> = pool.map(square, 0..1000).collect();
    assert_eq!(squares.map(|all| all.len()).ok(), Some(1000));
    let pids: Vec<u32> = pool.map(pid, [(); 30]).map(|pid| pid.expect("a pid")).collect();
    assert!(!pids.contains(&victim) && !pids.contains(&std::process::id()));
    drop(pool);
    #[cfg(target_os = "linux")]
    {
        crate::linux::settles(|| crate::linux::threads() == 1);
        crate::linux::settles(|| crate::linux::descriptors() == before);
        crate::linux::settles(|| crate::linux::children().is_empty());
        crate::linux::settles(|| !pids.iter().any(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists()));
    }
}

fn what_init_made_known_has_a_name(method: Method) {
    let context: Context = format!("{}+pipe", method.name()).parse().expect("a known name");
    let pool = Executor::builder().max_workers(1).context(context).build().expect("built");
    assert_eq!(pool.submit(square, 12).expect("accepted").result().expect("a result"), 144);
    // By now the pool has threads.
    let context: Context = "fork+pipe".parse().expect("a known name");
    let refused = Executor::builder().context(context).build();
    if cfg!(target_os = "linux") {
        let Err(BuildError::Spawn(error)) = refused.map(drop) else { panic!("it has threads") };
        assert!(error.to_string().contains("threads"), "{error}");
    }
}
