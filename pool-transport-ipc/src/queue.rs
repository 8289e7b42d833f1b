//! What waits to be sent to a worker: a stream of bytes, with large bodies kept by reference.

use std::collections::VecDeque;

use pool_core::transport::Payload;

/// Bodies from this size on are kept as they are; a smaller one is copied, so that frames can share a message.
const KEEP_MIN: usize = 16 * 1024;
/// Small frames are joined in blocks of this size.
const BLOCK: usize = 64 * 1024;

/// Frames that were sent and are not yet under way.
#[derive(Debug, Default)]
pub(crate) struct OutQueue {
    parts: VecDeque<Part>,
    /// How much of the first part is gone.
    at: usize,
    len: usize,
}

#[derive(Debug)]
enum Part {
    Joined(Vec<u8>),
    Body(Payload),
}

impl Part {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Joined(bytes) => bytes,
            Self::Body(payload) => payload.as_slice(),
        }
    }
}

impl OutQueue {
    pub(crate) fn push(&mut self, length: &[u8], head: &[u8], body: &Payload) {
        self.join(length);
        self.join(head);
        self.len += body.len();
        if body.len() < KEEP_MIN {
            self.len -= body.len();
            self.join(body.as_slice());
        } else {
            self.parts.push_back(Part::Body(body.clone()));
        }
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Moves the first `count` bytes, of which there are so many, to the end of `to`.
    pub(crate) fn take(&mut self, mut count: usize, to: &mut Vec<u8>) {
        self.len -= count;
        while count > 0 {
            let part = self.parts.front_mut().expect("the length is the sum of the parts");
            let rest = &part.as_slice()[self.at..];
            let taken = rest.len().min(count);
            to.extend_from_slice(&rest[..taken]);
            count -= taken;
            self.at += taken;
            if self.at == part.as_slice().len() {
                self.at = 0;
                self.forget_first();
            }
        }
    }

    /// Drops everything and gives the memory back.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn join(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        match self.parts.back_mut() {
            Some(Part::Joined(block)) if block.len() < BLOCK => block.extend_from_slice(bytes),
            _ => self.parts.push_back(Part::Joined(bytes.to_vec())),
        }
    }

    /// The first part is used up. A block that is alone is kept for the next frame.
    fn forget_first(&mut self) {
        let is_alone = self.parts.len() == 1;
        match self.parts.front_mut() {
            Some(Part::Joined(block)) if is_alone && block.capacity() <= 2 * BLOCK => block.clear(),
            _ => drop(self.parts.pop_front()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_taken_comes_out_in_order() {
        for step in [1, 3, 1000, 20_000, usize::MAX] {
            let (mut queue, mut expected, mut out) = (OutQueue::default(), Vec::new(), Vec::new());
            for i in 0..200_u32 {
                let len = [0, 5, 100, KEEP_MIN - 1, KEEP_MIN, 40_000][i as usize % 6];
                let body = vec![i as u8; if step < 1000 { len.min(KEEP_MIN + 7) / 10 } else { len }];
                queue.push(&i.to_le_bytes(), b"head", &Payload::copied(&body));
                expected.extend(i.to_le_bytes());
                expected.extend(b"head");
                expected.extend(body);
                if i % 3 == 0 {
                    queue.take(step.min(queue.len()), &mut out);
                }
            }
            while queue.len() > 0 {
                queue.take(step.min(queue.len()), &mut out);
            }
            assert!(out == expected, "step {step}");
        }
    }

    #[test]
    fn a_block_is_used_again() {
        let (mut queue, mut out) = (OutQueue::default(), Vec::new());
        for _ in 0..1000 {
            queue.push(&[0; 4], &[1], &Payload::EMPTY);
            queue.take(5, &mut out);
            assert!(queue.len() == 0 && queue.parts.len() == 1);
        }
        assert_eq!(out.len(), 5000);
    }
}
