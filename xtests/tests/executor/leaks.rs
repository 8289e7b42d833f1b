//! What a pool holds: as much after ten thousand calls as after one, and nobody else a part of it.

use std::collections::BTreeSet;

use process_pool::{Context, Executor};
use xtests::calls::{exit, lost, run, same, submit};
use xtests::processes::{Held, eventually, parent_of};
use xtests::runner::{Subject, skip};

use crate::tools::all_there;

/// Who starts the workers, all of which are there then.
fn starter(pool: &Executor) -> u32 {
    parent_of(all_there(pool)[0]).expect("it is there")
}

/// Neither in this process nor in the one that forks. For pools it is `two_hundred_pools_come_and_go` that
/// looks.
pub(crate) fn calls_and_deaths_leave_no_descriptor_and_no_thread(subject: &Subject) {
    let pool = subject.pool(2);
    let at_first = starter(&pool);
    let look = || (Held::here(), Held::of(at_first));
    let before = look();
    let results = pool.map(same, 0..10_000).collect::<Result<Vec<_>, _>>().expect("results");
    assert_eq!(results, (0..10_000).collect::<Vec<_>>());
    eventually("there is as much as before the calls", || look() == before);
    for n in 0..200 {
        lost(submit(&pool, exit, n % 100).result());
    }
    assert_eq!(starter(&pool), at_first);
    eventually("there is as much as before the deaths", || look() == before);
}

/// The pipes and sockets that this process has open.
fn own_pipes_and_sockets((): ()) -> BTreeSet<String> {
    let all = std::fs::read_dir("/proc/self/fd").expect("listed").flatten();
    let targets = all.filter_map(|fd| std::fs::read_link(fd.path()).ok()?.to_str().map(str::to_owned));
    // What else there is has no name of its own.
    targets.filter(|target| target.starts_with("pipe:[") || target.starts_with("socket:[")).collect()
}

/// A worker that held the other end of another's pipe would keep its end from being seen.
pub(crate) fn a_forked_worker_has_nothing_of_another_pool(subject: &Subject) {
    if subject.transport() == "ipc" {
        skip("ipc-channel keeps its descriptors to itself; nothing depends on the end of one");
    }
    let others = own_pipes_and_sockets(());
    let pool = subject.pool(2);
    all_there(&pool);
    let of_the_pool: BTreeSet<_> = own_pipes_and_sockets(()).difference(&others).cloned().collect();
    assert!(of_the_pool.len() >= 2 * 3, "two pipes and a lifeline for each worker: {of_the_pool:?}");
    let context: Context = xtests::context::named("fork+pipe");
    let copy = Executor::builder().max_workers(1).context(context).build().expect("a pool");
    let of_the_copy = run(&copy, own_pipes_and_sockets, ());
    let both: Vec<_> = of_the_pool.intersection(&of_the_copy).collect();
    assert!(both.is_empty(), "{both:?}");
}

/// How many descriptors the kernel has laid this process's table out for.
fn descriptor_room() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("it is there");
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).expect("Linux says");
    size.trim().parse().expect("a number")
}

/// A table that grows under several threads makes whoever needs the descriptor wait for some ms.
pub(crate) fn a_program_that_begins_with_init_has_room_for_descriptors(_: &Subject) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let wanted = limit.unwrap_or(1024).min(1024);
    assert!(descriptor_room() >= wanted, "{} of {wanted}", descriptor_room());
}

fn own_threads((): ()) -> usize {
    std::fs::read_dir("/proc/self/task").expect("listed").count()
}

/// So a call may fork, or change what only a process without threads may.
pub(crate) fn a_worker_has_but_one_thread(subject: &Subject) {
    let pool = subject.pool(1);
    assert_eq!(run(&pool, own_threads, ()), 1);
}
