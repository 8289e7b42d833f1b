//! The unsafe code of this crate on Windows: looking into a pipe, and ending another thread's wait.

#![expect(unsafe_code, reason = "the one module whose purpose this is")]

use std::io::{self, PipeReader, Read};
use std::os::windows::io::AsRawHandle;
use std::ptr;
use std::thread::JoinHandle;

use windows_sys::Win32::System::IO::CancelSynchronousIo;
use windows_sys::Win32::System::Pipes::PeekNamedPipe;

/// Reads at most `max` bytes and appends them to `to`, growing it if need be. 0: the end.
pub(crate) fn read_append(mut pipe: &PipeReader, to: &mut Vec<u8>, max: usize) -> io::Result<usize> {
    let before = to.len();
    to.resize(before + max, 0);
    let read = pipe.read(&mut to[before..]);
    to.truncate(before + read.as_ref().map_or(0, |len| *len));
    read
}

/// How many bytes are in the pipe now.
pub(crate) fn available(pipe: &PipeReader) -> io::Result<usize> {
    let (handle, none) = (pipe.as_raw_handle(), ptr::null_mut());
    let mut total = 0;
    // SAFETY: `pipe` keeps the handle open, `total` lives across the call, and the null pointers say that
    // nothing else is wanted.
    let done = unsafe { PeekNamedPipe(handle, ptr::null_mut(), 0, none, &raw mut total, none) };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(total as usize) }
}

/// Makes the read or write in which `thread` waits fail. False if it does not wait.
pub(crate) fn cancel(thread: &JoinHandle<()>) -> bool {
    // SAFETY: The thread's handle is open as long as `thread`, and carries all rights to it.
    unsafe { CancelSynchronousIo(thread.as_raw_handle()) != 0 }
}
