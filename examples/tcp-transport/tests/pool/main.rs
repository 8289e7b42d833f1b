//! A pool whose workers are at the other end of a TCP connection: what it promises over any transport, and what a
//! lease adds.

mod basics;
mod hostile;
mod kit;
#[cfg(target_os = "linux")]
mod lease;
#[cfg(target_os = "linux")]
mod parent;
#[path = "../raw/mod.rs"]
mod raw;

use process_pool::available;
use xtests::runner::Case;

/// Elsewhere the system has no such signals, or does not tell who is left.
#[cfg(not(target_os = "linux"))]
const LINUX: [&[Case]; 0] = [];
#[cfg(target_os = "linux")]
const LINUX: [&[Case]; 2] = [lease::CASES, parent::CASES];

fn main() {
    process_pool::worker_main().transport(hostile::way()).task("double", |n: u64| n * 2).run();
    #[cfg(target_os = "linux")]
    if std::env::var_os(parent::PORT).is_some() {
        return parent::main();
    }
    #[cfg(not(target_os = "linux"))]
    println!("skipped: cases about signals, which are Linux's");
    let special = [&[hostile::CASES][..], &LINUX[..]].concat().concat();
    let special = special.into_iter().map(|case| case.only("exec+tcp", "links and start methods of its own"));
    let cases: Vec<_> = basics::CASES.iter().copied().chain(special).collect();
    let contexts: Vec<_> = available().into_iter().filter(|name| name.ends_with("+tcp")).collect();
    xtests::runner::main_with(&contexts, &cases);
}
