//! What several cases need.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use process_pool::{Executor, TaskHandle};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xtests::calls::submit;
use xtests::gate::{Gate, wait_at};
pub(crate) use xtests::runner::kill_if_there;

/// For calls: leaves a trace that it ran.
pub(crate) fn leave_trace((path, number): (String, u64)) -> u64 {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the case's file");
    // Small writes to the end of a file should not mix; Wine is not so sure.
    file.lock().expect("it can be locked");
    file.write_all(format!("{number}\n").as_bytes()).expect("it can be written");
    number
}

/// The traces, in the order in which they were left.
pub(crate) fn traces(path: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.parse().expect("a number")).collect()
}

/// The path of a file of the case, as an argument for calls.
pub(crate) fn file(dir: &Path) -> String {
    dir.join("traces").to_str().expect("a path that is text").to_owned()
}

/// Has every worker run at the same time, so that all are there. Their processes.
pub(crate) fn all_there(pool: &Executor) -> Vec<u32> {
    let gate = Gate::new();
    let calls: Vec<_> = (0..pool.max_workers()).map(|_| submit(pool, wait_at, gate.port())).collect();
    let visitors = gate.arrivals(pool.max_workers());
    let pids = visitors.iter().map(|visitor| visitor.pid).collect();
    drop(visitors);
    assert!(calls.into_iter().map(TaskHandle::result).all(|result| result.is_ok()));
    pids
}

/// Kills a process that is there.
#[track_caller]
pub(crate) fn kill(pid: u32) {
    assert!(kill_if_there(pid), "{pid} is there");
}

/// What a [`Whim`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Act {
    Behave,
    Refuse,
    Panic,
    Exit,
    Abort,
}

impl Act {
    /// Whether it is the one that refuses.
    fn refuses(self) -> bool {
        match self {
            Self::Behave => false,
            Self::Refuse => true,
            Self::Panic => panic!("a whim"),
            Self::Exit => std::process::exit(7),
            Self::Abort => std::process::abort(),
        }
    }
}

/// A value that does as it likes when it is encoded or decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whim {
    pub(crate) encoding: Act,
    pub(crate) decoding: Act,
}

impl Whim {
    pub(crate) const NONE: Self = Self { encoding: Act::Behave, decoding: Act::Behave };

    pub(crate) fn when_encoded(encoding: Act) -> Self {
        Self { encoding, ..Self::NONE }
    }

    pub(crate) fn when_decoded(decoding: Act) -> Self {
        Self { decoding, ..Self::NONE }
    }
}

impl Serialize for Whim {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.encoding.refuses() {
            return Err(S::Error::custom("it would not be encoded"));
        }
        (self.encoding, self.decoding).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Whim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (encoding, decoding) = <(Act, Act)>::deserialize(deserializer)?;
        if decoding.refuses() {
            return Err(D::Error::custom("it would not be decoded"));
        }
        Ok(Self { encoding, decoding })
    }
}

/// For calls: makes a whim in the worker, so that the worker has to encode it.
pub(crate) fn make_whim((encoding, decoding): (Act, Act)) -> Whim {
    Whim { encoding, decoding }
}
