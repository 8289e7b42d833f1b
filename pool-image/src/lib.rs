//! Which program image this process runs, and where things lie in it: the ground under process-pool's
//! function addressing.
//!
//! Two processes that run the same image find the same function at the same distance from the image's
//! start, wherever the image was loaded. This crate says how far something lies from there
//! ([`offset_of`]), finds it again ([`resolve`]), and tells one image from another ([`identity`]): an
//! offset means nothing before the identities were compared.
//!
//! "The image" is the main program's file, as mapped. Libraries loaded beside it, and this code itself if
//! it was loaded as a part of one ([`in_main_image`]), are outside.
//!
//! It knows nothing of functions, calls or workers; it deals in addresses and bytes. Read on in `map` for
//! the arithmetic and in `sys` for what each system tells.

use std::sync::OnceLock;

mod map;
mod sys;

use map::Map;

/// What tells one program image from another.
///
/// The bytes mean nothing by themselves and differ between systems: compare them whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Bytes that are equal in two processes only if they run the same image.
    pub bytes: Vec<u8>,
}

/// The identity of the main program of this process. Found out once, then remembered.
///
/// # Errors
/// Why it cannot be told. Nothing is remembered then: a shortage of descriptors passes.
pub fn identity() -> Result<&'static Identity, &'static str> {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    if let Some(known) = IDENTITY.get() {
        return Ok(known);
    }
    let map = main_map().ok_or("the main program's image was not found in memory")?;
    let bytes = sys::identity(map)?;
    Ok(IDENTITY.get_or_init(|| Identity { bytes }))
}

/// Whether this library is part of the main program, and not of a plugin or shared library in it.
pub fn in_main_image() -> bool {
    /// Lies where this library lies.
    static HERE: u8 = 1;
    offset_of(&raw const HERE).is_some()
}

/// How far `address` lies from the start of the main program's image; `None` if it lies outside of it.
pub fn offset_of(address: *const u8) -> Option<u64> {
    main_map()?.offset_of(address as usize).map(|offset| offset as u64)
}

/// The address at `offset`, if `len` bytes from there lie in one readable segment of the main program's
/// image and the address is a multiple of `align`.
///
/// It is an address, not a promise: what lies there is for the caller to know, from the [`identity`].
pub fn resolve(offset: u64, len: usize, align: usize) -> Option<*const u8> {
    let address = main_map()?.resolve(usize::try_from(offset).ok()?, len, align)?;
    Some(std::ptr::with_exposed_provenance(address))
}

/// The main program's segments. They stay where they are for the life of the process.
fn main_map() -> Option<&'static Map> {
    static MAP: OnceLock<Option<Map>> = OnceLock::new();
    MAP.get_or_init(sys::main_map).as_ref()
}
