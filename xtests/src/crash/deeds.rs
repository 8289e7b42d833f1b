//! What calls do, in the worker.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use process_pool::Bytes;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};
use serde::{Deserialize as D, Serialize as S};

use super::sys;
use crate::gate::wait_at;

/// What a call is to do after it has noted that it began, and waited at the gate.
#[derive(Clone, Debug, PartialEq, Eq, S, D)]
pub(super) enum Deed {
    /// Returns.
    Nothing,
    Exit(i32),
    Abort,
    /// Writes where there is no memory.
    Trespass,
    OverflowStack,
    Panic,
    /// Closes all its descriptors but the standard streams.
    CloseAll,
    /// Leaves a process with all its descriptors, whose id it writes to this file, and exits with 0.
    LeaveHeir(String),
    /// Returns, and has the process killed so many µs later.
    EndSoon(u64),
    /// Takes memory until it is stopped; at most so many MiB.
    Devour(usize),
}

/// A value that the codec stumbles over, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trap {
    None,
    CannotBeEncoded,
    CannotBeDecoded,
    KillsWhoDecodes,
}

impl Trap {
    const ALL: [Self; 4] = [Self::None, Self::CannotBeEncoded, Self::CannotBeDecoded, Self::KillsWhoDecodes];
}

impl Serialize for Trap {
    fn serialize<T: Serializer>(&self, to: T) -> Result<T::Ok, T::Error> {
        match self {
            Self::CannotBeEncoded => Err(T::Error::custom("a trap")),
            other => to.serialize_u8(*other as u8),
        }
    }
}

impl<'de> Deserialize<'de> for Trap {
    fn deserialize<T: Deserializer<'de>>(from: T) -> Result<Self, T::Error> {
        match Self::ALL.get(usize::from(u8::deserialize(from)?)) {
            Some(Self::CannotBeDecoded) => Err(T::Error::custom("a trap")),
            Some(Self::KillsWhoDecodes) => std::process::abort(),
            Some(trap) => Ok(*trap),
            None => Err(T::Error::custom("no such trap")),
        }
    }
}

#[derive(Debug, S, D)]
pub(super) struct Argument {
    /// A file to note in that the call has begun.
    pub(super) ledger: String,
    /// The call's number.
    pub(super) number: u32,
    /// Where to wait; 0: nowhere.
    pub(super) gate: u16,
    pub(super) deed: Deed,
    pub(super) trap: Trap,
    /// The [`Trap`] to answer with, by its number.
    pub(super) answer: u8,
    /// Bytes to answer with.
    pub(super) bytes: usize,
    pub(super) load: Bytes,
}

#[derive(Debug, S, D)]
pub(super) struct Output {
    pub(super) number: u32,
    /// The process in which the call ran.
    pub(super) pid: u32,
    /// How many bytes came with the argument.
    pub(super) came: usize,
    pub(super) load: Bytes,
    pub(super) trap: Trap,
}

pub(super) fn act(argument: Argument) -> Output {
    let Argument { ledger, number, gate, deed, answer, bytes, load, .. } = argument;
    let mut file = File::options().append(true).open(ledger).expect("the ledger is there");
    // One write, so that lines of several workers do not mix.
    file.write_all(format!("{number}\n").as_bytes()).expect("noted");
    if gate != 0 {
        wait_at(gate);
    }
    carry_out(deed);
    let trap = Trap::ALL[usize::from(answer)];
    Output { number, pid: std::process::id(), came: load.len(), load: Bytes::from(vec![7; bytes]), trap }
}

fn carry_out(deed: Deed) {
    match deed {
        Deed::Nothing => {}
        Deed::Exit(code) => std::process::exit(code),
        Deed::Abort => std::process::abort(),
        Deed::Trespass => sys::trespass(),
        Deed::OverflowStack => drop(overflow(0)),
        Deed::Panic => panic!("on purpose"),
        Deed::CloseAll => sys::close_all(),
        Deed::LeaveHeir(path) => {
            std::fs::write(path, sys::leave_heir().to_string()).expect("written");
            std::process::exit(0);
        }
        Deed::EndSoon(micros) => drop(std::thread::spawn(move || {
            // The instant is meant to be any.
            std::thread::sleep(Duration::from_micros(micros));
            sys::kill_self();
        })),
        Deed::Devour(mib) => {
            let held: Vec<Vec<u8>> = (0..mib).map(|_| std::hint::black_box(vec![1; 1 << 20])).collect();
            drop(held);
        }
    }
}

fn overflow(n: u64) -> u64 {
    let room = std::hint::black_box([n; 512]);
    if n == u64::MAX { 0 } else { overflow(n + 1) + room[(n % 512) as usize] }
}

/// An initializer.
pub(super) fn panics((): ()) {
    panic!("not ready, on purpose");
}
