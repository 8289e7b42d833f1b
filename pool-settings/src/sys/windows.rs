//! Windows: `SetProcessAffinityMask`, and a job that the process puts itself into.

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_BREAKAWAY_OK, JOB_OBJECT_LIMIT_PROCESS_MEMORY,
    JOB_OBJECT_LIMIT_PROCESS_TIME, JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation,
    SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, SetProcessAffinityMask};

use crate::Limit;

pub(crate) const HAS_NICE: bool = false;

pub(crate) fn nice(_: i32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn check_affinity(processors: &[usize]) -> io::Result<()> {
    mask(processors).map(drop)
}

pub(crate) fn set_affinity(processors: &[usize]) -> io::Result<()> {
    let mask = mask(processors)?;
    // SAFETY: the call has no preconditions; what it returns is a constant and need not be closed.
    let own = unsafe { GetCurrentProcess() };
    // SAFETY: the handle stands for this process, and the call takes any mask.
    match unsafe { SetProcessAffinityMask(own, mask) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// A bit for each.
fn mask(processors: &[usize]) -> io::Result<usize> {
    let bit = |processor: &usize| match u32::try_from(*processor) {
        Ok(processor) if processor < usize::BITS => Ok(1 << processor),
        _ => {
            Err(crate::invalid(format!("there is no processor {processor}: they are fewer than {}", usize::BITS)))
        }
    };
    let mask = processors.iter().map(bit).try_fold(0, |mask, bit| bit.map(|bit: usize| mask | bit))?;
    if mask == 0 { Err(crate::invalid("without a processor nothing can run")) } else { Ok(mask) }
}

pub(crate) fn has_limit(limit: Limit) -> bool {
    matches!(limit, Limit::AddressSpace | Limit::CpuTime)
}

/// By a job of this process's own, within the one that it may be in. The job lasts as long as there is a process in it; what
/// this one starts is in it as well, each with the same limit.
pub(crate) fn set_limit(limit: Limit, max: u64) -> io::Result<()> {
    let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    let which = match limit {
        Limit::AddressSpace => {
            limits.ProcessMemoryLimit = usize::try_from(max).unwrap_or(usize::MAX);
            JOB_OBJECT_LIMIT_PROCESS_MEMORY
        }
        Limit::CpuTime => {
            // In units of 100 ns.
            limits.BasicLimitInformation.PerProcessUserTimeLimit =
                i64::try_from(max.saturating_mul(10_000_000)).unwrap_or(i64::MAX);
            JOB_OBJECT_LIMIT_PROCESS_TIME
        }
        Limit::OpenFiles | Limit::CoreSize => return Err(io::ErrorKind::Unsupported.into()),
    };
    limits.BasicLimitInformation.LimitFlags = which | JOB_OBJECT_LIMIT_BREAKAWAY_OK;
    // SAFETY: no attributes and no name are asked for.
    let job = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
    if job.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system has made it just now, for us.
    let job = unsafe { OwnedHandle::from_raw_handle(job) };
    let (len, value) = (size_of_val(&limits) as u32, (&raw const limits).cast::<c_void>());
    // SAFETY: the job is open, and `value` is of the type and length that go with the class.
    check(unsafe { SetInformationJobObject(job.as_raw_handle(), JobObjectExtendedLimitInformation, value, len) })?;
    // SAFETY: the call has no preconditions; what it returns is a constant and need not be closed.
    let own = unsafe { GetCurrentProcess() };
    // SAFETY: the job is open, and the other handle stands for this process.
    check(unsafe { AssignProcessToJobObject(job.as_raw_handle(), own) })
}

fn check(ok: i32) -> io::Result<()> {
    if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
