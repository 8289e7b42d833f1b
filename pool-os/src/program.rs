//! Finding the file of a program, and what this process is allowed to be told by its surroundings.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::platform;

/// The absolute path of the program `name`: searched for in `PATH` if it is a bare name.
///
/// # Errors
/// If there is no such file, or it is not one that can be executed.
pub fn locate(name: &Path) -> io::Result<PathBuf> {
    let is_bare = name.components().count() == 1 && name.file_name().is_some_and(|file| file == name.as_os_str());
    if !is_bare {
        let path = std::path::absolute(name)?;
        return spellings(&path)
            .find_map(|path| check(&path).map(|()| path).ok())
            .map_or_else(|| check(&path).map(|()| path.clone()), Ok);
    }
    let mut refusal = None;
    for folder in env::split_paths(&env::var_os("PATH").unwrap_or_default()) {
        // An empty entry means the current folder, which nobody who writes `a::b` has in mind.
        if folder.as_os_str().is_empty() {
            continue;
        }
        for path in spellings(&std::path::absolute(folder.join(name))?) {
            match check(&path) {
                Ok(()) => return Ok(path),
                // Like a shell: go on, but if nothing better comes, this is what is wrong.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refusal = Some(error),
                Err(_) => {}
            }
        }
    }
    Err(refusal.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "not found in PATH")))
}

/// The names under which the file may lie: Windows adds `.exe` by itself.
fn spellings(path: &Path) -> impl Iterator<Item = PathBuf> {
    let mut suffixed = path.as_os_str().to_owned();
    suffixed.push(env::consts::EXE_SUFFIX);
    let plain = path.to_owned();
    let other = (suffixed != plain.as_os_str()).then(|| PathBuf::from(suffixed));
    std::iter::once(plain).chain(other)
}

/// Whether there is a program to run, as far as that can be told without running it.
fn check(path: &Path) -> io::Result<()> {
    let meta = fs::metadata(path)?;
    if meta.is_dir() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is a directory"));
    }
    #[cfg(unix)]
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK)?;
    Ok(())
}

/// The path to start this program from again.
///
/// On Linux the link to the very file that runs, which works even if it was renamed, replaced or deleted.
///
/// # Errors
/// If it is not known.
#[cfg(target_os = "linux")]
pub fn own_path() -> io::Result<&'static Path> {
    let path = Path::new("/proc/self/exe");
    path.metadata().map(|_| path)
}

/// The path to start this program from again: asked for once, so that all workers run the same.
///
/// # Errors
/// If it is not known.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn own_path() -> io::Result<&'static Path> {
    static OWN: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    match OWN.get() {
        Some(path) => Ok(path),
        None => env::current_exe().map(|path| OWN.get_or_init(|| path).as_path()),
    }
}

/// The name this program was called by: some look at it to decide what they are.
#[cfg(unix)]
pub fn own_name() -> Option<std::ffi::OsString> {
    env::args_os().next().or_else(|| env::current_exe().ok().map(Into::into))
}

/// Whether this process has rights that its starter may not have (set-user-id and the like), so that it must
/// not take orders from the environment.
pub fn is_elevated() -> bool {
    platform::is_elevated()
}

/// How many threads this process has.
///
/// # Errors
/// If the system does not tell.
#[cfg(target_os = "linux")]
pub fn threads() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_found_in_path_and_made_absolute() {
        let name = if cfg!(windows) { "cmd" } else { "sh" };
        let path = locate(Path::new(name)).expect("every system has it");
        assert!(path.is_absolute(), "{path:?}");
        let missing = locate(Path::new("no-such-program-anywhere")).expect_err("no such program");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_directory_is_no_program() {
        let folder = env::temp_dir();
        assert_eq!(locate(&folder).expect_err("a directory").kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_missing_path_is_not_searched_for() {
        let here = Path::new(".").join("sh");
        assert_eq!(locate(&here).expect_err("not in this folder").kind(), io::ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_may_not_be_executed_is_no_program() {
        let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert_eq!(locate(&text).expect_err("a text").kind(), io::ErrorKind::PermissionDenied);
    }
}
