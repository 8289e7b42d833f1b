//! What travels from a parent to its new child, and the few bytes that frame it.
//!
//! The frame's first twelve bytes, magic and version, stay the same in all versions, so that a parent and a
//! child of different builds can say so instead of misreading each other.

use crate::launch::LaunchError;
use crate::platform::LastWords;

/// An operating-system handle.
#[cfg(unix)]
pub type Handle = std::os::fd::OwnedFd;
/// An operating-system handle.
#[cfg(windows)]
pub type Handle = std::os::windows::io::OwnedHandle;

/// What a parent sends along with a new child.
#[derive(Debug, Default)]
pub struct Parcel {
    /// Bytes, up to [`BYTES_MAX`].
    pub bytes: Vec<u8>,
    /// Handles, up to [`HANDLES_MAX`], which the child then owns. They arrive in order.
    pub handles: Vec<Handle>,
}

impl Parcel {
    /// Whether it is within the limits.
    pub(crate) fn check(&self) -> Result<(), LaunchError> {
        let sizes = [("bytes", self.bytes.len(), BYTES_MAX), ("handles", self.handles.len(), HANDLES_MAX)];
        let over = sizes.into_iter().find(|(_, count, max)| count > max);
        over.map_or(Ok(()), |(what, count, max)| Err(LaunchError::TooLarge { what, count, max }))
    }
}

/// What a process that has just begun found on its standard input.
#[derive(Debug)]
pub enum Arrival {
    /// Nothing of ours: nobody started this process through a [`Launcher`](crate::Launcher), and its
    /// standard input is untouched.
    NotOurs,
    /// A parcel. The lifeline is set up and standard input is empty now.
    Parcel {
        /// What the parent sent.
        parcel: Parcel,
        /// A way to say why this process is going to end.
        last_words: LastWords,
    },
    /// A parcel that cannot be used, for this reason, which the parent was told as last words.
    Unusable(String),
}

/// What to do to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ask it to end. On Windows the same as `Kill`.
    Terminate,
    /// End it.
    Kill,
}

/// The most bytes a parcel holds: they have to fit the socket's buffer before anybody reads them. Linux
/// gives 208 KiB by default, of which its bookkeeping takes up to a half.
pub const BYTES_MAX: usize = 64 * 1024;

/// The most handles a parcel holds. Linux takes 253 in one message.
pub const HANDLES_MAX: usize = 200;

/// The most bytes of last words.
pub const LAST_WORDS_MAX: usize = 4 * 1024;

/// What stands first, and what a child looks for before it believes to be one. Like PNG's, it is neither
/// text nor likely to begin anything else that somebody feeds to a program.
pub(crate) const MAGIC: [u8; 8] = *b"\x89ppool\r\n";

/// Goes up with every change of what follows.
pub(crate) const VERSION: u32 = 1;

/// The frame: magic, version, how many bytes, how many handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) bytes: u32,
    pub(crate) handles: u32,
}

impl Header {
    pub(crate) const LEN: usize = 20;

    pub(crate) fn of(parcel: &Parcel) -> Self {
        Self { bytes: parcel.bytes.len() as u32, handles: parcel.handles.len() as u32 }
    }

    pub(crate) fn encode(self) -> [u8; Self::LEN] {
        let mut all = [0; Self::LEN];
        all[..8].copy_from_slice(&MAGIC);
        all[8..12].copy_from_slice(&VERSION.to_le_bytes());
        all[12..16].copy_from_slice(&self.bytes.to_le_bytes());
        all[16..].copy_from_slice(&self.handles.to_le_bytes());
        all
    }

    /// # Errors
    /// Why this is no header, for people to read.
    pub(crate) fn decode(all: &[u8; Self::LEN]) -> Result<Self, String> {
        let word = |at: usize| u32::from_le_bytes([all[at], all[at + 1], all[at + 2], all[at + 3]]);
        if all[..8] != MAGIC {
            return Err("what came over standard input is not a start message".to_owned());
        }
        let (version, header) = (word(8), Self { bytes: word(12), handles: word(16) });
        if version != VERSION {
            return Err(format!(
                "the parent speaks version {version} of the start message, this program version {VERSION}: both \
                 must be built with the same process-pool"
            ));
        }
        if header.bytes as usize > BYTES_MAX || header.handles as usize > HANDLES_MAX {
            return Err(format!("a start message of {} bytes and {} handles", header.bytes, header.handles));
        }
        Ok(header)
    }
}

/// The beginning of `text`, not cut within a character, that fits [`LAST_WORDS_MAX`].
pub(crate) fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(LAST_WORDS_MAX)]
}

/// What a child left behind as last words, if anything.
pub(crate) fn words(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_journey() {
        let header = Header { bytes: 65_536, handles: 200 };
        assert_eq!(Header::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn another_version_is_refused_by_naming_both() {
        let mut all = Header { bytes: 1, handles: 0 }.encode();
        all[8] = 77;
        let why = Header::decode(&all).expect_err("another version");
        assert!(why.contains("version 77") && why.contains(&format!("version {VERSION}")), "{why}");
    }

    #[test]
    fn absurd_sizes_and_other_magics_are_refused() {
        assert!(Header::decode(&Header { bytes: u32::MAX, handles: 0 }.encode()).is_err());
        assert!(Header::decode(&Header { bytes: 0, handles: 201 }.encode()).is_err());
        assert!(Header::decode(b"#!/bin/sh\necho hello").is_err());
    }

    #[test]
    fn last_words_are_cut_between_characters() {
        let long = "é".repeat(LAST_WORDS_MAX);
        assert_eq!(bounded(&long).len(), LAST_WORDS_MAX);
        let shifted = format!("a{long}");
        assert_eq!(bounded(&shifted).len(), LAST_WORDS_MAX - 1);
        assert_eq!(bounded("short"), "short");
    }
}
