//! Frames into a stream of bytes, and out of one.

use pool_core::transport::Payload;
use pool_link::frame::{Decoder, Item, header};
use pool_link::out::OutQueue;

const WARM: usize = 20;
const FRAMES: usize = 64;
/// A call's head, and a small argument.
const HEAD: [u8; 26] = [2; 26];
const BODY: [u8; 10] = [7; 10];
const LIMIT: usize = 1 << 30;

/// Queues frames, and hands them over in one go.
pub(crate) fn out(times: usize) {
    let (mut queue, body, expected) = (OutQueue::default(), Payload::copied(&BODY), stream().len());
    for _ in 0..WARM + times {
        for _ in 0..FRAMES {
            let header = header(HEAD.len() + BODY.len(), LIMIT).expect("it is short");
            queue.push(&header, &HEAD, &body);
        }
        let taken = queue.write_with(|slices| Ok(slices.iter().map(|slice| slice.len()).sum()));
        assert_eq!(taken.expect("nothing fails").1, expected);
        assert!(queue.is_empty());
    }
}

/// Finds frames in what has come in one go.
pub(crate) fn within(times: usize) {
    let (mut decoder, mut large) = (Decoder::new(LIMIT), Vec::new());
    let stream = stream();
    for _ in 0..WARM + times {
        let read = |target: &mut Vec<u8>, room: usize| {
            assert!(room >= stream.len(), "its buffer takes more");
            target.extend_from_slice(&stream);
            Ok(stream.len())
        };
        decoder.fill(&mut large, usize::MAX, read).expect("nothing fails");
        let mut found = 0;
        while let Some(item) = decoder.next(&mut large).expect("these are frames") {
            found += usize::from(matches!(item, Item::Small(frame) if frame.len() == HEAD.len() + BODY.len()));
        }
        assert_eq!(found, FRAMES);
    }
}

fn stream() -> Vec<u8> {
    let header = header(HEAD.len() + BODY.len(), LIMIT).expect("it is short");
    [&header[..], &HEAD, &BODY].concat().repeat(FRAMES)
}
