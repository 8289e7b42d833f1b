//! ForkServer and Fork with real processes: the worker program is this test program itself.
//!
//! The same file is run in four ways: as the runner (by `cargo test`), as one case in a process of its own (by
//! the runner, under a watchdog, so that nothing can hang and no case sees another's descriptors or threads), as a
//! fork server or worker, and as a bystander that a case needs (a parent to be killed, a program that inherited
//! the marker). Most cases are run for both start methods.

#[cfg(unix)]
mod cases;
#[cfg(unix)]
mod harness;
#[cfg(unix)]
mod jobs;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(unix)]
mod pool;
#[cfg(target_os = "linux")]
mod servers;

#[cfg(unix)]
fn main() {
    use pool_core::spawner::{Arrival, Entry};

    // Before the fork server forks, and before Fork's copy is made.
    jobs::roll_the_dice();
    pool_spawn_fork::after_fork(jobs::roll_the_other_dice);
    jobs::start_threads_too_early();
    #[cfg(target_os = "linux")]
    jobs::start_processes_early();
    if pool::is_one() {
        pool::init();
    } else {
        for entry in [&pool_spawn_fork::ForkServerEntry as &dyn Entry, &pool_spawn_exec::ExecEntry] {
            match entry.arrive() {
                Arrival::Worker { ticket, last_words } => std::process::exit(jobs::work(ticket, last_words)),
                Arrival::Unusable(why) => {
                    eprintln!("unusable: {why}");
                    std::process::exit(97);
                }
                Arrival::NotAWorker => {}
            }
        }
    }
    if let Ok(role) = std::env::var(harness::ROLE) {
        return jobs::play(&role);
    }
    let mut all = harness::for_both(&cases::all());
    all.extend(harness::for_both(&pool::all()));
    #[cfg(target_os = "linux")]
    {
        all.extend(harness::for_both(&linux::all()));
        all.extend(harness::for_both(&servers::all()));
        all.extend(servers::special());
    }
    harness::main(&all);
}

/// Elsewhere there is nothing to test but that it says so.
#[cfg(not(unix))]
fn main() {
    use pool_core::{BuildError, Context, Executor};
    use pool_spawn_fork::{Fork, ForkServer};
    use pool_transport_pipe::Pipe;

    let contexts = [Context::new(ForkServer::new(), Pipe::new()), Context::new(Fork::new(), Pipe::new())];
    for context in contexts {
        let built = Executor::builder().context(context).build();
        assert!(matches!(built.map(drop), Err(BuildError::Spawn(_))));
    }
}
