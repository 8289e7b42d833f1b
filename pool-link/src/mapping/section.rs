//! Mapping on Windows: sections of the page file, which have no name.

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::{self, NonNull};

use windows_sys::Win32::Foundation::INVALID_HANDLE_VALUE;
use windows_sys::Win32::System::Memory::{
    CreateFileMappingW, FILE_MAP_READ, FILE_MAP_WRITE, MEMORY_MAPPED_VIEW_ADDRESS, MapViewOfFile, PAGE_READWRITE,
    UnmapViewOfFile,
};

/// Makes a section of `len` bytes, which begin as zeroes. Its size is for good.
pub(crate) fn create(len: u32) -> io::Result<OwnedHandle> {
    // SAFETY: No file is given, nor attributes, nor a name: so it cannot be inherited, and nobody else can open it.
    let section =
        unsafe { CreateFileMappingW(INVALID_HANDLE_VALUE, ptr::null(), PAGE_READWRITE, 0, len, ptr::null()) };
    if section.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: The system has made it just now, for us.
    Ok(unsafe { OwnedHandle::from_raw_handle(section) })
}

/// Maps the first `len` bytes of `file`, to read and to write, shared. Fails if it has fewer.
pub(super) fn map(file: impl AsHandle, len: usize) -> io::Result<NonNull<c_void>> {
    let (section, access) = (file.as_handle().as_raw_handle(), FILE_MAP_READ | FILE_MAP_WRITE);
    // SAFETY: The handle is open; where to map is left to the system.
    let view = unsafe { MapViewOfFile(section, access, 0, 0, len) };
    NonNull::new(view.Value).ok_or_else(io::Error::last_os_error)
}

/// Takes a mapping away.
///
/// # Safety
/// [`map`] must have made it, and nobody may use it any more.
pub(super) unsafe fn unmap(start: NonNull<c_void>, _: usize) {
    // SAFETY: The caller's obligation is the same.
    let unmapped = unsafe { UnmapViewOfFile(MEMORY_MAPPED_VIEW_ADDRESS { Value: start.as_ptr() }) };
    debug_assert_ne!(unmapped, 0);
}
