//! What the cases work with: a transport to judge, and its links.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pool_core::transport::{LinkCaps, Transport};

use super::recorder::{PATIENCE, Recorder};
use super::tools::{Half, Pair, connect};
use crate::judge::{Judged, Terms};
use crate::trial::skip;

type Make = Box<dyn Fn() -> Box<dyn Transport> + Send + Sync>;
type MakeLimited = Box<dyn Fn(usize) -> Box<dyn Transport> + Send + Sync>;

/// A transport that is to be judged.
pub struct Candidate {
    terms: Terms,
    make: Make,
    limited: Option<MakeLimited>,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("name", &self.terms.name).finish_non_exhaustive()
    }
}

impl Candidate {
    /// Judges the transports that this makes; `name` is what the cases are called after.
    pub fn new<T: Transport + 'static>(name: &str, make: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self {
            terms: Terms::new(name, PATIENCE, Duration::from_secs(120)),
            make: Box::new(move || Box::new(make())),
            limited: None,
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
        Self { terms: self.terms.in_brief(), ..self }
    }

    /// What its cases are called after.
    pub(crate) fn name(&self) -> &str {
        &self.terms.name
    }

    pub(super) fn transport(&self) -> Box<dyn Transport> {
        (self.make)()
    }
}

impl Judged for Candidate {
    fn terms(&self) -> &Terms {
        &self.terms
    }
}

/// What a case gets.
pub(super) type Bench<'a> = crate::judge::Bench<'a, Candidate>;

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
        let events = Recorder::with_patience(self.patience());
        let (link, ticket) = transport.open(events.clone()).expect("a link");
        (Arc::from(link), events, ticket)
    }

    /// Bytes of a large frame: as many as a large result has, and none like its neighbour.
    pub(super) fn huge(&self) -> Vec<u8> {
        // Wine carries some MiB a second.
        let most = if cfg!(windows) { 16 << 20 } else { 64 << 20 };
        let len = self.many(most).min(self.caps().frame_max as u64 / 2);
        (0..len as u32).map(|i| (i ^ (i >> 9)) as u8).collect()
    }
}
