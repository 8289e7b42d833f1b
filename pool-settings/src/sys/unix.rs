//! Unix: `nice`, `setrlimit`, and on Linux `sched_setaffinity`.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Limit;

pub(crate) const HAS_NICE: bool = true;

pub(crate) fn nice(increment: i32) -> io::Result<()> {
    rustix::process::nice(increment)?;
    Ok(())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn check_affinity(processors: &[usize]) -> io::Result<()> {
    use rustix::thread::CpuSet;

    match processors.iter().max() {
        None => Err(crate::invalid("without a processor nothing can run")),
        Some(last) if *last >= CpuSet::MAX_CPU => {
            Err(crate::invalid(format!("there is no processor {last}: they are fewer than {}", CpuSet::MAX_CPU)))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn set_affinity(processors: &[usize]) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    processors.iter().for_each(|processor| set.set(*processor));
    rustix::thread::sched_setaffinity(None, &set)?;
    Ok(())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn check_affinity(_: &[usize]) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system does not have it"))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn set_affinity(processors: &[usize]) -> io::Result<()> {
    check_affinity(processors)
}

pub(crate) fn has_limit(limit: Limit) -> bool {
    resource(limit).is_some()
}

pub(crate) fn set_limit(limit: Limit, max: u64) -> io::Result<()> {
    let resource = resource(limit).ok_or(io::ErrorKind::Unsupported)?;
    let hard = getrlimit(resource).maximum;
    // At the second of the two limits a process is killed; at the first it is told why, and ends by that.
    let later = if limit == Limit::CpuTime { max.saturating_add(1) } else { max };
    let maximum = hard.filter(|hard| *hard >= max).map_or(later, |hard| hard.min(later));
    setrlimit(resource, Rlimit { current: Some(max), maximum: Some(maximum) })?;
    Ok(())
}

fn resource(limit: Limit) -> Option<Resource> {
    Some(match limit {
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd"))]
        Limit::AddressSpace => Resource::As,
        #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "netbsd")))]
        Limit::AddressSpace => return None,
        Limit::CpuTime => Resource::Cpu,
        Limit::OpenFiles => Resource::Nofile,
        Limit::CoreSize => Resource::Core,
    })
}
