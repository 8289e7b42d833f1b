//! Which program file to run.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pool_core::spawner::SpawnError;

/// A program to start workers from.
#[derive(Debug)]
pub(crate) enum Program {
    /// This program again.
    Own,
    /// The program of this name; where it was found, once it was.
    Other { name: PathBuf, found: OnceLock<PathBuf> },
}

impl Program {
    /// Says what stands in the way, without starting anything.
    pub(crate) fn check(&self) -> Result<(), SpawnError> {
        if let Self::Own = self {
            if !pool_image::in_main_image() {
                return Err(SpawnError::ForeignImage);
            }
            if !pool_core::worker::init_called() {
                return Err(SpawnError::InitNotCalled);
            }
        }
        self.path().map(drop)
    }

    /// The path to run, found once and then kept: a later change of `PATH` or of the current folder must not
    /// give a pool workers of two programs.
    pub(crate) fn path(&self) -> Result<&Path, SpawnError> {
        match self {
            Self::Own => own_path(),
            Self::Other { name, found } => {
                if let Some(path) = found.get() {
                    return Ok(path);
                }
                match pool_os::locate(name) {
                    Ok(path) => Ok(found.get_or_init(|| path)),
                    Err(source) => Err(not_runnable(name, source)),
                }
            }
        }
    }

    /// The name that the worker sees itself called by, where it is not the path.
    #[cfg(unix)]
    pub(crate) fn called(&self) -> Option<std::ffi::OsString> {
        match self {
            // Some programs look at it to decide what they are.
            Self::Own => env::args_os().next().or_else(|| env::current_exe().ok().map(Into::into)),
            Self::Other { .. } => None,
        }
    }
}

/// On Linux the link to the very file that runs, which works even if it was renamed, replaced or deleted.
#[cfg(target_os = "linux")]
fn own_path() -> Result<&'static Path, SpawnError> {
    let path = Path::new("/proc/self/exe");
    match path.metadata() {
        Ok(_) => Ok(path),
        Err(source) => Err(not_runnable(path, source)),
    }
}

/// The path this program was started from, asked for once, so that all workers run the same.
#[cfg(not(target_os = "linux"))]
fn own_path() -> Result<&'static Path, SpawnError> {
    static OWN: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = OWN.get() {
        return Ok(path);
    }
    match env::current_exe() {
        Ok(path) => Ok(OWN.get_or_init(|| path)),
        Err(source) => Err(not_runnable(Path::new("this program"), source)),
    }
}

/// The error for a program that cannot be run, unless `source` says that something has run out.
pub(crate) fn not_runnable(path: &Path, source: io::Error) -> SpawnError {
    match SpawnError::from_io("start a worker process", source) {
        SpawnError::Other { what, source } if is_about_arguments(&source) => SpawnError::Other { what, source },
        SpawnError::Other { source, .. } => SpawnError::Program { path: path.to_owned(), source },
        shortage => shortage,
    }
}

/// Whether the arguments or the environment are at fault, and not the file.
fn is_about_arguments(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::ArgumentListTooLong)
}
