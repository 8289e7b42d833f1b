//! T5: what is no frame of ours ends the link, whichever side it comes to, and no foreign ticket makes one.

use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::sync::Arc;

use pool_core::transport::{Closed, Connector, Link, Ticket, Transport};
use pool_transport_pipe::{Pipe, PipeConnector};

use xtests::transport::tools::{Event, Recorder, guarded, half};

/// The raw ends of a worker, to send what no `Channel` would.
fn raw(pipe: &Pipe) -> (Arc<dyn Link>, Arc<Recorder>, PipeReader, PipeWriter) {
    let (link, events, ticket) = half(pipe);
    let mut handles = ticket.handles.into_iter();
    let (read, write) = (handles.next().unwrap(), handles.next().unwrap());
    (link, events, PipeReader::from(read), PipeWriter::from(write))
}

#[test]
fn an_end_in_the_middle_of_a_frame_is_told_apart() {
    guarded("truncated", || {
        let whole = [&3_u32.to_le_bytes()[..], b"abc"].concat();
        for rest in [&[1_u8, 2][..], &9_u32.to_le_bytes(), &[9, 0, 0, 0, 1], &[0, 0, 16, 0, 1, 2, 3]] {
            let (_link, events, _read, mut write) = raw(&Pipe::new());
            write.write_all(&[&whole, rest].concat()).unwrap();
            drop(write);
            assert_eq!(events.next_frame(), b"abc");
            assert_eq!(events.next_closed(), Closed::Truncated, "{rest:?}");
        }
    });
}

#[test]
fn a_frame_beyond_the_limit_ends_the_link_and_nothing_after_it_is_read() {
    guarded("too long", || {
        let pipe = Pipe::new().frame_max(1000);
        for length in [1001, u32::MAX, 0x2074_6547] {
            let (link, events, mut read, mut write) = raw(&pipe);
            write.write_all(&[&2_u32.to_le_bytes()[..], b"ok", &u32::to_le_bytes(length)].concat()).unwrap();
            assert_eq!(events.next_frame(), b"ok");
            let Closed::Malformed(why) = events.next_closed() else { panic!("not malformed") };
            assert!(why.contains(&length.to_string()) && why.contains("1000"), "{why}");
            assert_eq!(read.read(&mut [0]).unwrap(), 0, "the worker sees the end too");
            link.close();
            drop(link);
            assert!(events.lock().is_empty());
        }
    });
}

#[test]
fn a_length_is_not_believed_before_the_bytes_arrive() {
    guarded("liar", || {
        let (link, events, _read, mut write) = raw(&Pipe::new());
        write.write_all(&(1_u32 << 30).to_le_bytes()).unwrap();
        write.write_all(&[1; 5000]).unwrap();
        // Nothing to see from here but that it ends like any other; the decoder's own test counts the memory.
        drop(write);
        assert_eq!(events.next_closed(), Closed::Truncated);
        drop(link);
    });
}

#[test]
fn a_worker_refuses_what_is_no_frame() {
    guarded("garbage to the worker", || {
        let (pipe, mut frame) = (Pipe::new().frame_max(1000), Vec::new());
        for (bytes, kind) in [
            (&b"GET / HTTP/1.1"[..], ErrorKind::InvalidData),
            (&[4, 0, 0, 0, 1], ErrorKind::UnexpectedEof),
            (&[4, 0], ErrorKind::UnexpectedEof),
        ] {
            let (_link, _events, mut ticket) = half(&pipe);
            let (read, mut write) = std::io::pipe().unwrap();
            ticket.handles[0] = read.into();
            let mut channel = PipeConnector.connect(ticket).unwrap();
            write.write_all(bytes).unwrap();
            drop(write);
            assert_eq!(channel.recv(&mut frame).unwrap_err().kind(), kind, "{bytes:?}");
        }
    });
}

#[test]
fn a_ticket_that_is_not_ours_is_refused() {
    guarded("ticket", || {
        let pipe = Pipe::new();
        let spoil: [fn(&mut Ticket); 5] = [
            |ticket| ticket.transport = "ipc".to_owned(),
            |ticket| ticket.bytes[0] = 99,
            |ticket| ticket.bytes.truncate(3),
            |ticket| ticket.handles.truncate(1),
            |ticket| ticket.bytes[5] ^= 1,
        ];
        for spoil in spoil {
            let (_link, events, mut ticket) = half(&pipe);
            spoil(&mut ticket);
            let refused = PipeConnector.connect(ticket).map(|_| ()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidData);
            assert_eq!(events.next(), Event::Closed(Closed::Eof), "the handles are closed");
        }
        assert_eq!((pipe.name(), PipeConnector.name()), ("pipe", "pipe"));
    });
}
