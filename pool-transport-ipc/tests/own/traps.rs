//! One test for each trap of ipc-channel that this transport has to live with: first that it is there (so that we
//! notice when it goes away), then that it does no harm here. On Linux, where they were found.

use std::thread;

use ipc_channel::ipc;
use pool_core::transport::Closed;
use pool_transport_ipc::Ipc;

use xtests::transport::tools::{guarded, pair, send};

/// `recv` of ipc-channel returns what holds 208 KiB, however little came.
#[test]
fn small_frames_take_little_memory() {
    guarded("small", || {
        let (sender, receiver) = ipc::bytes_channel().unwrap();
        sender.send(b"little").unwrap();
        assert!(receiver.recv().unwrap().capacity() > 100_000, "the trap is gone");
        let (link, events, mut channel) = pair(&Ipc::new());
        let mut frame = Vec::new();
        for _ in 0..10 {
            send(&*link, None, b"little", b"");
            link.flush();
            assert!(channel.recv(&mut frame).unwrap());
            assert!(frame.capacity() < 100, "{}", frame.capacity());
            channel.send(&frame, b"").unwrap();
            assert!(events.next_frame().capacity() < 100);
        }
    });
}

/// A failed serialisation leaves channels behind in the thread, and more than 64 of them make the next, good `send`
/// of that thread panic. We serialise nothing that can fail.
#[test]
fn a_thread_in_which_ipc_channel_has_failed_can_still_use_a_link() {
    use serde::{Serialize, Serializer, ser};

    struct Fails(ipc::IpcSender<u8>);

    impl Serialize for Fails {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            // Whatever this says, the channel is noted down first.
            let _ = self.0.serialize(serializer);
            Err(ser::Error::custom("fails"))
        }
    }

    impl<'de> serde::Deserialize<'de> for Fails {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            unreachable!()
        }
    }

    guarded("failed serialise", || {
        let (sender, _receiver) = ipc::channel::<Fails>().unwrap();
        let (inner, _inner_receiver) = ipc::channel::<u8>().unwrap();
        let (link, events, mut channel) = pair(&Ipc::new());
        for _ in 0..65 {
            assert!(sender.send(Fails(inner.clone())).is_err());
        }
        // Now this thread cannot send anything typed; but bytes do not pass where the channels lie.
        let mut frame = Vec::new();
        send(&*link, None, b"call", b"");
        link.flush();
        assert!(channel.recv(&mut frame).unwrap());
        channel.send(b"reply", b"").unwrap();
        assert_eq!(events.next_frame(), b"reply");
        link.close();
        assert!(!channel.recv(&mut frame).unwrap());
        assert_eq!(events.next_closed(), Closed::Ours);
        let (unheard, ears) = ipc::channel::<u8>().unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| unheard.send(1)));
        assert!(panicked.is_err(), "the trap is gone");
        drop(ears);
    });
}

/// `send` blocks after some 250 small messages; the laws T4 and T7 hold that ours does not. Here: that a credit
/// is all that keeps it from that, so that neither side ever sends beyond it.
#[test]
fn nobody_sends_more_than_the_system_can_hold() {
    use crate::peers::RawWorker;
    use xtests::transport::tools::half;

    guarded("credit", || {
        let (link, _events, ticket) = half(&Ipc::new());
        // Reads nothing, acknowledges nothing.
        let worker = RawWorker::of(&ticket);
        for len in [0, 10, 300, 5000, 16_300, 16_400, 40_000, 1 << 20] {
            for _ in 0..300 {
                send(&*link, None, &[], &vec![1; len]);
                link.flush();
            }
        }
        link.close();
        drop(worker);
    });
}

/// `recv` returns EINTR to its caller.
#[test]
fn signals_do_not_end_anything() {
    use crate::signals::{interrupt, note_thread};

    guarded("signals", || {
        let (link, events, mut channel) = pair(&Ipc::new());
        let (tell, told) = std::sync::mpsc::channel();
        let worker = thread::spawn(move || {
            tell.send(note_thread()).unwrap();
            let mut frame = Vec::new();
            while channel.recv(&mut frame).unwrap() {
                channel.send(&frame, &[]).unwrap();
            }
        });
        let worker_thread = told.recv().unwrap();
        for round in 0..200_u32 {
            send(&*link, None, &round.to_le_bytes(), &[7; 100_000]);
            link.flush();
            for _ in 0..5 {
                interrupt(worker_thread);
                thread::yield_now();
            }
            assert_eq!(events.next_frame()[..4], round.to_le_bytes());
        }
        link.close();
        worker.join().unwrap();
        assert_eq!(events.next_closed(), Closed::Ours);
    });
}
