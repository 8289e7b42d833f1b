//! The pipe's frame decoder, beside a model that sees the whole stream at once.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pool_transport_pipe::fuzzing::frames(data));
