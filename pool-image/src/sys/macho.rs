//! macOS and its kin, by the Mach-O header that dyld mapped. Type-checked only: not run by us.

use super::hash_of_constants;
use crate::map::{Map, Segment};

unsafe extern "C" {
    fn _dyld_image_count() -> u32;
    fn _dyld_get_image_header(index: u32) -> *const u8;
}

/// The segments of the main program.
pub(crate) fn main_map() -> Option<Map> {
    let (header, commands) = main_program()?;
    let mut segments = Vec::new();
    let mut slide = None;
    for (_, body) in Commands(commands).filter(|(kind, _)| *kind == LC_SEGMENT_64) {
        // struct segment_command_64: cmd, cmdsize, segname[16], vmaddr, vmsize, fileoff, filesize, maxprot, initprot.
        let address = usize::try_from(word64(body, 24)?).ok()?;
        let size = usize::try_from(word64(body, 32)?).ok()?;
        let protection = word32(body, 60)?;
        if body.get(8..24)?.starts_with(b"__TEXT\0") {
            slide = Some(header.wrapping_sub(address));
        }
        // __PAGEZERO has no protection at all and is no memory; __LINKEDIT is not for anybody to point into.
        if protection != 0 {
            let (readable, writable) = (protection & VM_PROT_READ != 0, protection & VM_PROT_WRITE != 0);
            segments.push(Segment { start: address, end: address.checked_add(size)?, readable, writable });
        }
    }
    let slide = slide?;
    for segment in &mut segments {
        segment.start = segment.start.wrapping_add(slide);
        segment.end = segment.end.wrapping_add(slide);
    }
    Map::new(segments)
}

/// Tells the image by the linker's UUID, else by what is mapped.
pub(crate) fn identity(map: &Map) -> Result<Vec<u8>, &'static str> {
    let (_, commands) = main_program().ok_or("dyld knows no main program")?;
    let uuid = Commands(commands).find(|(kind, _)| *kind == LC_UUID).and_then(|(_, body)| body.get(8..24));
    Ok(match uuid {
        Some(uuid) => [b"U1", uuid].concat(),
        None => hash_of_constants(map),
    })
}

/// The address of the main program's header, and its load commands.
fn main_program() -> Option<(usize, &'static [u8])> {
    // SAFETY: the function has no preconditions.
    let count = unsafe { _dyld_image_count() };
    // The main program is the first image nearly always; an inserted library may come before it.
    (0..count).find_map(|index| {
        // SAFETY: any index is allowed; one out of range yields null.
        let header = unsafe { _dyld_get_image_header(index) };
        if header.is_null() {
            return None;
        }
        // SAFETY: an image's header, a struct mach_header_64 of 32 bytes, is mapped as long as the image is
        // loaded, and the main program always is; of other images it is only looked at here.
        let fixed = unsafe { std::slice::from_raw_parts(header, HEADER_LEN) };
        if word32(fixed, 0)? != MH_MAGIC_64 || word32(fixed, 12)? != MH_EXECUTE {
            return None;
        }
        let commands_len = word32(fixed, 20)? as usize;
        // SAFETY: the load commands follow the header directly, inside the same mapped segment.
        let all = unsafe { std::slice::from_raw_parts(header, HEADER_LEN + commands_len) };
        Some((header as usize, &all[HEADER_LEN..]))
    })
}

/// Walks load commands: yields each one's kind and all its bytes.
struct Commands<'a>(&'a [u8]);

impl<'a> Iterator for Commands<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, len) = (word32(self.0, 0)?, word32(self.0, 4)? as usize);
        if len < 8 {
            return None;
        }
        let (body, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some((kind, body))
    }
}

fn word32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn word64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

const HEADER_LEN: usize = 32;
const MH_MAGIC_64: u32 = 0xfeed_facf;
const MH_EXECUTE: u32 = 2;
const LC_SEGMENT_64: u32 = 0x19;
const LC_UUID: u32 = 0x1b;
const VM_PROT_READ: u32 = 1;
const VM_PROT_WRITE: u32 = 2;
