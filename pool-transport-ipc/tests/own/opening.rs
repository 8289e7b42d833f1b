//! How the two ends find each other, and how a link ends if they do not.

use std::sync::Arc;
use std::thread;

use ipc_channel::ipc::IpcSender;
use pool_core::transport::{Closed, Connector, Ticket, Transport};
use pool_transport_ipc::{Ipc, IpcConnector};

use crate::peers::{Greeting, RawWorker, name, secret};
use xtests::transport::tools::{guarded, half};

/// The worker comes too late: it is refused, or finds the end. On Windows it would talk to itself, for ever.
fn too_late(ticket: Ticket) {
    if !cfg!(windows) {
        let ended = IpcConnector.connect(ticket).map(|mut channel| channel.recv(&mut Vec::new()));
        assert!(matches!(ended, Err(_) | Ok(Ok(false))), "{ended:?}");
    }
}

#[test]
fn a_link_whose_worker_never_comes_closes_all_the_same() {
    guarded("never", || {
        for _ in 0..100 {
            let (link, events, ticket) = half(&Ipc::new());
            link.close();
            link.close();
            assert_eq!(events.next_closed(), Closed::Ours);
            too_late(ticket);
            drop(link);
            assert!(events.lock().is_empty());
        }
    });
}

#[test]
fn a_dropped_link_whose_worker_never_comes_is_silent() {
    guarded("dropped", || {
        let (link, events, ticket) = half(&Ipc::new());
        drop(link);
        too_late(ticket);
        assert!(events.lock().is_empty());
        // The thread lets go of the events when it ends.
        while Arc::strong_count(&events) > 1 {
            thread::yield_now();
        }
        assert!(events.lock().is_empty());
    });
}

#[test]
#[cfg(not(windows))]
fn a_close_and_a_worker_that_connects_do_not_get_in_each_others_way() {
    use xtests::transport::tools;

    guarded("race", || {
        for round in 0..500 {
            let (link, events, ticket) = half(&Ipc::new());
            let start = Arc::new(std::sync::Barrier::new(2));
            let go = Arc::clone(&start);
            let worker = thread::spawn(move || {
                go.wait();
                let Ok(mut channel) = IpcConnector.connect(ticket) else { return };
                let sent = channel.send(b"hello", b"");
                assert!(!channel.recv(&mut Vec::new()).unwrap(), "{sent:?}");
            });
            start.wait();
            (0..round * 50).for_each(|_| std::hint::spin_loop());
            if round % 2 == 0 {
                link.close();
                match events.next() {
                    tools::Event::Frame(frame) => {
                        assert_eq!(frame, b"hello");
                        assert_eq!(events.next_closed(), Closed::Ours);
                    }
                    end => assert_eq!(end, tools::Event::Closed(Closed::Ours)),
                }
            }
            drop(link);
            worker.join().unwrap();
        }
    });
}

#[test]
fn a_ticket_that_is_not_ours_is_refused() {
    guarded("ticket", || {
        let ipc = Ipc::new();
        let spoil: [fn(&mut Ticket); 4] = [
            |ticket| ticket.transport = "pipe".to_owned(),
            |ticket| ticket.bytes[0] = 99,
            |ticket| ticket.bytes.truncate(3),
            |ticket| ticket.bytes.push(0),
        ];
        for spoil in spoil {
            let (_link, _events, mut ticket) = half(&ipc);
            assert!(ticket.handles.is_empty(), "that is the point");
            spoil(&mut ticket);
            let refused = IpcConnector.connect(ticket).map(|_| ()).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::InvalidData);
        }
        let (_link, _events, mut ticket) = half(&ipc);
        ticket.bytes.extend(b"/not/there");
        assert!(IpcConnector.connect(ticket).is_err());
        assert_eq!((ipc.name(), ipc.connector().name()), ("ipc", "ipc"));
    });
}

#[test]
fn a_stranger_that_connects_first_ends_the_link_with_a_reason() {
    guarded("stranger", || {
        let (_link, events, ticket) = half(&Ipc::new());
        let _stranger = RawWorker::connect(&name(&ticket), [0; 16]);
        let Closed::Malformed(why) = events.next_closed() else { panic!("hijacked") };
        assert!(why.contains("stranger") && why.contains("secret"), "{why}");

        let (_link, events, ticket) = half(&Ipc::new());
        let stranger = IpcSender::<String>::connect(name(&ticket)).unwrap();
        stranger.send("\u{7f}GET / HTTP/1.1".to_owned()).unwrap();
        let Closed::Malformed(why) = events.next_closed() else { panic!("hijacked") };
        assert!(why.contains("stranger"), "{why}");

        let (_link, events, ticket) = half(&Ipc::new());
        let stranger = IpcSender::<Greeting>::connect(name(&ticket)).unwrap();
        stranger.send(Greeting::GiveUp).unwrap();
        let Closed::Malformed(why) = events.next_closed() else { panic!("hijacked") };
        assert!(why.contains("stranger"), "{why}");
    });
}

#[test]
fn a_silent_stranger_keeps_no_link_from_closing() {
    guarded("silent", || {
        let (link, events, ticket) = half(&Ipc::new());
        let stranger = IpcSender::<Greeting>::connect(name(&ticket)).unwrap();
        link.close();
        assert_eq!(events.next_closed(), Closed::Ours);
        drop(link);
        // The thread was in the stranger's hands.
        drop(stranger);
        while Arc::strong_count(&events) > 1 {
            thread::yield_now();
        }
        assert!(events.lock().is_empty());
    });
}

#[test]
#[cfg(not(windows))]
fn a_worker_that_dies_while_it_connects_is_seen() {
    guarded("dies early", || {
        let (_link, events, ticket) = half(&Ipc::new());
        drop(IpcSender::<Greeting>::connect(name(&ticket)).unwrap());
        assert_eq!(events.next_closed(), Closed::Eof);
    });
}

#[test]
fn the_secret_is_another_one_each_time() {
    guarded("secret", || {
        let (_link, _events, ticket) = half(&Ipc::new());
        let (_other_link, _other_events, other) = half(&Ipc::new());
        assert_ne!(secret(&ticket), secret(&other));
        assert_ne!(name(&ticket), name(&other));
    });
}
