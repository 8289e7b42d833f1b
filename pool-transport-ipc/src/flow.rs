//! How much may be under way: a credit for each direction, so that ipc-channel's `send` never has to wait.
//!
//! `send` of ipc-channel blocks once the system's buffer is full: on Linux after some 250 small messages, or in
//! the middle of one large one. A thread that is blocked there cannot be called back, not even to close the
//! link. So each side counts what it has sent and the other has not yet taken out, and stops, queueing in
//! its own memory, before the buffer can be full. What was taken out is told along with whatever is sent back;
//! if much is under way, the sender asks to be told at once.

use std::io;

use ipc_channel::platform::OsIpcSender;

use crate::rendezvous::contained;
use crate::wire::{Header, Malformed};

/// How large the buffer is taken to be at most: Linux's default of 208 KiB, with room to spare for messages
/// that cost no credit (acknowledgements, and the one that ends the link).
const WINDOW_MAX: usize = 144 * 1024;
/// More in one message does not pay: two or three of them have to fit the window.
const PIECE_MAX: usize = 32 * 1024;

/// What the system's buffer allows. Each side has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The cost that may be under way.
    window: u32,
    /// The longest message, header included. Shorter than what ipc-channel sends in one piece: a message that
    /// it has to cut up goes through a socket pair of its own, which can run out of descriptors, and whose
    /// reader cannot be woken if the writer is stopped in the middle.
    pub(crate) piece_max: usize,
}

impl Limits {
    /// Asks the system.
    ///
    /// # Errors
    /// If there are no two descriptors free. Before anything else is done with ipc-channel: it asks too, once, and
    /// if that fails it panics, then and ever after in this process.
    pub(crate) fn of_system() -> io::Result<Self> {
        drop((io::pipe()?, io::pipe()?));
        contained(OsIpcSender::get_max_fragment_size).map(Self::of_buffer)
    }

    fn of_buffer(bytes: usize) -> Self {
        let window = (bytes / 3 * 2).min(WINDOW_MAX);
        Self { window: window as u32, piece_max: (window / 4).min(PIECE_MAX) }
    }
}

/// What a message takes of the buffer, at most. Both sides count alike.
///
/// Linux charges a socket buffer's bookkeeping, and rounds what lies in one block, up to 16 KiB, to the next
/// power of two. Elsewhere it is less.
const fn cost(len: usize) -> u32 {
    const BOOKKEEPING: usize = 1280;
    const BLOCK: usize = 16 * 1024;
    let rounding = if len < BLOCK { len } else { BLOCK };
    (len + rounding + BOOKKEEPING) as u32
}

/// The credit of one side.
#[derive(Debug)]
pub(crate) struct Flow {
    limits: Limits,
    /// What we have sent and the other side has not taken out, as far as we know.
    in_flight: u32,
    /// What we have taken out and not told.
    owed: u32,
    /// The other side waits to be told.
    must_tell: bool,
}

impl Flow {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, in_flight: 0, owed: 0, must_tell: false }
    }

    /// The longest message.
    pub(crate) fn piece_max(&self) -> usize {
        self.limits.piece_max
    }

    /// Whether a message of `len` bytes can be sent without waiting.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.in_flight + cost(len) <= self.limits.window
    }

    /// The header of a message of `len` bytes, which will be sent now.
    pub(crate) fn send(&mut self, len: usize) -> Header {
        self.in_flight += cost(len);
        // If a message ever finds no room, the one before it has asked to be told: nobody waits in vain.
        let is_tight = self.in_flight + cost(self.limits.piece_max) > self.limits.window;
        let tell_me = is_tight || self.in_flight > self.limits.window / 2;
        Header { tell_me, ..self.tell() }
    }

    /// The header of a message that only tells, and costs nothing.
    pub(crate) fn tell(&mut self) -> Header {
        self.must_tell = false;
        let taken = std::mem::take(&mut self.owed);
        Header { taken, tell_me: false, is_end: false, is_request: false }
    }

    /// Whether the other side waits to be told.
    pub(crate) fn must_tell(&self) -> bool {
        self.must_tell
    }

    /// A message of `len` bytes was taken out; it costs if it `carries` anything.
    pub(crate) fn received(&mut self, header: &Header, len: usize, carries: bool) -> Result<(), Malformed> {
        let Some(rest) = self.in_flight.checked_sub(header.taken) else {
            let (taken, sent) = (header.taken, self.in_flight);
            return Err(Malformed(format!("it says that it took {taken} of {sent}")));
        };
        self.in_flight = rest;
        if carries {
            // Whoever keeps to the window is far from the largest number.
            self.owed = self.owed.saturating_add(cost(len));
            self.must_tell |= header.tell_me;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(from: &mut Flow, to: &mut Flow, len: usize) {
        let header = from.send(len);
        to.received(&header, len, true).unwrap();
    }

    #[test]
    fn whoever_runs_out_of_room_has_asked_to_be_told() {
        for buffer in [4608, 30_000, 65_536, 212_448, usize::MAX] {
            let limits = Limits::of_buffer(buffer);
            for len in [5, 100, 700, limits.piece_max / 2, limits.piece_max] {
                let (mut one, mut other) = (Flow::new(limits), Flow::new(limits));
                for _ in 0..1000 {
                    while one.has_room(len) {
                        exchange(&mut one, &mut other, len);
                    }
                    assert!(other.must_tell(), "{limits:?} {len}");
                    let header = other.tell();
                    one.received(&header, 5, false).unwrap();
                    assert!(one.has_room(limits.piece_max), "{limits:?} {len}");
                }
            }
        }
    }

    #[test]
    fn replies_tell_along_the_way() {
        let limits = Limits::of_buffer(212_448);
        let (mut one, mut other) = (Flow::new(limits), Flow::new(limits));
        for _ in 0..1000 {
            exchange(&mut one, &mut other, 100);
            exchange(&mut other, &mut one, 100);
            assert!(!one.must_tell() && !other.must_tell());
        }
    }

    #[test]
    fn nobody_takes_more_than_was_sent() {
        let mut flow = Flow::new(Limits::of_buffer(212_448));
        let header = Header { taken: 1, tell_me: false, is_end: false, is_request: false };
        assert!(flow.received(&header, 5, false).is_err());
    }
}
