//! What worker processes are to be like, where that differs from their parent: environment, folder, niceness,
//! processors, limits.
//!
//! [`WorkerSettings`] is data, which can travel. It says what stands in its way here ([`check`](WorkerSettings::check)),
//! and a process takes it on for itself ([`apply`](WorkerSettings::apply)). Environment and folder may also be given to
//! a process as it is made: these are its [`Surroundings`].
//!
//! This crate knows nothing of pools, tickets or calls. What each system can do stands in `sys`.

mod sys;

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a pool's worker processes are to be like; what is not set here is as it is in the parent, or as the start method
/// says.
///
/// A setting that this system or the start method does not have is refused when the pool is built. One that a worker
/// cannot take on, for lack of rights, say, is the end of that worker, and after a few such ends of the pool; the error
/// names the setting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSettings {
    surroundings: Surroundings,
    nice: Option<i32>,
    affinity: Option<Vec<usize>>,
    limits: Vec<(Limit, u64)>,
}

/// What a program may look at before its `main` begins: environment and folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    clears: bool,
    variables: Vec<(OsString, Option<OsString>)>,
    folder: Option<PathBuf>,
}

/// What may not be exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Limit {
    AddressSpace,
    CpuTime,
    OpenFiles,
    CoreSize,
}

/// A setting that cannot be had, and why.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {why}")]
pub struct Refused {
    /// Its name.
    pub setting: &'static str,
    /// What stands in its way.
    pub why: io::Error,
}

impl WorkerSettings {
    /// Nothing is set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.surroundings.variables.push((key.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.surroundings.variables.push((key.as_ref().to_owned(), None));
        self
    }

    /// Removes all of the environment, and forgets what was set before this call.
    pub fn env_clear(mut self) -> Self {
        self.surroundings.clears = true;
        self.surroundings.variables.clear();
        self
    }

    /// Sets the current folder. One that is not absolute is meant from where the parent is when the pool is built.
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.surroundings.folder = Some(folder.as_ref().to_owned());
        self
    }

    /// Adds to the niceness, as Python's `os.nice`: workers with more of it yield to others. Less takes rights. On Unix.
    pub fn nice(self, increment: i32) -> Self {
        Self { nice: Some(increment), ..self }
    }

    /// Lets workers run on these processors only, which are numbered from 0. On Linux and Windows.
    pub fn affinity(self, processors: impl IntoIterator<Item = usize>) -> Self {
        Self { affinity: Some(processors.into_iter().collect()), ..self }
    }

    /// So many bytes of address space, shared memory and the program itself included: what is more is not allocated, and
    /// Rust code ends its process then. On Linux, Android, FreeBSD, NetBSD, and Windows, where it is committed memory that is
    /// limited: what is reserved only does not count, nor does the program's file.
    pub fn address_space_max(self, bytes: u64) -> Self {
        self.limit(Limit::AddressSpace, bytes)
    }

    /// So much time on processors, over all calls of a worker, in whole seconds: then it gets `SIGXCPU`, which ends it,
    /// and a second later `SIGKILL`. On Windows only time in the program itself counts, not that in the system for it; it is
    /// [killed](https://learn.microsoft.com/windows/win32/api/winnt/ns-winnt-jobobject_basic_limit_information) some time
    /// after that.
    pub fn cpu_time_max(self, time: Duration) -> Self {
        self.limit(Limit::CpuTime, time.as_secs() + u64::from(time.subsec_nanos() > 0))
    }

    /// Descriptors up to this number, the link's own included. On Unix.
    pub fn open_files_max(self, files: u64) -> Self {
        self.limit(Limit::OpenFiles, files)
    }

    /// So many bytes of memory are written down when a worker crashes; with 0, none. On Unix.
    pub fn core_size_max(self, bytes: u64) -> Self {
        self.limit(Limit::CoreSize, bytes)
    }

    fn limit(mut self, limit: Limit, max: u64) -> Self {
        self.limits.retain(|(other, _)| *other != limit);
        self.limits.push((limit, max));
        self
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes the surroundings out.
    pub fn take_surroundings(&mut self) -> Surroundings {
        mem::take(&mut self.surroundings)
    }

    /// What stands in the way of these settings on this system, as far as that is known without trying. Makes the folder
    /// absolute.
    ///
    /// # Errors
    /// If a setting makes no sense, or this system does not have it.
    pub fn check(&mut self) -> Result<(), Refused> {
        self.surroundings.check()?;
        if self.nice.is_some() && !sys::HAS_NICE {
            return Err(missing("niceness"));
        }
        if let Some(processors) = &self.affinity {
            sys::check_affinity(processors).map_err(refused("affinity"))?;
        }
        let missed = self.limits.iter().find(|(limit, _)| !sys::has_limit(*limit));
        missed.map_or(Ok(()), |(limit, _)| Err(missing(limit.name())))
    }

    /// Takes them on, for this process, the calling thread and what it will start. To be called in a process that has
    /// but one thread, as long as there are surroundings among them.
    ///
    /// # Errors
    /// The first setting that could not be taken on; those before it are.
    pub fn apply(&self) -> Result<(), Refused> {
        self.surroundings.apply()?;
        if let Some(increment) = self.nice {
            sys::nice(increment).map_err(refused("niceness"))?;
        }
        if let Some(processors) = &self.affinity {
            sys::set_affinity(processors).map_err(refused("affinity"))?;
        }
        self.limits.iter().try_for_each(|(limit, max)| sys::set_limit(*limit, *max).map_err(refused(limit.name())))
    }
}

impl Surroundings {
    /// What is to become of the variables of a process whose environment would be this one's: each with its value, or
    /// none if it is to be removed.
    pub fn variables(&self) -> impl Iterator<Item = (OsString, Option<OsString>)> {
        let own = self.clears.then(std::env::vars_os).into_iter().flatten();
        own.map(|(key, _)| (key, None)).chain(self.variables.iter().cloned())
    }

    /// The current folder, if it is set.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    fn check(&mut self) -> Result<(), Refused> {
        for (key, value) in &self.variables {
            let key = key.as_encoded_bytes();
            // On Windows a first `=` belongs to the name.
            let is_name =
                !key.is_empty() && !key[usize::from(cfg!(windows))..].contains(&b'=') && !key.contains(&0);
            let is_value = value.as_ref().is_none_or(|value| !value.as_encoded_bytes().contains(&0));
            if !is_name || !is_value {
                let why = format!(
                    "{:?} cannot be the name or value of a variable",
                    (key.escape_ascii().to_string(), value)
                );
                return Err(refused(ENVIRONMENT)(invalid(why)));
            }
        }
        if let Some(folder) = &mut self.folder {
            let found = std::path::absolute(&*folder).and_then(|path| path.metadata().map(|meta| (path, meta)));
            let (path, meta) = found.map_err(refused(FOLDER))?;
            if !meta.is_dir() {
                return Err(refused(FOLDER)(io::ErrorKind::NotADirectory.into()));
            }
            *folder = path;
        }
        Ok(())
    }

    fn apply(&self) -> Result<(), Refused> {
        if self.clears || !self.variables.is_empty() {
            sys::set_variables(self.variables()).map_err(refused(ENVIRONMENT))?;
        }
        self.folder().map_or(Ok(()), |folder| std::env::set_current_dir(folder).map_err(refused(FOLDER)))
    }
}

impl Limit {
    fn name(self) -> &'static str {
        match self {
            Self::AddressSpace => "limit of address space",
            Self::CpuTime => "limit of CPU time",
            Self::OpenFiles => "limit of open files",
            Self::CoreSize => "limit of core size",
        }
    }
}

fn refused(setting: &'static str) -> impl Fn(io::Error) -> Refused {
    move |why| Refused { setting, why }
}

fn missing(setting: &'static str) -> Refused {
    refused(setting)(io::Error::new(io::ErrorKind::Unsupported, "this system does not have it"))
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.into())
}

const ENVIRONMENT: &str = "environment";
const FOLDER: &str = "current folder";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refuses(mut settings: WorkerSettings, setting: &str) {
        assert_eq!(settings.check().expect_err("it makes no sense").setting, setting);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        refuses(WorkerSettings::new().env("", "x"), ENVIRONMENT);
        if cfg!(unix) {
            refuses(WorkerSettings::new().env("=A", "x"), ENVIRONMENT);
        }
        refuses(WorkerSettings::new().env("A=B", "x"), ENVIRONMENT);
        refuses(WorkerSettings::new().env("A\0", "x"), ENVIRONMENT);
        refuses(WorkerSettings::new().env("A", "x\0"), ENVIRONMENT);
        refuses(WorkerSettings::new().current_dir("no/such/folder"), FOLDER);
        refuses(WorkerSettings::new().current_dir(std::env::current_exe().expect("a path")), FOLDER);
        refuses(WorkerSettings::new().affinity([]), "affinity");
        refuses(WorkerSettings::new().affinity([1 << 20]), "affinity");
        let mut settings = WorkerSettings::new().env("A", "x=y").env_remove("B").current_dir(".");
        settings.check().expect("it makes sense");
        assert!(settings.take_surroundings().folder().is_some_and(Path::is_absolute));
        assert!(settings.is_empty());
    }

    #[test]
    fn what_a_system_lacks_is_refused() {
        if cfg!(windows) {
            refuses(WorkerSettings::new().nice(1), "niceness");
            refuses(WorkerSettings::new().open_files_max(9), "limit of open files");
        }
        if cfg!(target_vendor = "apple") {
            refuses(WorkerSettings::new().affinity([0]), "affinity");
            refuses(WorkerSettings::new().address_space_max(1 << 30), "limit of address space");
        }
    }

    #[test]
    fn a_cleared_environment_has_what_is_set_after() {
        let own = std::env::vars_os().count();
        let settings = WorkerSettings::new().env("A", "1").env_clear().env("B", "2").env_remove("C");
        let all: Vec<_> = settings.surroundings.variables().collect();
        assert_eq!(all.len(), own + 2);
        assert_eq!(all[own], ("B".into(), Some("2".into())));
        assert!(all[..own].iter().all(|(_, value)| value.is_none()));
    }

    #[test]
    fn the_last_of_two_limits_counts() {
        let settings =
            WorkerSettings::new().open_files_max(1).cpu_time_max(Duration::from_millis(1500)).open_files_max(2);
        assert_eq!(settings.limits, [(Limit::CpuTime, 2), (Limit::OpenFiles, 2)]);
    }
}
