//! ELF systems: Linux, the BSDs and their kin, by `dl_iterate_phdr`.
//!
//! Its first entry is the main program with glibc, musl and FreeBSD's libc alike, be it position
//! independent, static, or both.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

use super::hash_of_constants;
use crate::map::{HASH_START, Map, Segment, hash};

#[cfg(target_pointer_width = "64")]
type ProgramHeader = libc::Elf64_Phdr;
#[cfg(target_pointer_width = "32")]
type ProgramHeader = libc::Elf32_Phdr;

/// The segments of the main program.
pub(crate) fn main_map() -> Option<Map> {
    let program = main_program()?;
    let loaded = program.headers.iter().filter(|header| header.p_type == PT_LOAD);
    let segments = loaded.map(|header| program.segment(header)).collect();
    Map::new(segments)
}

/// Tells the image by the file behind `/proc/self/exe`, else by its build id, else by what is mapped.
pub(crate) fn identity(map: &Map) -> Result<Vec<u8>, &'static str> {
    let program = main_program().ok_or("the main program has no program headers")?;
    match program.file_stamp() {
        Ok(Some(stamp)) => return Ok(stamp),
        // To go on without the file because of a passing shortage would make this process a stranger to its
        // own workers.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => {
            return Err("no descriptor is free to open /proc/self/exe with");
        }
        Ok(None) | Err(_) => {}
    }
    if let Some(id) = program.build_id(map) {
        return Ok([b"B1", id].concat());
    }
    Ok(hash_of_constants(map))
}

/// The main program as the dynamic loader (or libc's start-up code) knows it.
struct Program {
    /// What was added to the addresses in the file.
    bias: usize,
    headers: &'static [ProgramHeader],
}

impl Program {
    fn segment(&self, header: &ProgramHeader) -> Segment {
        let start = self.bias.wrapping_add(header.p_vaddr as usize);
        Segment {
            start,
            end: start.saturating_add(header.p_memsz as usize),
            readable: header.p_flags & PF_R != 0,
            writable: header.p_flags & PF_W != 0,
        }
    }

    /// Device, inode, size and time of change of the program's file.
    ///
    /// `/proc/self/exe` is the inode that runs, renamed, replaced or deleted. But if somebody ran
    /// `ld.so ./program`, it is the loader: so its program headers must be those in memory.
    fn file_stamp(&self) -> io::Result<Option<Vec<u8>>> {
        let mut file = File::open("/proc/self/exe")?;
        let meta = file.metadata()?;
        let in_memory = self.header_bytes();
        let mut start = [0; 64];
        file.read_exact(&mut start)?;
        let mut on_disk = vec![0; in_memory.len()];
        file.seek(SeekFrom::Start(headers_at(&start)))?;
        file.read_exact(&mut on_disk)?;
        if on_disk != in_memory {
            return Ok(None);
        }
        let mut stamp = b"F1".to_vec();
        for number in [meta.dev(), meta.ino(), meta.size(), meta.mtime() as u64, meta.mtime_nsec() as u64] {
            stamp.extend(number.to_le_bytes());
        }
        // Costs nothing and tells apart what a file system with inode numbers of its own invention does not.
        stamp.extend(hash(HASH_START, in_memory).to_le_bytes());
        Ok(Some(stamp))
    }

    fn header_bytes(&self) -> &'static [u8] {
        let len = size_of_val(self.headers);
        // SAFETY: program headers are plain integers without padding, so they may be read as bytes.
        unsafe { std::slice::from_raw_parts(self.headers.as_ptr().cast::<u8>(), len) }
    }

    /// The linker's hash of the whole output, if it left one in a note.
    fn build_id(&self, map: &Map) -> Option<&'static [u8]> {
        let notes = self.headers.iter().filter(|header| header.p_type == PT_NOTE);
        notes.map(|header| self.segment(header)).find_map(|note| {
            let start = map.resolve(map.offset_of(note.start)?, note.end - note.start, 4)?;
            let start = std::ptr::with_exposed_provenance::<u8>(start);
            // SAFETY: `Map::resolve` found the whole range in one readable segment of the program, and notes
            // are constants.
            let bytes = unsafe { std::slice::from_raw_parts(start, note.end - note.start) };
            build_id_in(bytes)
        })
    }
}

/// Where in its file an ELF program keeps the program headers: `e_phoff`.
fn headers_at(start: &[u8; 64]) -> u64 {
    if cfg!(target_pointer_width = "64") {
        u64::from_ne_bytes(start[32..40].try_into().expect("invariant: eight of the 64 bytes"))
    } else {
        u64::from(u32::from_ne_bytes(start[28..32].try_into().expect("invariant: four of the 64 bytes")))
    }
}

/// Finds `NT_GNU_BUILD_ID` (3, of owner `GNU`) in a run of notes.
fn build_id_in(mut notes: &[u8]) -> Option<&[u8]> {
    let word = |at: usize, notes: &[u8]| {
        let bytes = notes.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?) as usize)
    };
    loop {
        let (name_len, desc_len, kind) = (word(0, notes)?, word(4, notes)?, word(8, notes)?);
        let desc_at = 12usize.checked_add(name_len.checked_next_multiple_of(4)?)?;
        let desc = notes.get(desc_at..desc_at.checked_add(desc_len)?)?;
        if kind == 3 && notes.get(12..12 + name_len)? == b"GNU\0" && !desc.is_empty() {
            return Some(desc);
        }
        notes = notes.get(desc_at.checked_add(desc_len.checked_next_multiple_of(4)?)?..)?;
    }
}

fn main_program() -> Option<Program> {
    let mut found: Option<Program> = None;
    // SAFETY: `first_entry` has the signature asked for, and `found` outlives the call, which is the only time
    // the pointer to it is used.
    unsafe { libc::dl_iterate_phdr(Some(first_entry), (&raw mut found).cast()) };
    found
}

/// Keeps the first entry and ends the walk.
unsafe extern "C" fn first_entry(info: *mut libc::dl_phdr_info, _size: usize, found: *mut c_void) -> c_int {
    // SAFETY: `dl_iterate_phdr` passes a valid entry, which nobody changes during the call.
    let info = unsafe { &*info };
    if !info.dlpi_phdr.is_null() {
        // SAFETY: the entry says where its program headers lie and how many they are; those of the main program
        // stay mapped as long as the process lives.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        let program = Program { bias: info.dlpi_addr as usize, headers };
        // SAFETY: `found` is the pointer to the `Option<Program>` that `main_program` passed.
        let found = unsafe { &mut *found.cast::<Option<Program>>() };
        *found = Some(program);
    }
    1
}

// From the ELF specification; `libc` has them for some systems only.
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PF_W: u32 = 2;
const PF_R: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [name.len() as u32, desc.len() as u32, kind] {
            bytes.extend(word.to_ne_bytes());
        }
        for part in [name, desc] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn the_build_id_is_found_behind_other_notes() {
        let notes =
            [note(b"GNU\0", 1, &[0; 16]), note(b"stapsdt\0", 3, b"no"), note(b"GNU\0", 3, b"abcde")].concat();
        assert_eq!(build_id_in(&notes), Some(b"abcde".as_slice()));
    }

    #[test]
    fn cut_off_notes_are_no_notes() {
        let notes = note(b"GNU\0", 3, b"abcdefgh");
        for len in 0..notes.len() {
            assert_eq!(build_id_in(&notes[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn every_way_to_tell_works_here() {
        let program = main_program().expect("the test is a program");
        let map = main_map().expect("and has segments");
        assert_eq!(hash_of_constants(&map), hash_of_constants(&map));
        if cfg!(target_os = "linux") {
            assert_eq!(program.file_stamp().expect("a file").map(|stamp| stamp.len()), Some(50));
        }
    }
}
