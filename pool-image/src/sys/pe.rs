//! Windows, by the PE header at the address that is the main program's module handle.

use std::fs::File;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::io::AsRawHandle;

use windows_sys::Win32::Storage::FileSystem::{BY_HANDLE_FILE_INFORMATION, GetFileInformationByHandle};
use windows_sys::Win32::System::LibraryLoader::{GetModuleFileNameW, GetModuleHandleW};

use crate::map::{Map, Segment};

/// The segments of the main program.
pub(crate) fn main_map() -> Option<Map> {
    let image = Image::main()?;
    let sections = image.optional_at + usize::from(image.u16(image.coff_at + 16)?);
    let count = usize::from(image.u16(image.coff_at + 2)?);
    let mut segments = Vec::with_capacity(count);
    for section in (0..count).map(|index| sections + index * SECTION_HEADER_LEN) {
        let size = image.u32(section + 8)? as usize;
        let start = image.base.checked_add(image.u32(section + 12)? as usize)?;
        let traits = image.u32(section + 36)?;
        segments.push(Segment {
            start,
            end: start.checked_add(size)?,
            readable: traits & IMAGE_SCN_MEM_READ != 0,
            writable: traits & IMAGE_SCN_MEM_WRITE != 0,
        });
    }
    Map::new(segments)
}

/// Tells the image by the linker's stamp and by the file it came from or, if that cannot be opened, by what is
/// mapped: the stamp alone may be zero.
pub(crate) fn identity(map: &Map) -> Result<Vec<u8>, &'static str> {
    let image = Image::main().ok_or("the main module has no PE header")?;
    let stamp = image.stamp().ok_or("the main module's PE header is cut short")?;
    let mut bytes = b"P1".to_vec();
    for number in stamp {
        bytes.extend(number.to_le_bytes());
    }
    match file_stamp() {
        Some(numbers) => {
            bytes.push(b'F');
            for number in numbers {
                bytes.extend(number.to_le_bytes());
            }
        }
        None => bytes.extend(super::hash_of_constants(map)),
    }
    Ok(bytes)
}

/// The headers of the main program, as mapped.
struct Image {
    base: usize,
    headers: &'static [u8],
    /// Where IMAGE_FILE_HEADER starts.
    coff_at: usize,
    /// Where IMAGE_OPTIONAL_HEADER starts.
    optional_at: usize,
}

impl Image {
    fn main() -> Option<Self> {
        // SAFETY: null stands for the main program's file.
        let base = unsafe { GetModuleHandleW(std::ptr::null()) }.cast_const().cast::<u8>();
        if base.is_null() {
            return None;
        }
        // SAFETY: the handle of a module that was loaded to run is the address of its header, which takes at
        // least a page; the main program is never unloaded.
        let page = unsafe { std::slice::from_raw_parts(base, PAGE) };
        let mut image = Self { base: base as usize, headers: page, coff_at: 0, optional_at: 0 };
        let signature_at = image.u32(0x3c)? as usize;
        if !page.starts_with(b"MZ") || page.get(signature_at..signature_at.checked_add(4)?)? != b"PE\0\0" {
            return None;
        }
        image.coff_at = signature_at + 4;
        image.optional_at = image.coff_at + 20;
        let headers_len = image.u32(image.optional_at + 60)? as usize;
        if headers_len > PAGE {
            // SAFETY: as above; the header says itself how long it and the section table are, and the loader
            // maps as much.
            image.headers = unsafe { std::slice::from_raw_parts(base, headers_len) };
        }
        Some(image)
    }

    /// TimeDateStamp, SizeOfImage and CheckSum.
    fn stamp(&self) -> Option<[u32; 3]> {
        Some([self.u32(self.coff_at + 4)?, self.u32(self.optional_at + 56)?, self.u32(self.optional_at + 64)?])
    }

    fn u16(&self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(self.headers.get(at..at + 2)?.try_into().ok()?))
    }

    fn u32(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.headers.get(at..at + 4)?.try_into().ok()?))
    }
}

/// Volume, index, size and time of the last change of the file the main program was loaded from.
fn file_stamp() -> Option<[u64; 4]> {
    let mut name = vec![0u16; NAME_MAX];
    // SAFETY: null stands for the main program; `name` is writable for the length given.
    let len = unsafe { GetModuleFileNameW(std::ptr::null_mut(), name.as_mut_ptr(), NAME_MAX as u32) };
    let name = std::ffi::OsString::from_wide(name.get(..len as usize)?);
    let file = File::open(name).ok()?;
    let mut info = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open and `info` is a writable struct of the type asked for.
    let ok = unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut info) };
    let wide = |high: u32, low: u32| (u64::from(high) << 32) | u64::from(low);
    (ok != 0).then(|| {
        [
            u64::from(info.dwVolumeSerialNumber),
            wide(info.nFileIndexHigh, info.nFileIndexLow),
            wide(info.nFileSizeHigh, info.nFileSizeLow),
            wide(info.ftLastWriteTime.dwHighDateTime, info.ftLastWriteTime.dwLowDateTime),
        ]
    })
}

const PAGE: usize = 4096;
/// The longest path Windows knows, in UTF-16 units.
const NAME_MAX: usize = 32_768;
const SECTION_HEADER_LEN: usize = 40;
const IMAGE_SCN_MEM_READ: u32 = 0x4000_0000;
const IMAGE_SCN_MEM_WRITE: u32 = 0x8000_0000;
