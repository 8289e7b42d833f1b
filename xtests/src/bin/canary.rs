//! Does in a worker what a sanitizer has to tell of: its arguments are a context, and `leaks` or `overruns`.
//!
//! That `.ci/sanitize` finds nothing in the suites means something only if it finds this.

use std::hint::black_box;

use process_pool::Executor;

fn main() {
    process_pool::init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [context, fault] = &args[..] else { panic!("a context and a fault, not {args:?}") };
    let pool =
        Executor::builder().max_workers(1).context(xtests::context::named(context)).build().expect("a pool");
    let call = match fault.as_str() {
        "leaks" => pool.submit(leaks, 100),
        "overruns" => pool.submit(overruns, 100),
        _ => panic!("no such fault: {fault}"),
    };
    println!("{:?}", call.expect("accepted").result());
}

/// Forgets so many bytes, and where they were.
fn leaks(bytes: usize) -> u8 {
    let first = black_box(vec![7; bytes].leak())[0];
    forgets();
    first
}

/// A place that was left on the stack or in a register would count as somebody who knows of the bytes.
#[inline(never)]
fn forgets() {
    black_box([0_usize; 4096]);
}

/// Reads what lies behind so many bytes.
fn overruns(bytes: usize) -> u8 {
    let blob = black_box(vec![7_u8; bytes]);
    let behind = blob.as_ptr().wrapping_add(bytes);
    // SAFETY: none; without a sanitizer it reads what the allocator keeps there.
    unsafe { behind.read_volatile() }
}
