//! For the fuzzer only: what it cannot reach from outside.

use crate::decoder::Decoder;

/// Decodes `stream`, which arrives in messages of sizes that `seed` decides, some of them empty, and `ahead % 4 + 1`
/// of them before anybody looks. The frames; and whether nothing is left over, or `None` if the stream was refused.
pub fn messages(stream: &[u8], frame_max: usize, seed: u8, ahead: u8) -> (Vec<Vec<u8>>, Option<bool>) {
    let (mut decoder, mut found) = (Decoder::new(frame_max), Vec::new());
    let (mut rest, mut piece, mut pushed) = (stream, usize::from(seed), 0);
    while !rest.is_empty() {
        piece = (piece * 31 + 7) % 997;
        // Every third is empty.
        let size = if pushed % 3 == 2 { 0 } else { (piece % 97).clamp(1, rest.len()) };
        decoder.push([b"header", &rest[..size]].concat(), 6);
        rest = &rest[size..];
        pushed += 1;
        if pushed % (usize::from(ahead % 4) + 1) != 0 && !rest.is_empty() {
            continue;
        }
        loop {
            match decoder.next() {
                Ok(Some(frame)) => found.push(frame.into_owned()),
                Ok(None) => break,
                Err(_) => return (found, None),
            }
        }
    }
    (found, Some(decoder.is_between_frames()))
}
