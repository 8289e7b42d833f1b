//! For the fuzzer only: what it cannot reach from outside.

use crate::decoder::Decoder;

/// Decodes `data` in messages, some of them empty, and compares with what a look at the whole of it says.
///
/// # Panics
/// If the two differ.
pub fn messages(data: &[u8]) {
    let Some(([limit, seed, ahead], stream)) = data.split_first_chunk() else { return };
    let frame_max = usize::from(*limit) << (limit % 7);
    let (expected, is_malformed, is_whole) = model(stream, frame_max);
    let (mut decoder, mut found) = (Decoder::new(frame_max), Vec::new());
    let (mut rest, mut piece, mut pushed) = (stream, usize::from(*seed), 0);
    while !rest.is_empty() {
        piece = (piece * 31 + 7) % 997;
        // Every third is empty.
        let size = if pushed % 3 == 2 { 0 } else { (piece % 97).clamp(1, rest.len()) };
        decoder.push([b"header", &rest[..size]].concat(), 6);
        rest = &rest[size..];
        pushed += 1;
        // Several messages may be there before anybody looks.
        if pushed % (usize::from(*ahead % 4) + 1) != 0 && !rest.is_empty() {
            continue;
        }
        loop {
            match decoder.next() {
                Ok(Some(frame)) => found.push(frame.into_owned()),
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
    while let Some((header, after)) = rest.split_first_chunk::<4>() {
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
