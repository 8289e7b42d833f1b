//! T5 and what ipc-channel does with what it would not send itself: peers that are not of our making.

use ipc_channel::ipc::{self, IpcBytesReceiver, IpcSender};
#[cfg(not(windows))]
use ipc_channel::ipc::{IpcBytesSender, IpcReceiver};
use pool_core::transport::{Closed, Ticket};
use pool_transport_ipc::Ipc;
use serde::{Deserialize, Serialize};

use xtests::transport::tools::{guarded, half};

/// The same on the wire as the crate's own.
#[cfg(not(windows))]
#[derive(Serialize, Deserialize)]
pub(crate) enum Greeting {
    Hello { secret: [u8; 16], to_worker: IpcBytesSender, from_worker: IpcReceiver<Vec<u8>> },
    GiveUp,
}

/// The same on the wire as the crate's own.
#[cfg(windows)]
#[derive(Serialize, Deserialize)]
pub(crate) enum Greeting {
    Hello { secret: [u8; 16], back: String },
    GiveUp,
}

/// A worker's ends, to send what no `Channel` would.
pub(crate) struct RawWorker {
    #[cfg(not(windows))]
    receiver: IpcBytesReceiver,
    sender: IpcSender<Vec<u8>>,
    /// Waits for what this worker receives from, which the parent sends if it takes it in.
    #[cfg(windows)]
    welcome: Option<std::thread::JoinHandle<IpcBytesReceiver>>,
    #[cfg(windows)]
    receiver: Option<IpcBytesReceiver>,
}

impl RawWorker {
    #[cfg(not(windows))]
    pub(crate) fn connect(name: &str, secret: [u8; 16]) -> Self {
        let (to_worker, receiver) = ipc::bytes_channel().unwrap();
        let (sender, from_worker) = ipc::channel().unwrap();
        let hello = Greeting::Hello { secret, to_worker, from_worker };
        IpcSender::connect(name.to_owned()).unwrap().send(hello).unwrap();
        Self { receiver, sender }
    }

    #[cfg(windows)]
    pub(crate) fn connect(name: &str, secret: [u8; 16]) -> Self {
        let (server, back) = ipc::IpcOneShotServer::new().unwrap();
        let welcome = std::thread::spawn(move || server.accept().unwrap().1);
        let sender = IpcSender::<Greeting>::connect(name.to_owned()).unwrap();
        sender.send(Greeting::Hello { secret, back }).unwrap();
        Self { sender: sender.to_opaque().to(), welcome: Some(welcome), receiver: None }
    }

    /// Receives a message of the parent's.
    pub(crate) fn recv(&self) -> Vec<u8> {
        #[cfg(not(windows))]
        return self.receiver.recv().unwrap();
        #[cfg(windows)]
        self.receiver.as_ref().unwrap().recv().unwrap()
    }

    /// A worker that is taken in.
    pub(crate) fn of(ticket: &Ticket) -> Self {
        #[cfg(windows)]
        {
            let mut worker = Self::connect(&name(ticket), secret(ticket));
            // What comes before that is read together with the greeting, and lies there.
            worker.receiver = worker.welcome.take().map(|welcome| welcome.join().unwrap());
            worker
        }
        #[cfg(not(windows))]
        Self::connect(&name(ticket), secret(ticket))
    }

    /// Sends `stream` as one message.
    pub(crate) fn send(&self, stream: &[u8]) {
        self.sender.send([&[0; 5], stream].concat()).unwrap();
    }
}

/// What a ticket says: version, frame limit, secret, name.
pub(crate) fn name(ticket: &Ticket) -> String {
    String::from_utf8(ticket.bytes[21..].to_vec()).unwrap()
}

pub(crate) fn secret(ticket: &Ticket) -> [u8; 16] {
    ticket.bytes[5..21].try_into().unwrap()
}

#[test]
fn an_end_in_the_middle_of_a_frame_is_told_apart() {
    guarded("truncated", || {
        for rest in [&[1_u8, 2][..], &9_u32.to_le_bytes(), &[9, 0, 0, 0, 1], &[0, 0, 16, 0, 1, 2, 3]] {
            let (_link, events, ticket) = half(&Ipc::new());
            let worker = RawWorker::of(&ticket);
            worker.send(&[&3_u32.to_le_bytes()[..], b"abc", rest].concat());
            assert_eq!(events.next_frame(), b"abc");
            drop(worker);
            assert_eq!(events.next_closed(), Closed::Truncated, "{rest:?}");
        }
    });
}

#[test]
fn a_frame_beyond_the_limit_ends_the_link_and_nothing_after_it_is_read() {
    guarded("too long", || {
        for length in [1001, u32::MAX, 0x2074_6547] {
            let (link, events, ticket) = half(&Ipc::new().frame_max(1000));
            let worker = RawWorker::of(&ticket);
            let message =
                [&2_u32.to_le_bytes()[..], b"ok", &u32::to_le_bytes(length), &2_u32.to_le_bytes(), b"no"];
            worker.send(&message.concat());
            assert_eq!(events.next_frame(), b"ok");
            let Closed::Malformed(why) = events.next_closed() else { panic!("not malformed") };
            assert!(why.contains(&length.to_string()) && why.contains("1000"), "{why}");
            assert_eq!(worker.recv()[0], 2, "the worker is told of the end");
            link.close();
            drop(link);
            assert!(events.lock().is_empty());
        }
    });
}

#[test]
fn what_is_no_message_of_ours_ends_the_link() {
    guarded("no message", || {
        let messages: [&[u8]; 5] = [b"", b"GET ", &[4, 0, 0, 0, 0, 1], &[2, 0, 0, 0, 0], &[0, 1, 0, 0, 0]];
        for message in messages {
            let (_link, events, ticket) = half(&Ipc::new());
            let worker = RawWorker::of(&ticket);
            worker.sender.send(message.to_vec()).unwrap();
            let Closed::Malformed(why) = events.next_closed() else { panic!("not malformed: {message:?}") };
            assert!(!why.is_empty());
        }
    });
}

#[test]
fn what_is_no_envelope_ends_the_link() {
    guarded("no envelope", || {
        let (_link, events, ticket) = half(&Ipc::new());
        let worker = RawWorker::of(&ticket);
        // More bytes are announced than there are.
        worker.sender.to_opaque().to::<[u8; 4]>().send([0xff, 0xff, 0x7f, 0]).unwrap();
        let Closed::Malformed(why) = events.next_closed() else { panic!("not malformed") };
        assert!(why.contains("none"), "{why}");
    });
}

#[cfg(target_os = "linux")]
mod raw {
    //! Below ipc-channel: what its own asserts say to a broken peer.

    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::sync::Arc;

    use pool_core::transport::Link;
    use rustix::net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
        SocketType, connect, send, sendmsg, socket_with, socketpair,
    };

    use super::*;
    use xtests::transport::tools::Recorder;

    const FLAGS: SocketFlags = SocketFlags::CLOEXEC;

    /// A message as ipc-channel frames it on Linux: its length with this header, its length without, the bytes.
    fn framed(data: &[u8], length: usize, total: usize) -> Vec<u8> {
        [&length.to_ne_bytes()[..], &total.to_ne_bytes(), data].concat()
    }

    fn send_with(socket: &OwnedFd, message: &[u8], handles: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(handles)));
        sendmsg(socket, &[IoSlice::new(message)], &mut control, SendFlags::empty()).unwrap();
    }

    /// A worker that has introduced itself and then sends `message` over its bare socket.
    fn after_hello(message: &[u8], handles: &[BorrowedFd<'_>]) -> (Arc<dyn Link>, Arc<Recorder>, OwnedFd) {
        let (link, events, ticket) = half(&Ipc::new());
        let server = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None).unwrap();
        connect(&server, &SocketAddrUnix::new(name(&ticket)).unwrap()).unwrap();
        let pair = || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None).unwrap();
        let ((to_worker, _), (ours, from_worker)) = (pair(), pair());
        let hello = [&[0][..], &secret(&ticket), &[0, 1]].concat();
        let hello = framed(&hello, hello.len() + 16, hello.len());
        send_with(&server, &hello, &[to_worker.as_fd(), from_worker.as_fd()]);
        if handles.is_empty() {
            send(&ours, message, SendFlags::empty()).unwrap();
        } else {
            send_with(&ours, message, handles);
        }
        (link, events, ours)
    }

    fn expect_a_reason(what: &str, events: &Recorder) {
        let why = events.next_closed();
        assert!(matches!(why, Closed::Io(_) | Closed::Malformed(_)), "{what}: {why:?}");
    }

    #[test]
    fn what_ipc_channel_asserts_is_contained() {
        guarded("asserts", || {
            let (_link, events, _ours) = after_hello(&framed(b"abc", 19, 100), &[]);
            expect_a_reason("more is to follow, but nothing says where from", &events);

            let (other, _) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None).unwrap();
            let (_link, events, _ours) = after_hello(&framed(b"abc", 19, usize::MAX), &[other.as_fd()]);
            expect_a_reason("more is to follow than there is memory", &events);
        });
    }

    #[test]
    fn an_empty_message_is_taken_for_the_end() {
        guarded("empty", || {
            let (_link, events, _ours) = after_hello(b"", &[]);
            assert_eq!(events.next_closed(), Closed::Eof);
        });
    }

    #[test]
    fn a_message_cut_short_holds_the_thread_until_the_peer_is_gone() {
        guarded("cut short", || {
            let (link, events, ours) = after_hello(&framed(b"abc", 100, 84), &[]);
            // ipc-channel waits for the rest, and nothing can wake it there.
            link.close();
            drop(ours);
            let why = events.next_closed();
            // It was in the middle of the message when the link was closed, or has looked at what had come after that.
            assert!(matches!(why, Closed::Ours | Closed::Io(_)), "{why:?}");
        });
    }
}
