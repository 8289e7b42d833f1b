//! One message of bytes and handles over the child's standard input, a pipe.
//!
//! Handles can be put into a process only when it exists, so the message has two parts: the magic lies in the
//! pipe before the child begins, and tells it that the rest is coming. The rest follows as soon as the child
//! exists; the pipe has room for all of it, so the parent never waits for the child.
//!
//! ```text
//! magic | version, bytes, handles | parent, words | each handle | bytes
//! ```
//!
//! Handles travel as the numbers that they have in the child. All up to `words` stays the same in all versions,
//! so that another version can be answered.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};

use super::lifeline::{self, LastWords};
use super::sys;
use crate::parcel::{Arrival, Header, MAGIC, Parcel};

/// Makes the pipe: the child's end, with the magic in it, and ours.
pub(super) fn open() -> io::Result<(OwnedHandle, File)> {
    let (theirs, ours) = sys::create_pipe(BUFFER)?;
    let mut ours = File::from(ours);
    ours.write_all(&MAGIC)?;
    Ok((theirs, ours))
}

/// Puts the handles into the child and sends the rest of the message. Then closes our end: standard input ends
/// there for whoever still reads it.
pub(super) fn hand_over(
    child: BorrowedHandle<'_>,
    mut pipe: impl Write,
    parcel: &Parcel,
    words: &OwnedHandle,
) -> io::Result<()> {
    let mut rest = Header::of(parcel).encode()[MAGIC.len()..].to_vec();
    rest.extend(sys::put_self_into(child)?.to_le_bytes());
    for handle in std::iter::once(words).chain(&parcel.handles) {
        rest.extend(sys::put_into(child, handle.as_handle())?.to_le_bytes());
    }
    rest.extend(&parcel.bytes);
    match pipe.write_all(&rest) {
        // A child that has closed its input will not join, as one that never reads it: it is not for us to say.
        Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe) => Err(error),
        _ => Ok(()),
    }
}

/// Whether standard input carries a parcel. Changes nothing.
pub fn is_ours() -> bool {
    let mut start = [0; MAGIC.len()];
    // Anything but a pipe is an error.
    sys::standard_input().is_some_and(|pipe| {
        sys::peek(pipe, &mut start).is_ok_and(|waiting| waiting >= start.len()) && start == MAGIC
    })
}

/// Receives what the parent sent, if this process was started with a parcel, sets up the lifeline and empties
/// standard input. To be called first thing in a process, on its main thread.
pub fn arrive() -> Arrival {
    let Some(input) = sys::standard_input().filter(|_| is_ours()) else {
        return Arrival::NotOurs;
    };
    let pipe = match settle(input) {
        Ok(pipe) => pipe,
        Err(error) => return Arrival::Unusable(format!("cannot set up standard input: {error}")),
    };
    // If the system refuses, a Ctrl-Break ends the worker, which costs its call: no reason not to work.
    let _ = sys::leave_ctrl_break_to_the_parent();
    arrive_from(&pipe)
}

/// Receives what the parent sent over `pipe`, and sets up the lifeline.
pub(super) fn arrive_from(mut pipe: impl Read) -> Arrival {
    sys::crash_silently();
    let (start, parent, last_words) = match receive_start(&mut pipe) {
        Ok(start) => start,
        // Without this there is no way to answer.
        Err(error) => return Arrival::Unusable(cut_short(error)),
    };
    let outcome = receive_parcel(&mut pipe, &start).and_then(|parcel| match lifeline::hold(parent) {
        Ok(()) => Ok(parcel),
        Err(error) => Err(format!("cannot start the lifeline's thread: {error}")),
    });
    match outcome {
        Ok(parcel) => Arrival::Parcel { parcel, last_words },
        Err(why) => {
            last_words.say(&why);
            Arrival::Unusable(why)
        }
    }
}

type Start = [u8; Header::LEN];

fn receive_start(pipe: &mut impl Read) -> io::Result<(Start, OwnedHandle, LastWords)> {
    let mut start = [0; Header::LEN];
    pipe.read_exact(&mut start)?;
    let [parent, words] = [receive_handle(pipe)?, receive_handle(pipe)?];
    Ok((start, parent, LastWords::new(words)))
}

fn receive_parcel(pipe: &mut impl Read, start: &Start) -> Result<Parcel, String> {
    let header = Header::decode(start)?;
    let handles =
        (0..header.handles).map(|_| receive_handle(pipe)).collect::<io::Result<_>>().map_err(cut_short)?;
    let mut bytes = vec![0; header.bytes as usize];
    pipe.read_exact(&mut bytes).map_err(cut_short)?;
    Ok(Parcel { bytes, handles })
}

fn receive_handle(pipe: &mut impl Read) -> io::Result<OwnedHandle> {
    let mut number = [0; 8];
    pipe.read_exact(&mut number)?;
    Ok(sys::adopt(u64::from_le_bytes(number)))
}

fn cut_short(error: io::Error) -> String {
    format!("the start message is cut short: {error}")
}

/// Takes the pipe and leaves an empty input in its place.
fn settle(input: BorrowedHandle<'static>) -> io::Result<File> {
    // The duplicate is ours to read and close. What it was made from stays open, since a C library in this
    // process may have it as its standard input, and finds the end there; but nobody must inherit it.
    let pipe = input.try_clone_to_owned()?;
    sys::disinherit(input)?;
    empty_input()?;
    Ok(File::from(pipe))
}

/// Leaves an empty standard input.
pub(super) fn empty_input() -> io::Result<()> {
    let null = OpenOptions::new().read(true).open("NUL")?;
    sys::set_standard_input(null.into())
}

/// Room for the largest message, so that writing it never waits.
const BUFFER: u32 = 256 * 1024;
