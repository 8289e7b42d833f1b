//! The laws of `pool_core::spawner`, held against this start method.

use pool_spawn_exec::{Exec, ExecEntry};
use xtests::spawner::Candidate;

fn main() {
    xtests::spawner::main(&[Candidate::new("exec", Exec::new).entry(ExecEntry)]);
}
