//! A receiver that records what a link tells.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pool_core::transport::{Closed, LinkEvents};

/// Longer than anything takes; a case that waits in vain fails by its own message before a watchdog comes.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// What a link has told.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// A frame from the worker.
    Frame(Vec<u8>),
    /// No further frame is at hand.
    Drained,
    /// The end.
    Closed(Closed),
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(frame) => {
                write!(f, "Frame({} bytes: {:?})", frame.len(), &frame[..frame.len().min(20)])
            }
            Self::Drained => f.write_str("Drained"),
            Self::Closed(why) => write!(f, "Closed({why:?})"),
        }
    }
}

type Hook = Box<dyn Fn(&Event) + Send + Sync>;

/// Records all events, and lets a case wait for them.
pub struct Recorder {
    events: Mutex<VecDeque<Event>>,
    changed: Condvar,
    /// Called from within the event, after it was recorded.
    hook: OnceLock<Hook>,
    /// A case that waits for longer waits in vain.
    patience: Duration,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("events", &self.events).finish_non_exhaustive()
    }
}

impl Recorder {
    /// One that waits for as long as anything takes on a busy machine.
    pub fn new() -> Arc<Self> {
        Self::with_patience(PATIENCE)
    }

    /// One that waits for so long.
    pub fn with_patience(patience: Duration) -> Arc<Self> {
        Arc::new(Self { events: Mutex::default(), changed: Condvar::new(), hook: OnceLock::new(), patience })
    }

    /// Calls `hook` from within each event, after it was recorded.
    ///
    /// # Panics
    /// The second time.
    pub fn on_event(&self, hook: impl Fn(&Event) + Send + Sync + 'static) {
        assert!(self.hook.set(Box::new(hook)).is_ok());
    }

    /// What was told and not taken out yet.
    pub fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next event that is not `Drained`, and takes it out.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn next(&self) -> Event {
        let mut events = self.lock();
        loop {
            match events.pop_front() {
                Some(Event::Drained) => {}
                Some(event) => return event,
                None => {
                    let (now, wait) =
                        self.changed.wait_timeout(events, self.patience).unwrap_or_else(PoisonError::into_inner);
                    events = now;
                    assert!(!wait.timed_out() || !events.is_empty(), "the link says nothing more");
                }
            }
        }
    }

    /// The next event, which is a frame.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn next_frame(&self) -> Vec<u8> {
        match self.next() {
            Event::Frame(frame) => frame,
            other => panic!("not a frame: {other:?}"),
        }
    }

    /// The next event, which is the end.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn next_closed(&self) -> Closed {
        match self.next() {
            Event::Closed(why) => why,
            other => panic!("not the end: {other:?}"),
        }
    }

    /// Whether a frame waits to be taken out.
    pub fn has_frame(&self) -> bool {
        self.lock().iter().any(|event| matches!(event, Event::Frame(_)))
    }

    /// Whether the end has come, and waits to be taken out.
    pub fn has_closed(&self) -> bool {
        self.lock().iter().any(|event| matches!(event, Event::Closed(_)))
    }

    /// Makes sure that nothing more was told.
    ///
    /// # Panics
    /// If it was.
    #[track_caller]
    pub fn is_silent(&self) {
        let events = self.lock();
        assert!(events.is_empty(), "{events:?}");
    }

    fn put(&self, event: Event) {
        self.lock().push_back(event.clone());
        self.changed.notify_all();
        if let Some(hook) = self.hook.get() {
            hook(&event);
        }
    }
}

impl LinkEvents for Recorder {
    fn arriving(&self) {}

    fn frame(&self, frame: Cow<'_, [u8]>) {
        self.put(Event::Frame(frame.into_owned()));
    }

    fn drained(&self) {
        self.put(Event::Drained);
    }

    fn closed(&self, why: Closed) {
        self.put(Event::Closed(why));
    }
}
