//! What several cases need.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use serde::{Deserialize, Deserializer, Serialize};

/// A path of the case, as an argument for calls.
pub(crate) fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().expect("a path that is text").to_owned()
}

static ALIVE: AtomicI64 = AtomicI64::new(0);

/// Counts how many of it there are in this process.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Counted(pub(crate) u64);

impl Counted {
    pub(crate) fn new(n: u64) -> Self {
        ALIVE.fetch_add(1, Ordering::SeqCst);
        Self(n)
    }

    /// How many there are.
    pub(crate) fn alive() -> i64 {
        ALIVE.load(Ordering::SeqCst)
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self::new)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::SeqCst);
    }
}
