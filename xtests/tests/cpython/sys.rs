//! What takes C.

#![expect(unsafe_code, reason = "`atexit` is C's")]

use std::sync::OnceLock;

use process_pool::Executor;

static FAREWELL: OnceLock<String> = OnceLock::new();

extern "C" fn say_farewell() {
    if let Some(path) = FAREWELL.get() {
        // If it cannot be written, the case finds no file.
        let _ = std::fs::write(path, std::process::id().to_string());
    }
}

/// For calls: has this process write its number to a file when it exits. The number.
pub(crate) fn say_farewell_at_exit(path: String) -> u32 {
    FAREWELL.set(path).expect("once");
    // SAFETY: `say_farewell` is a function of the right type and never unwinds: it formats a number and writes a file.
    let failed = unsafe { libc::atexit(say_farewell) };
    assert_eq!(failed, 0, "there is room for a handler");
    std::process::id()
}

static POOL: OnceLock<Executor> = OnceLock::new();

extern "C" fn submit_and_print() {
    let pool = POOL.get().expect("set before this was registered");
    // A panic here ends the process with a signal.
    let square = pool.submit(|n: u64| n * n, 12).expect("accepted").result().expect("a result");
    println!("{square} at exit");
}

/// Keeps the pool in a static, and has this process use it when it exits.
pub(crate) fn submit_at_exit(pool: Executor) {
    POOL.set(pool).expect("once");
    // SAFETY: `submit_and_print` is a function of the right type; if it panics, that ends the process and does not
    // unwind out of it.
    let failed = unsafe { libc::atexit(submit_and_print) };
    assert_eq!(failed, 0, "there is room for a handler");
}
