//! What each system can do for the calling process.

#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod platform;

use std::ffi::OsString;
use std::io;

pub(crate) use platform::{HAS_NICE, check_affinity, has_limit, nice, set_affinity, set_limit};

/// Sets or removes variables of this process, which has but one thread: whoever asks for it says so, and where the system
/// tells, it is looked at.
pub(crate) fn set_variables(variables: impl Iterator<Item = (OsString, Option<OsString>)>) -> io::Result<()> {
    // All are read before the first is changed.
    let variables: Vec<_> = variables.collect();
    #[cfg(target_os = "linux")]
    if std::fs::read_dir("/proc/self/task")?.count() > 1 {
        return Err(io::Error::other("this process has other threads already, which may be reading it"));
    }
    for (key, value) in variables {
        // What has come from somewhere with such a name is no variable that could be removed.
        if cfg!(unix) && key.as_encoded_bytes().first().is_none_or(|first| *first == b'=') {
            continue;
        }
        match value {
            // SAFETY: no other thread reads the environment. On Linux there is none; on other Unix systems this is called
            // in a process that has just been forked, which has but this one (and perhaps its lifeline's, which does not
            // look at the environment), unless an `after_fork` hook or the transport has started another: the hook's
            // documentation forbids that; on Windows it is sound at any time.
            Some(value) => unsafe { std::env::set_var(key, value) },
            // SAFETY: the same.
            None => unsafe { std::env::remove_var(key) },
        }
    }
    Ok(())
}
