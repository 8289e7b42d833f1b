//! From bytes to events: what the reading side of a link does with what has arrived, on every system.

use std::borrow::Cow;
use std::io;
use std::mem;

use pool_core::transport::{Closed, LinkEvents};

use crate::frame::{Decoder, Item, Malformed};

/// The bytes that are not yet a whole frame, and whether `drained` is owed.
#[derive(Debug)]
pub struct Inbox {
    decoder: Decoder,
    /// The large frame that is arriving.
    large: Vec<u8>,
    /// That it is arriving was told.
    is_told: bool,
    undrained: bool,
}

impl Inbox {
    /// Frames of more than `frame_max` bytes are none.
    pub fn new(frame_max: usize) -> Self {
        Self { decoder: Decoder::new(frame_max), large: Vec::new(), is_told: false, undrained: false }
    }

    /// See [`Decoder::fill`].
    pub fn fill(
        &mut self,
        limit: usize,
        read: impl FnOnce(&mut Vec<u8>, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.decoder.fill(&mut self.large, limit, read)
    }

    /// Delivers all frames that are complete, as long as anybody wants them.
    pub fn deliver(
        &mut self,
        events: &dyn LinkEvents,
        mut is_wanted: impl FnMut() -> bool,
    ) -> Result<(), Malformed> {
        // A callback may drop the link; it gets no more of what has already been read then.
        while is_wanted() {
            let frame = match self.decoder.next(&mut self.large)? {
                None => {
                    if self.decoder.is_in_large_frame() && !mem::replace(&mut self.is_told, true) {
                        events.arriving();
                    }
                    break;
                }
                Some(Item::Small(bytes)) => Cow::Borrowed(bytes),
                Some(Item::Request(_)) => unreachable!("invariant: only a worker's stream has requests"),
                Some(Item::Large) => {
                    self.is_told = false;
                    Cow::Owned(mem::take(&mut self.large))
                }
            };
            self.undrained = true;
            events.frame(frame);
        }
        Ok(())
    }

    /// Whether frames were delivered since this was asked last.
    pub fn owes_drained(&mut self) -> bool {
        mem::take(&mut self.undrained)
    }

    /// What it means if nothing follows.
    pub fn at_end(&self) -> Closed {
        if self.decoder.is_between_frames() { Closed::Eof } else { Closed::Truncated }
    }

    /// Gives the memory back. Nothing is filled in after this.
    pub fn clear(&mut self) {
        self.decoder.clear();
        self.large = Vec::new();
    }
}
