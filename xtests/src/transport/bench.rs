//! What the cases work with: a transport to judge, and its links.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pool_core::transport::{LinkCaps, Transport};

use super::recorder::{PATIENCE, Recorder};
use super::tools::{Half, Pair, connect};
use crate::trial::skip;

type Make = Box<dyn Fn() -> Box<dyn Transport> + Send + Sync>;
type MakeLimited = Box<dyn Fn(usize) -> Box<dyn Transport> + Send + Sync>;

/// A transport that is to be judged.
pub struct Candidate {
    pub(super) name: String,
    make: Make,
    limited: Option<MakeLimited>,
    /// What part of the usual work the cases do: one in so many.
    divisor: u64,
    pub(super) patience: Duration,
    pub(super) watchdog: Duration,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Candidate {
    /// Judges the transports that this makes; `name` is what the cases are called after.
    pub fn new<T: Transport + 'static>(name: &str, make: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self {
            name: name.to_owned(),
            make: Box::new(move || Box::new(make())),
            limited: None,
            divisor: 1,
            patience: PATIENCE,
            watchdog: Duration::from_secs(120),
        }
    }

    /// Judges this type's default.
    pub fn of<T: Transport + Default + 'static>(name: &str) -> Self {
        Self::new(name, T::default)
    }

    /// The same, which can be made with another limit to its frames, in bytes. Without it, the cases about frames
    /// beyond the limit are skipped.
    #[must_use]
    pub fn frames_up_to<T: Transport + 'static>(self, make: impl Fn(usize) -> T + Send + Sync + 'static) -> Self {
        Self { limited: Some(Box::new(move |bytes| Box::new(make(bytes)))), ..self }
    }

    /// The same, judged quickly: the cases do a tenth of their work, and nothing may take as long as usual. For
    /// transports that are known to break a law.
    #[must_use]
    pub fn in_brief(self) -> Self {
        Self { divisor: 10, patience: Duration::from_secs(5), watchdog: Duration::from_secs(15), ..self }
    }

    /// What its cases are called after.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn transport(&self) -> Box<dyn Transport> {
        (self.make)()
    }
}

/// What a case gets.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    pub(super) candidate: &'a Candidate,
}

impl Bench<'_> {
    /// The transport.
    pub(super) fn transport(&self) -> Box<dyn Transport> {
        self.candidate.transport()
    }

    /// One whose frames have so many bytes at most, if there is such a thing.
    pub(super) fn limited(&self, frame_max: usize) -> Box<dyn Transport> {
        let Some(make) = &self.candidate.limited else {
            skip("the kit was not told how to make this transport with another limit (`Candidate::frames_up_to`)");
        };
        make(frame_max)
    }

    /// What its links can do.
    pub(super) fn caps(&self) -> LinkCaps {
        self.half().0.caps()
    }

    /// How many calls may be revocable at once; skips the case if none is.
    pub(super) fn window(&self) -> u64 {
        match self.caps().revocable {
            Some(window) => window as u64,
            None => skip("this link cannot revoke"),
        }
    }

    /// A link of a transport of its own.
    pub(super) fn pair(&self) -> Pair {
        self.pair_of(&*self.transport())
    }

    pub(super) fn pair_of(&self, transport: &dyn Transport) -> Pair {
        let (link, events, ticket) = self.half_of(transport);
        (link, events, connect(transport, ticket))
    }

    pub(super) fn half(&self) -> Half {
        self.half_of(&*self.transport())
    }

    pub(super) fn half_of(&self, transport: &dyn Transport) -> Half {
        let events = Recorder::with_patience(self.candidate.patience);
        let (link, ticket) = transport.open(events.clone()).expect("a link");
        (Arc::from(link), events, ticket)
    }

    /// So many, or a part of it.
    pub(super) fn many(&self, usual: u64) -> u64 {
        (usual / self.candidate.divisor).max(1)
    }

    /// Bytes of a large frame: as many as a large result has, and none like its neighbour.
    pub(super) fn huge(&self) -> Vec<u8> {
        // Wine carries some MiB a second.
        let most = if cfg!(windows) { 16 << 20 } else { 64 << 20 };
        let len = self.many(most).min(self.caps().frame_max as u64 / 2);
        (0..len as u32).map(|i| (i ^ (i >> 9)) as u8).collect()
    }
}
