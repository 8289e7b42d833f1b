//! Shared memory that is scribbled over, by a worker, by a parent, by a third one: as `pool-transport-shm`'s own
//! test `scribbled` has it by chance, here as the fuzzer likes.
#![no_main]

#[path = "../../pool-transport-shm/tests/scribbled/play.rs"]
#[allow(dead_code, reason = "not all of it is for the fuzzer")]
mod play;

libfuzzer_sys::fuzz_target!(
    init: {
        // As in every Rust program; the fuzzer's is none.
        // SAFETY: nothing else touches this signal.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    },
    |data: &[u8]| play::play(data)
);
