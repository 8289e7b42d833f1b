//! The frame decoder of pipes and of shared memory, beside a model that sees the whole stream at once.
#![no_main]

use pool_link::frame::{Decoder, Item};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(([limit, seed], stream)) = data.split_first_chunk() else { return };
    // From nothing to more than the decoder's own buffer takes.
    let frame_max = usize::from(*limit) << (limit % 11);
    assert_eq!(frames(stream, frame_max, *seed), pool_fuzz::model(stream, frame_max));
});

/// Decodes `stream`, which arrives in pieces of sizes that `seed` decides. The frames; and whether nothing is left
/// over, or `None` if the stream was refused.
fn frames(stream: &[u8], frame_max: usize, seed: u8) -> (Vec<Vec<u8>>, Option<bool>) {
    let (mut decoder, mut large, mut found) = (Decoder::new(frame_max), Vec::new(), Vec::new());
    let (mut rest, mut piece) = (stream, usize::from(seed));
    while !rest.is_empty() {
        piece = (piece * 31 + 7) % 9973;
        let size = piece.clamp(1, rest.len());
        let got = decoder.fill(&mut large, size, |target, room| {
            assert!(room > 0, "there is always room");
            target.extend_from_slice(&rest[..room]);
            Ok(room)
        });
        rest = &rest[got.expect("a slice has no errors")..];
        loop {
            match decoder.next(&mut large) {
                Ok(Some(Item::Small(frame))) => found.push(frame.to_vec()),
                Ok(Some(Item::Large)) => found.push(std::mem::take(&mut large)),
                Ok(Some(Item::Request(_))) => unreachable!("nobody told the decoder of requests"),
                Ok(None) => break,
                Err(_) => return (found, None),
            }
        }
    }
    (found, Some(decoder.is_between_frames()))
}
