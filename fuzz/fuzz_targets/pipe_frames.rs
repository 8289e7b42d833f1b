//! The pipe's frame decoder, beside a model that sees the whole stream at once.
#![no_main]

use pool_transport_pipe::fuzzing::frames;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(([limit, seed], stream)) = data.split_first_chunk() else { return };
    // From nothing to more than the decoder's own buffer takes.
    let frame_max = usize::from(*limit) << (limit % 11);
    assert_eq!(frames(stream, frame_max, *seed), pool_fuzz::model(stream, frame_max));
});
