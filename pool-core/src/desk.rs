//! What lies beside a value while it is encoded or decoded: blobs, and values that are shared.
//!
//! [`Bytes`](crate::Bytes) and [`Shared`](crate::Shared) sit deep inside of values, and serde tells them nothing of what
//! goes on around. So a thread that encodes or decodes has a desk. It is *open* while that thread is within a value, and
//! closed while other code of the user runs, which may encode values for its own ends.

#![cfg_attr(
    all(windows, target_env = "gnu"),
    allow(
        clippy::missing_const_for_thread_local,
        reason = "it is const, which some clippy do not see on this target"
    )
)]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes as Blob;

use crate::codec::Codec;
use crate::share::{Share, Shelf};

/// What lies there.
#[derive(Debug)]
pub(crate) struct Desk {
    /// What will travel beside what is encoded. `None`: everything stays in its value.
    pub(crate) beside: Option<Beside>,
    /// What has come beside what is decoded.
    pub(crate) came: Came,
    /// What went wrong here, since codecs do not pass on what they are told of it.
    trouble: Option<String>,
}

/// What travels beside an encoded value.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// The number of the first blob.
    pub(crate) base: u32,
    pub(crate) blobs: Vec<Blob>,
    /// `None`: shared values travel inside, as any other.
    pub(crate) shares: Option<Shares>,
}

/// The shared values that a call refers to, each once.
#[derive(Debug)]
pub(crate) struct Shares {
    pub(crate) codec: Codec,
    pub(crate) list: Vec<Arc<Share>>,
}

/// What came beside an encoded value.
#[derive(Debug, Default)]
pub(crate) struct Came {
    pub(crate) blobs: Blobs,
    /// How often one of them was fetched.
    fetched: usize,
    /// Where a worker keeps shared values, if the value refers to them.
    shelf: Option<Rc<Shelf>>,
}

/// Blobs that came beside a value. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blobs {
    /// The number of the first.
    pub(crate) base: u32,
    /// `None` is as good as none.
    pub(crate) list: Option<Arc<Vec<Blob>>>,
}

impl Blobs {
    pub(crate) fn new(base: u32, blobs: impl Iterator<Item = Blob>) -> Self {
        Self { base, list: Some(Arc::new(blobs.collect())) }
    }

    fn get(&self, number: u32) -> Option<&Blob> {
        self.list.as_ref()?.get(number.checked_sub(self.base)? as usize)
    }

    fn len(&self) -> usize {
        self.list.as_ref().map_or(0, |blobs| blobs.len())
    }
}

impl Beside {
    /// For the argument of a call, which may refer to shared values.
    pub(crate) fn of_call(codec: Codec) -> Self {
        Self { shares: Some(Shares { codec, list: Vec::new() }), ..Self::default() }
    }

    /// Splits off what belongs to the values behind the first `count` blobs. Which shared values they refer to is not
    /// known, so it may be all of them.
    pub(crate) fn split_off(&mut self, count: usize) -> Self {
        let blobs = self.blobs.split_off(count);
        let shares =
            self.shares.as_ref().map(|Shares { codec, list }| Shares { codec: *codec, list: list.clone() });
        Self { base: self.base + count as u32, blobs, shares }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.shares.as_ref().is_none_or(|shares| shares.list.is_empty())
    }
}

impl Came {
    pub(crate) fn new(blobs: Blobs, shelf: Option<Rc<Shelf>>) -> Self {
        Self { blobs, fetched: 0, shelf }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blobs.len() == 0 && self.shelf.is_none()
    }

    /// How many blobs nobody has fetched. (One may be fetched twice where a type is guessed.)
    pub(crate) fn left(&self) -> usize {
        self.blobs.len().saturating_sub(self.fetched)
    }
}

thread_local! {
    static DESK: Cell<Desk> = const { Cell::new(Desk::EMPTY) };
    static STATE: Cell<State> = const { Cell::new(State::Free) };
    /// What to lay on the desk when something is left there. Most values leave nothing, and cost no more than a look at
    /// this then.
    static WHEN_NEEDED: Cell<Option<Kind>> = const { Cell::new(None) };
    /// How many blobs were ever left.
    static TALLY: Cell<usize> = const { Cell::new(0) };
}

/// Whether values can get at the desk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody uses it.
    Free,
    Open,
    Closed,
}

/// What an encoded value may leave.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Blobs.
    Blobs,
    /// Blobs and references to shared values, which are encoded so.
    Call(Codec),
}

impl Kind {
    fn beside(self) -> Beside {
        match self {
            Self::Blobs => Beside::default(),
            Self::Call(codec) => Beside::of_call(codec),
        }
    }
}

/// Puts the desk back as it was, whatever happens.
struct Before {
    desk: Desk,
    when_needed: Option<Kind>,
    _state: Earlier,
}

impl Drop for Before {
    fn drop(&mut self) {
        replace(std::mem::replace(&mut self.desk, Desk::EMPTY));
        WHEN_NEEDED.with(|kind| kind.set(self.when_needed));
    }
}

/// Puts a state back.
struct Earlier(State);

impl Drop for Earlier {
    #[inline(always)]
    fn drop(&mut self) {
        set_state(self.0);
    }
}

/// Leaves the desk empty, whatever happens.
struct Leave;

impl Drop for Leave {
    #[inline(always)]
    fn drop(&mut self) {
        set_state(State::Free);
        if WHEN_NEEDED.with(Cell::take).is_none() {
            replace(Desk::EMPTY);
        }
    }
}

impl Desk {
    const EMPTY: Self = Self {
        beside: None,
        came: Came { blobs: Blobs { base: 0, list: None }, fetched: 0, shelf: None },
        trouble: None,
    };

    pub(crate) fn new(beside: Beside, came: Came) -> Self {
        Self { beside: Some(beside), came, trouble: None }
    }

    /// Says of an error what is known here.
    fn explain(&mut self, error: String) -> String {
        match self.trouble.take() {
            Some(trouble) => format!("{error}: {trouble}"),
            None => error,
        }
    }

    /// Runs `f` at this desk, closed. Gives back what has become of it.
    pub(crate) fn work<T>(self, f: impl FnOnce() -> T) -> (T, Self) {
        let when_needed = WHEN_NEEDED.with(Cell::take);
        let before = Before { desk: replace(self), when_needed, _state: Earlier(set_state(State::Closed)) };
        let value = f();
        let after = replace(Self::EMPTY);
        drop(before);
        (value, after)
    }
}

/// Runs `f`, which encodes or decodes a value, with the desk open.
#[inline(always)]
pub(crate) fn open<T>(f: impl FnOnce() -> T) -> T {
    let _earlier = Earlier(set_state(State::Open));
    f()
}

/// Runs `f`, which encodes or decodes a value with all that it has inside.
#[inline(always)]
pub(crate) fn closed<T>(f: impl FnOnce() -> T) -> T {
    let _earlier = Earlier(set_state(State::Closed));
    f()
}

/// Runs `f`, which encodes a value, and collects what is to travel beside it.
#[inline(always)]
pub(crate) fn encoding(kind: Kind, f: impl FnOnce() -> Result<(), String>) -> Result<Beside, String> {
    let (encoded, mut desk) = if STATE.with(Cell::get) == State::Free {
        WHEN_NEEDED.with(|place| place.set(Some(kind)));
        set_state(State::Open);
        let leave = Leave;
        let encoded = f();
        if WHEN_NEEDED.with(Cell::get).is_some() {
            // Nobody has left anything.
            drop(leave);
            return encoded.map(|()| Beside::default());
        }
        let desk = replace(Desk::EMPTY);
        drop(leave);
        (encoded, desk)
    } else {
        Desk::new(kind.beside(), Came::default()).work(|| open(f))
    };
    encoded.map_err(|error| desk.explain(error))?;
    Ok(desk.beside.unwrap_or_default())
}

/// Runs `f`, which decodes a value beside which this has come. Returns how many blobs were not fetched, too.
#[inline(always)]
pub(crate) fn decoding<T>(came: Came, f: impl FnOnce() -> Result<T, String>) -> Result<(T, usize), String> {
    if came.is_empty() {
        return closed(f).map(|value| (value, 0));
    }
    let (value, mut desk) = Desk { came, ..Desk::EMPTY }.work(|| open(f));
    value.map(|value| (value, desk.came.left())).map_err(|error| desk.explain(error))
}

/// Says of an error what is known at this desk, which may be closed.
#[cold]
pub(crate) fn explain(error: String) -> String {
    peek(|desk| desk.explain(error))
}

/// Notes what goes wrong here. Returns what to tell the codec.
pub(crate) fn trouble(what: String) -> String {
    with(|desk| desk.trouble = Some(what.clone()));
    what
}

/// Leaves a blob to travel beside its value, if anything may. Returns its number.
pub(crate) fn leave_blob(blob: &Blob) -> Option<u32> {
    with(|desk| {
        let beside = desk.beside.as_mut()?;
        let number = beside.base.checked_add(u32::try_from(beside.blobs.len()).ok()?)?;
        beside.blobs.push(blob.clone());
        TALLY.with(|tally| tally.set(tally.get().wrapping_add(1)));
        Some(number)
    })?
}

/// Changes when a blob is left. Quicker to ask for than [`left`].
#[inline(always)]
pub(crate) fn tally() -> usize {
    TALLY.with(Cell::get)
}

/// How many blobs lie here to travel beside values, and how many bytes they have in all. The desk may be closed.
pub(crate) fn left() -> (usize, usize) {
    peek(|desk| {
        let blobs = desk.beside.as_ref().map_or(&[][..], |beside| &beside.blobs);
        (blobs.len(), blobs.iter().map(Blob::len).sum())
    })
}

/// Takes back the blobs that were left after the first `count`. The desk may be closed.
pub(crate) fn keep(count: usize) {
    let gone = peek(|desk| desk.beside.as_mut().map(|beside| beside.blobs.split_off(count)));
    // Dropped here: their owner may use the desk.
    drop(gone);
}

/// Fetches a blob. `None`: what is decoded has all that it needs inside.
pub(crate) fn fetch_blob(number: u32) -> Result<Option<Blob>, String> {
    let fetched = with(|desk| {
        let blob = desk.came.blobs.get(number).ok_or_else(|| format!("there is no blob number {number}"))?;
        desk.came.fetched += 1;
        Ok(blob.clone())
    });
    fetched.transpose()
}

/// The codec in which shared values are encoded once for many calls. `None`: they stay in their values.
pub(crate) fn shares_in() -> Option<Codec> {
    with(|desk| Some(desk.beside.as_ref()?.shares.as_ref()?.codec))?
}

/// Notes that the value refers to a shared one.
pub(crate) fn refer(share: Arc<Share>) {
    with(|desk| {
        let shares = desk.beside.as_mut().and_then(|beside| beside.shares.as_mut());
        if let Some(Shares { list, .. }) = shares
            && list.iter().all(|known| known.id != share.id)
        {
            list.push(share);
        }
    });
}

/// Where shared values are kept that the value refers to.
pub(crate) fn shelf() -> Option<Rc<Shelf>> {
    with(|desk| desk.came.shelf.clone())?
}

/// Looks at the desk, if it is open. A thread at its end has none any more: everything stays in its value then.
fn with<T>(f: impl FnOnce(&mut Desk) -> T) -> Option<T> {
    (STATE.with(Cell::get) == State::Open).then(|| peek(f))
}

fn peek<T>(f: impl FnOnce(&mut Desk) -> T) -> T {
    let mut desk = replace(Desk::EMPTY);
    if let Some(kind) = WHEN_NEEDED.with(Cell::take) {
        desk.beside = Some(kind.beside());
    }
    let value = f(&mut desk);
    replace(desk);
    value
}

fn replace(desk: Desk) -> Desk {
    DESK.try_with(|place| place.replace(desk)).unwrap_or(Desk::EMPTY)
}

#[inline(always)]
fn set_state(state: State) -> State {
    // It has nothing to drop, so it is there as long as the thread.
    STATE.with(|place| place.replace(state))
}
