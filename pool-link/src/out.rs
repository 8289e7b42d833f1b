//! What waits to be written: bytes in order, with large bodies kept by reference.
//!
//! Knows nothing of descriptors: [`OutQueue::write_with`] hands slices to whoever writes, and is told how many
//! bytes went.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use pool_core::transport::Payload;

/// Bodies from this size on are kept as they are; copying a smaller one costs less than another slice.
const KEEP_MIN: usize = 16 * 1024;
/// Slices in one system call. Linux takes 1024; with this many, a call moves at least a pipe's worth.
const SLICES_MAX: usize = 64;
/// A buffer that has grown beyond this is given back once it is empty.
const CAPACITY_MAX: usize = 1024 * 1024;

/// Frames that were sent and not yet written.
#[derive(Debug, Default)]
pub struct OutQueue {
    /// Everything but the bodies that are kept.
    bytes: Vec<u8>,
    /// How many of `bytes` are written.
    written: usize,
    bodies: VecDeque<Body>,
    /// Bodies that are written, to be dropped where no lock is held: their last owner may be the user's.
    done: Vec<Payload>,
}

#[derive(Debug)]
struct Body {
    /// The body comes before the byte with this index in `bytes`.
    at: usize,
    payload: Payload,
    written: usize,
}

impl OutQueue {
    /// Adds a frame.
    pub fn push(&mut self, header: &[u8], head: &[u8], body: &Payload) {
        self.bytes.extend_from_slice(header);
        self.bytes.extend_from_slice(head);
        if body.len() < KEEP_MIN {
            self.bytes.extend_from_slice(body.as_slice());
        } else {
            self.bodies.push_back(Body { at: self.bytes.len(), payload: body.clone(), written: 0 });
        }
    }

    /// Whether everything is written.
    pub fn is_empty(&self) -> bool {
        self.written == self.bytes.len() && self.bodies.is_empty()
    }

    /// Hands as much as fits one call to `write`, in order, and forgets what that says it has taken.
    /// Returns how much was handed over, and how much taken.
    pub fn write_with(
        &mut self,
        write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<(usize, usize)> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let (mut count, mut offered) = (0, 0);
        let mut add = |slice| {
            offered += <[u8]>::len(slice);
            slices[count] = IoSlice::new(slice);
            count += 1;
            count == SLICES_MAX
        };
        let mut full = false;
        let mut from = self.written;
        for body in &self.bodies {
            if body.at > from {
                full = add(&self.bytes[from..body.at]);
                from = body.at;
            }
            full = full || add(&body.payload.as_slice()[body.written..]);
            if full {
                break;
            }
        }
        if !full && from < self.bytes.len() {
            add(&self.bytes[from..]);
        }
        let taken = write(&slices[..count])?;
        self.forget(taken);
        Ok((offered, taken))
    }

    /// Forgets everything and gives the memory back.
    pub fn clear(&mut self) {
        let done = self.take_done().into_iter().chain(self.bodies.drain(..).map(|body| body.payload)).collect();
        *self = Self { done, ..Self::default() };
    }

    /// Bodies of which nothing is left to be written.
    pub fn take_done(&mut self) -> Vec<Payload> {
        std::mem::take(&mut self.done)
    }

    fn forget(&mut self, mut taken: usize) {
        while let Some(body) = self.bodies.front_mut() {
            let before = taken.min(body.at - self.written);
            self.written += before;
            taken -= before;
            let of_body = taken.min(body.payload.len() - body.written);
            body.written += of_body;
            taken -= of_body;
            if self.written < body.at || body.written < body.payload.len() {
                assert_eq!(taken, 0, "a writer took bytes that it was not given");
                return;
            }
            self.done.extend(self.bodies.pop_front().map(|body| body.payload));
        }
        self.written += taken;
        assert!(self.written <= self.bytes.len(), "a writer took bytes that it was not given");
        self.give_back();
    }

    /// Without this a queue that is never quite empty would keep every byte that ever went through it.
    fn give_back(&mut self) {
        if self.is_empty() {
            self.written = 0;
            if self.bytes.capacity() > CAPACITY_MAX {
                self.bytes = Vec::new();
            } else {
                self.bytes.clear();
            }
        } else if self.written > CAPACITY_MAX && self.written > self.bytes.len() / 2 {
            // Half of the buffer is moved after at least as much was written: constant work per byte.
            self.bytes.drain(..self.written);
            for body in &mut self.bodies {
                body.at -= self.written;
            }
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_writer_takes_the_bytes_come_out_in_order() {
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
                    take(&mut queue, step, &mut out);
                }
            }
            while !queue.is_empty() {
                take(&mut queue, step, &mut out);
            }
            assert!(out == expected, "step {step}");
        }
    }

    fn take(queue: &mut OutQueue, step: usize, out: &mut Vec<u8>) {
        queue
            .write_with(|slices| {
                let before = out.len();
                for slice in slices {
                    let room = step - (out.len() - before);
                    out.extend_from_slice(&slice[..slice.len().min(room)]);
                }
                Ok(out.len() - before)
            })
            .unwrap();
    }

    #[test]
    fn a_queue_that_was_long_gives_its_memory_back() {
        let mut queue = OutQueue::default();
        for _ in 0..1000 {
            queue.push(&[0; 4], &[], &Payload::copied(&[1; 10_000]));
        }
        while !queue.is_empty() {
            queue.write_with(|slices| Ok(slices[0].len().min(64 * 1024))).unwrap();
            assert!(queue.written <= queue.bytes.len().max(CAPACITY_MAX * 2));
        }
        assert_eq!(queue.bytes.capacity(), 0);
    }

    #[test]
    fn an_error_takes_nothing() {
        let mut queue = OutQueue::default();
        queue.push(&[1; 4], &[2], &Payload::EMPTY);
        assert!(queue.write_with(|_| Err(io::ErrorKind::WouldBlock.into())).is_err());
        let (offered, taken) = queue.write_with(|slices| Ok(slices[0].len())).unwrap();
        assert_eq!((offered, taken, queue.is_empty()), (5, 5, true));
    }
}
