//! Who has a call: the worker that starts it, or the parent that takes it back.
//!
//! Both sides map one small [`Board`] of atomic words, [`SLOTS`] of them. The word at `seq % SLOTS` holds the
//! number of a call and its state, and each side moves it on with one compare-and-swap:
//!
//! ```text
//!            parent: ask           worker: claim             parent: revoke
//! asked ◄─────────────── started ◄───────────────── queued ─────────────────► revoked
//! ```
//!
//! A call that has started may be asked to stop: its word says so, and it takes the worker one load to see it.
//!
//! **What the parent believes.** The worker can scribble over the page. So the parent keeps a record of its
//! own, which only ever moves forward; it loads a word once and judges the copy; and a word that makes no sense
//! means *started*, the answer after which a call is never sent again.
//!
//! **A slot that is still taken.** A call may wait behind a long one while more than [`SLOTS`] later ones are
//! sent and taken back. Writing the next word over that of a waiting call would lose it. The parent then leaves
//! the slot alone: the new call is *unarmed*, it cannot be taken back. The worker, which meets calls in
//! order, tells the cases apart by the number it finds: an older one means that this call is unarmed and starts,
//! a newer one that this call was taken back long ago.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pool_core::transport::{Claim, Seq};

/// How many words a page has.
pub const SLOTS: usize = 1024;
/// How many calls may be unsettled at once. Half of the slots, so that a call seldom finds its slot taken.
pub const REVOCABLE: usize = SLOTS / 2;

const QUEUED: u64 = 1;
const STARTED: u64 = 2;
const REVOKED: u64 = 3;
/// Started, and asked to stop.
const ASKED: u64 = 4;

/// How many bits the state takes.
const STATE: u32 = 3;

const fn word(seq: Seq, state: u64) -> u64 {
    (seq.0 << STATE) | state
}

/// Memory that the parent shares with one worker: the claim words, and a word for what it tells its worker.
pub trait Board: fmt::Debug + Send + Sync {
    /// The claim words.
    fn words(&self) -> &[AtomicU64; SLOTS];
    /// For how many nanoseconds a worker that has nothing to do may spin before it sleeps.
    fn spin(&self) -> &AtomicU64;
}

/// The parent's half.
#[derive(Debug)]
pub struct ParentClaims {
    board: Arc<dyn Board>,
    slots: Box<[Slot]>,
}

/// The newest call that was sent through a slot, as far as the parent knows.
#[derive(Clone, Copy, Debug)]
struct Slot {
    seq: Seq,
    armed: bool,
    known: Claim,
}

impl ParentClaims {
    /// Over memory that no worker has seen yet.
    pub fn new(board: Arc<dyn Board>) -> Self {
        // As if every slot had been through: nothing waits in any of them.
        let free = Slot { seq: Seq(0), armed: false, known: Claim::Unknown };
        Self { board, slots: vec![free; SLOTS].into() }
    }

    /// Before the frame of this call can be seen by the worker.
    pub fn arm(&mut self, seq: Seq) {
        let armed = self.is_free(seq);
        if armed {
            self.at(seq).store(word(seq, QUEUED), Ordering::Release);
        }
        self.slots[index(seq)] = Slot { seq, armed, known: Claim::Queued };
    }

    /// See [`Link::revoke`](pool_core::transport::Link::revoke).
    pub fn revoke(&mut self, seq: Seq) -> Claim {
        let known = self.look(seq);
        if known != Claim::Queued {
            return known;
        }
        let (queued, revoked) = (word(seq, QUEUED), word(seq, REVOKED));
        let moved = self.at(seq).compare_exchange(queued, revoked, Ordering::AcqRel, Ordering::Acquire);
        // Whatever else the word has become by now was the worker's doing.
        let known = if moved.is_ok() { Claim::Revoked } else { Claim::Started };
        self.slots[index(seq)].known = known;
        known
    }

    /// See [`Link::claim_state`](pool_core::transport::Link::claim_state).
    pub fn look(&mut self, seq: Seq) -> Claim {
        let slot = self.slots[index(seq)];
        if slot.known == Claim::Unknown || seq > slot.seq {
            return Claim::Unknown;
        }
        if seq < slot.seq {
            // Forgotten. It may have been started, so it must not be sent again.
            return Claim::Started;
        }
        if slot.known != Claim::Queued {
            return slot.known;
        }
        let found = self.at(seq).load(Ordering::Acquire);
        let known = match (slot.armed, found) {
            (true, found) if found == word(seq, QUEUED) => return Claim::Queued,
            (false, found) if found != word(seq, STARTED) => return Claim::Unknown,
            _ => Claim::Started,
        };
        self.slots[index(seq)].known = known;
        known
    }

    /// Asks the worker to stop a call that it has started. False if that cannot be said in its word.
    pub fn ask(&mut self, seq: Seq) -> bool {
        if self.look(seq) != Claim::Started {
            return false;
        }
        let (started, asked) = (word(seq, STARTED), word(seq, ASKED));
        match self.at(seq).compare_exchange(started, asked, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => true,
            Err(found) => found == asked,
        }
    }

    /// Whether no call waits in the slot of `seq`.
    fn is_free(&mut self, seq: Seq) -> bool {
        let slot = self.slots[index(seq)];
        slot.known == Claim::Unknown || matches!(self.look(slot.seq), Claim::Started | Claim::Revoked)
    }

    fn at(&self, seq: Seq) -> &AtomicU64 {
        &self.board.words()[index(seq)]
    }
}

/// The worker's half: starts a call, unless the parent has taken it back.
pub fn claim(board: &dyn Board, seq: Seq) -> bool {
    let at = &board.words()[index(seq)];
    let mut found = at.load(Ordering::Acquire);
    loop {
        let is_mine = found == word(seq, QUEUED);
        let is_older = found >> STATE < seq.0;
        if !is_mine && !is_older {
            return false;
        }
        match at.compare_exchange(found, word(seq, STARTED), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return true,
            // The parent moved the word in between, or the exchange failed for no reason: look again. It
            // moves each call at most once, so this ends.
            Err(now) => found = now,
        }
    }
}

/// The worker's half: whether the parent has asked for the end of a call that was started.
pub fn is_asked(board: &dyn Board, seq: Seq) -> bool {
    board.words()[index(seq)].load(Ordering::Acquire) == word(seq, ASKED)
}

fn index(seq: Seq) -> usize {
    (seq.0 % SLOTS as u64) as usize
}

#[cfg(all(test, any(target_os = "linux", target_os = "android", windows)))]
mod tests {
    use super::*;
    use crate::page::Page;

    fn pair() -> (ParentClaims, Page) {
        let (page, fd) = Page::create().unwrap();
        (ParentClaims::new(Arc::new(page)), Page::open(fd).unwrap())
    }

    #[test]
    fn a_call_is_either_started_or_taken_back() {
        let (mut parent, worker) = pair();
        parent.arm(Seq(0));
        parent.arm(Seq(1));
        assert_eq!(parent.look(Seq(0)), Claim::Queued);
        assert!(claim(&worker, Seq(0)));
        assert_eq!(parent.revoke(Seq(0)), Claim::Started);
        assert_eq!(parent.revoke(Seq(1)), Claim::Revoked);
        assert_eq!(parent.revoke(Seq(1)), Claim::Revoked);
        assert!(!claim(&worker, Seq(1)));
        assert!(!claim(&worker, Seq(0)), "a call starts once");
        assert_eq!(parent.look(Seq(2)), Claim::Unknown);
    }

    #[test]
    fn what_was_seen_started_stays_started_whatever_the_worker_writes() {
        let (mut parent, worker) = pair();
        for (i, scribble) in [0, u64::MAX, word(Seq(1), REVOKED), word(Seq(0), REVOKED)].into_iter().enumerate() {
            let seq = Seq((i * SLOTS) as u64);
            parent.arm(seq);
            worker.words()[0].store(scribble, Ordering::Release);
            assert_eq!(parent.look(seq), Claim::Started);
            worker.words()[0].store(word(seq, QUEUED), Ordering::Release);
            assert_eq!(parent.revoke(seq), Claim::Started);
            assert_eq!(parent.look(seq), Claim::Started);
        }
    }

    #[test]
    fn a_call_that_has_started_can_be_asked_to_stop() {
        let (mut parent, worker) = pair();
        for seq in [0, 1, 5 + SLOTS as u64].map(Seq) {
            parent.arm(seq);
            assert!(!parent.ask(seq) && !is_asked(&worker, seq), "it has not started");
            assert!(claim(&worker, seq));
            assert!(!is_asked(&worker, seq));
            assert!(parent.ask(seq) && parent.ask(seq) && is_asked(&worker, seq));
            assert_eq!((parent.look(seq), parent.revoke(seq)), (Claim::Started, Claim::Started));
            assert!(!claim(&worker, seq), "a call starts once");
        }
        let next = Seq(SLOTS as u64);
        assert!(!parent.ask(next), "it was not sent");
        parent.arm(next);
        assert!(claim(&worker, next) && !is_asked(&worker, next), "another was asked");
        assert!(!parent.ask(Seq(0)), "it is forgotten");
    }

    /// It could not be taken back, and so nobody knew that it had started.
    #[test]
    fn a_call_that_was_not_armed_can_be_asked_to_stop_when_it_has_started() {
        let (mut parent, worker) = pair();
        let [first, second] = [Seq(7), Seq(7 + SLOTS as u64)];
        parent.arm(first);
        parent.arm(second);
        assert!(!parent.ask(second));
        assert!(claim(&worker, first) && claim(&worker, second));
        assert!(parent.ask(second) && is_asked(&worker, second));
        assert_eq!(parent.look(second), Claim::Started);
    }

    #[test]
    fn a_call_taken_back_long_ago_is_still_not_started_after_its_slot_was_reused() {
        let (mut parent, worker) = pair();
        let (old, new) = (Seq(3), Seq(3 + SLOTS as u64));
        parent.arm(old);
        assert_eq!(parent.revoke(old), Claim::Revoked);
        parent.arm(new);
        assert!(!claim(&worker, old));
        assert!(claim(&worker, new));
        assert_eq!(parent.look(new), Claim::Started);
    }

    #[test]
    fn a_waiting_call_survives_any_number_of_later_ones_in_its_slot() {
        let (mut parent, worker) = pair();
        let round = |n: u64| Seq(5 + n * SLOTS as u64);
        parent.arm(round(0));
        parent.arm(round(1));
        parent.arm(round(2));
        assert_eq!(parent.revoke(round(2)), Claim::Unknown, "it was not armed");
        assert_eq!(parent.look(round(0)), Claim::Started, "it was forgotten");
        for n in 0..3 {
            assert!(claim(&worker, round(n)), "{n}");
            assert!(!claim(&worker, round(n)), "{n}");
        }
        assert_eq!(parent.look(round(2)), Claim::Started);
        parent.arm(round(3));
        assert_eq!(parent.revoke(round(3)), Claim::Revoked, "the slot is in use again");
        assert!(!claim(&worker, round(3)));
    }

    #[test]
    fn of_two_threads_exactly_one_gets_each_call() {
        const CALLS: u64 = 200_000;
        let (mut parent, worker) = pair();
        let sent = AtomicU64::new(0);
        let claimed = AtomicU64::new(0);
        let mut revoked = 0;
        std::thread::scope(|scope| {
            let (sent, claimed) = (&sent, &claimed);
            let handle = scope.spawn(move || {
                let mut mine = vec![false; CALLS as usize];
                for seq in 0..CALLS {
                    while sent.load(Ordering::Acquire) <= seq {
                        std::hint::spin_loop();
                    }
                    mine[seq as usize] = claim(&worker, Seq(seq));
                    claimed.store(seq + 1, Ordering::Release);
                }
                mine
            });
            let mut taken = vec![false; CALLS as usize];
            for seq in 0..CALLS {
                parent.arm(Seq(seq));
                sent.store(seq + 1, Ordering::Release);
                if seq % 3 != 0 {
                    for _ in 0..seq % 61 {
                        std::hint::spin_loop();
                    }
                }
                taken[seq as usize] = parent.revoke(Seq(seq)) == Claim::Revoked;
                revoked += u64::from(taken[seq as usize]);
                while claimed.load(Ordering::Acquire) + 100 < seq {
                    std::thread::yield_now();
                }
            }
            let mine = handle.join().unwrap();
            let wrong = (0..CALLS as usize).find(|&i| mine[i] == taken[i]);
            assert_eq!(wrong, None, "both or neither got this call");
        });
        assert!(revoked > 0, "the parent never won");
    }
}
