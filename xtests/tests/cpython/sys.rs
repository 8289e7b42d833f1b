//! What takes C.

#![expect(unsafe_code, reason = "`atexit` is C's")]

use std::sync::OnceLock;

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
