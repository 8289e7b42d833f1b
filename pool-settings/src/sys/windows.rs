//! Windows: `SetProcessAffinityMask`.

use std::io;

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

pub(crate) fn has_limit(_: Limit) -> bool {
    false
}

pub(crate) fn set_limit(_: Limit, _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
