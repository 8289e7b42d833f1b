//! The frame decoder of ipc's links, beside a model that sees the whole stream at once.
#![no_main]

use pool_transport_ipc::fuzzing::messages;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(([limit, seed, ahead], stream)) = data.split_first_chunk() else { return };
    let frame_max = usize::from(*limit) << (limit % 7);
    assert_eq!(messages(stream, frame_max, *seed, *ahead), pool_fuzz::model(stream, frame_max));
});
