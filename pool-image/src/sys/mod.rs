//! What each system tells about the main program. All `unsafe` code of this crate is below this folder.
//!
//! Each file has `main_map`, the segments of the main program, and `identity`, bytes that differ between
//! two images and begin with a letter that says which of the ways to tell was used.

#[cfg(all(unix, not(target_vendor = "apple")))]
mod elf;
#[cfg(target_vendor = "apple")]
mod macho;
#[cfg(windows)]
mod pe;

#[cfg(all(unix, not(target_vendor = "apple")))]
pub(crate) use elf::{identity, main_map};
#[cfg(target_vendor = "apple")]
pub(crate) use macho::{identity, main_map};
#[cfg(windows)]
pub(crate) use pe::{identity, main_map};

/// A hash of all code and constants as they lie in memory. Takes milliseconds, so it is the last resort.
fn hash_of_constants(map: &crate::map::Map) -> Vec<u8> {
    let hash = map.constant().fold(crate::map::HASH_START, |state, segment| {
        let len = segment.end - segment.start;
        let start = std::ptr::with_exposed_provenance::<u8>(segment.start);
        // SAFETY: `Map::constant` yields segments that the loader mapped readable and not writable, which stay
        // mapped and unchanged as long as the process lives.
        let bytes = unsafe { std::slice::from_raw_parts(start, len) };
        crate::map::hash(state, bytes)
    });
    [b"H1".as_slice(), &hash.to_le_bytes()].concat()
}
