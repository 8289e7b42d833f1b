//! For the fuzzer only: what it cannot reach from outside.

use pool_link::frame::{Decoder, Item};

/// Decodes `stream`, which arrives in pieces of sizes that `seed` decides. The frames; and whether nothing is left
/// over, or `None` if the stream was refused.
///
/// # Panics
/// If there is no room for a piece.
pub fn frames(stream: &[u8], frame_max: usize, seed: u8) -> (Vec<Vec<u8>>, Option<bool>) {
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
                Ok(None) => break,
                Err(_) => return (found, None),
            }
        }
    }
    (found, Some(decoder.is_between_frames()))
}
