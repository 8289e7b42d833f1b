//! The laws of `pool_core::spawner`, held against these start methods. Where nothing can be forked, there is
//! nothing to judge.

#[cfg(unix)]
fn main() {
    use pool_spawn_fork::{Fork, ForkServer, ForkServerEntry};
    use xtests::processes::is_emulated;
    use xtests::runner::CANNOT_FORK;
    use xtests::spawner::Candidate;

    if is_emulated() {
        println!("skipped: {CANNOT_FORK}");
        return;
    }
    xtests::spawner::main(&[
        Candidate::new("forkserver", ForkServer::new).entry(ForkServerEntry),
        Candidate::new("fork", Fork::new),
    ]);
}

#[cfg(not(unix))]
fn main() {
    println!("skipped: no process can be forked here");
}
