//! The laws of `pool_core::spawner`, held against these start methods. Where nothing can be forked, there is
//! nothing to judge.

#[cfg(unix)]
fn main() {
    use pool_spawn_fork::{Fork, ForkServer, ForkServerEntry};
    use xtests::spawner::Candidate;

    xtests::spawner::main(&[
        Candidate::new("forkserver", ForkServer::new).entry(ForkServerEntry),
        Candidate::new("fork", Fork::new),
    ]);
}

#[cfg(not(unix))]
fn main() {
    println!("skipped: no process can be forked here");
}
