//! For the fuzzer only: what it cannot reach from outside.

use pool_link::frame::{Decoder, HEADER, Item};

/// Decodes `data` in pieces, and compares with what a look at the whole of it says.
///
/// # Panics
/// If the two differ.
pub fn frames(data: &[u8]) {
    let Some(([limit, seed], stream)) = data.split_first_chunk() else { return };
    // From nothing to more than the decoder's own buffer takes.
    let frame_max = usize::from(*limit) << (limit % 11);
    let (expected, is_malformed, is_whole) = model(stream, frame_max);
    let (mut decoder, mut large, mut found) = (Decoder::new(frame_max), Vec::new(), Vec::new());
    let (mut rest, mut piece) = (stream, usize::from(*seed));
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
                Err(_) => {
                    assert!(is_malformed, "a good stream was refused");
                    assert_eq!(found, expected);
                    return;
                }
            }
        }
    }
    assert!(!is_malformed, "a length beyond the limit was taken");
    assert_eq!(found, expected);
    assert_eq!(decoder.is_between_frames(), is_whole);
}

/// The frames; whether what follows them is a length beyond the limit; whether there is nothing more.
fn model(stream: &[u8], frame_max: usize) -> (Vec<Vec<u8>>, bool, bool) {
    let (mut frames, mut rest) = (Vec::new(), stream);
    while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
        let length = u32::from_le_bytes(*header) as usize;
        if length > frame_max {
            return (frames, true, false);
        }
        let Some((frame, after)) = after.split_at_checked(length) else { break };
        frames.push(frame.to_vec());
        rest = after;
    }
    let is_whole = rest.is_empty();
    (frames, false, is_whole)
}
