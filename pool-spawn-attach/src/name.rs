//! Where the door is: a name in the system's own name space where it has one that leaves nothing behind, else a
//! socket in a directory that nobody else may enter.

use std::fmt;
use std::fs;
use std::io;
#[cfg(unix)]
use std::os::unix::fs::DirBuilderExt;
#[cfg(unix)]
use std::path::Path;
use std::path::PathBuf;

use interprocess::local_socket::{self, GenericFilePath, GenericNamespaced, ToFsName, ToNsName};

/// The name of a listening socket, as text that can be handed around.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(String);

/// What a name begins with that is no path.
const NAMESPACED: char = '@';

impl Name {
    pub(crate) fn parse(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(crate) fn to_socket_name(&self) -> io::Result<local_socket::Name<'_>> {
        match self.0.strip_prefix(NAMESPACED) {
            Some(name) => name.to_ns_name::<GenericNamespaced>(),
            None => self.0.as_str().to_fs_name::<GenericFilePath>(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that nobody else has, and what has to be tidied up after it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: Name,
    /// Removed, with what is in it, when this is dropped.
    directory: Option<PathBuf>,
}

impl Place {
    /// The best there is on this system.
    pub(crate) fn new() -> io::Result<Self> {
        // Elsewhere on Unix such names are files in a directory that is everybody's.
        #[cfg(not(any(target_os = "linux", target_os = "android", windows)))]
        return Self::within(&std::env::temp_dir());
        #[cfg(any(target_os = "linux", target_os = "android", windows))]
        Ok(Self { name: Name(format!("{NAMESPACED}{}", unique()?)), directory: None })
    }

    /// A new directory in this one, for this user only.
    #[cfg(unix)]
    pub(crate) fn within(parent: &Path) -> io::Result<Self> {
        let directory = std::path::absolute(parent)?.join(unique()?);
        let Some(name) = directory.join("door").to_str().map(|path| Name(path.to_owned())) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the directory's name is not text"));
        };
        fs::DirBuilder::new().mode(0o700).create(&directory)?;
        Ok(Self { name, directory: Some(directory) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            // It may be gone already, with all of its surroundings.
            let _ = fs::remove_dir_all(directory);
        }
    }
}

/// For people to recognize, and for nobody to guess.
fn unique() -> io::Result<String> {
    let number = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!("process-pool-{}-{number:016x}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_directory_is_private_and_goes_with_its_place() {
        let place = Place::within(&std::env::temp_dir()).expect("a place");
        let directory = place.directory.clone().expect("it has one");
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&directory).expect("it is there"));
        assert_eq!(mode & 0o777, 0o700);
        fs::write(directory.join("door"), "").expect("written");
        drop(place);
        assert!(!directory.exists());
    }

    #[test]
    fn no_two_places_have_the_same_name() {
        assert_ne!(Place::new().expect("a place").name, Place::new().expect("a place").name);
    }
}
