//! The frame decoder of ipc's links, beside a model that sees the whole stream at once.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pool_transport_ipc::fuzzing::messages(data));
