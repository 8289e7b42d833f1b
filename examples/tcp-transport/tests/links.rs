//! What this transport adds to the laws of `pool_core::transport`: who is let in, the lease, and who grants calls.

mod raw;

use std::borrow::Cow;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use pool_core::transport::{
    Channel, Claim, Closed, Connector, Link, LinkEvents, Outgoing, Payload, Seq, Ticket, Transport,
};
use raw::{ASK, FRAME, KNOCK, Raw, address};
use tcp_transport::{Tcp, TcpConnector};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Frame(Vec<u8>),
    Closed(Closed),
}

struct Recorder(mpsc::Sender<Event>);

impl LinkEvents for Recorder {
    fn frame(&self, frame: Cow<'_, [u8]>) {
        let _ = self.0.send(Event::Frame(frame.into_owned()));
    }

    fn drained(&self) {}

    fn closed(&self, why: Closed) {
        let _ = self.0.send(Event::Closed(why));
    }
}

/// A link, its ticket, and what it tells.
struct Half {
    link: Box<dyn Link>,
    ticket: Ticket,
    events: mpsc::Receiver<Event>,
}

impl Half {
    fn open(tcp: &Tcp) -> Self {
        let (sender, events) = mpsc::channel();
        let (link, ticket) = tcp.open(Arc::new(Recorder(sender))).expect("a link");
        Self { link, ticket, events }
    }

    fn channel(&self) -> Box<dyn Channel> {
        TcpConnector.connect(copy(&self.ticket)).expect("let in")
    }

    fn send(&self, seq: Option<u64>, bytes: &[u8]) {
        self.link.send(Outgoing { seq: seq.map(Seq), head: &[], body: &Payload::copied(bytes) });
        self.link.flush();
    }

    #[track_caller]
    fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("something happens")
    }

    #[track_caller]
    fn closed(&self) -> Closed {
        match self.next() {
            Event::Closed(why) => why,
            Event::Frame(frame) => panic!("a frame of {} bytes", frame.len()),
        }
    }

    /// Sends something both ways.
    #[track_caller]
    fn works(&self, channel: &mut dyn Channel) {
        self.send(None, b"there");
        let mut frame = Vec::new();
        assert!(channel.recv(&mut frame).expect("received") && frame == b"there");
        channel.send(b"ba", b"ck").expect("sent");
        assert_eq!(self.next(), Event::Frame(b"back".to_vec()));
    }
}

fn copy(ticket: &Ticket) -> Ticket {
    Ticket { transport: ticket.transport.clone(), bytes: ticket.bytes.clone(), handles: Vec::new() }
}

/// Somebody who connects and says this.
fn stranger(ticket: &Ticket, says: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address(ticket)).expect("anybody can connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(says).expect("said");
    stream
}

/// Whether the other side has ended the connection, without a word.
fn is_dropped(mut stream: TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn who_does_not_have_the_secret_is_dropped_and_the_worker_gets_in() {
    let half = Half::open(&Tcp::new());
    let mut nearly = half.ticket.bytes[KNOCK].to_vec();
    *nearly.last_mut().expect("a byte") ^= 1;
    let long = [nearly.clone(), vec![FRAME, 255, 255, 255, 255]].concat();
    for says in [&nearly[..], &[0; 16], &[7; 4096], &long] {
        assert!(is_dropped(stranger(&half.ticket, says)), "{says:?}");
    }
    let mut channel = half.channel();
    half.works(&mut *channel);
}

#[test]
fn a_crowd_of_silent_strangers_keeps_no_worker_out() {
    let half = Half::open(&Tcp::new());
    let crowd: Vec<_> = (0..100).map(|n| stranger(&half.ticket, &vec![9; n % 16])).collect();
    let mut channel = half.channel();
    half.works(&mut *channel);
    // The worker is in: nobody listens to them any more.
    assert!(crowd.into_iter().all(is_dropped));
}

#[test]
fn the_secret_is_good_for_one() {
    let half = Half::open(&Tcp::new());
    let mut channel = half.channel();
    half.works(&mut *channel);
    let (sender, answer) = mpsc::channel();
    let again = copy(&half.ticket);
    // In a thread: where somebody still listened, but did not answer, it would wait for ever.
    thread::spawn(move || sender.send(TcpConnector.connect(again).is_err()));
    assert_eq!(answer.recv_timeout(PATIENCE), Ok(true));
    half.works(&mut *channel);
}

#[test]
fn each_link_has_its_own_secret_and_address() {
    let tcp = Tcp::new();
    let (one, other) = (Half::open(&tcp), Half::open(&tcp));
    assert_ne!(one.ticket.bytes[KNOCK], other.ticket.bytes[KNOCK]);
    assert_ne!(one.ticket.bytes[KNOCK.end..][..16], one.ticket.bytes[KNOCK], "and the parent another one");
    assert_ne!(address(&one.ticket), address(&other.ticket));
    assert!(address(&one.ticket).ip().is_loopback());
}

/// A parent that this test plays: a listener, and the ticket that leads there.
fn own_parent(lease: Duration) -> (TcpListener, Ticket) {
    let half = Half::open(&Tcp::new().lease(lease));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let mut ticket = copy(&half.ticket);
    ticket.bytes.truncate(KNOCK.end + 16);
    ticket.bytes.extend(listener.local_addr().expect("an address").to_string().bytes());
    (listener, ticket)
}

#[test]
fn a_worker_takes_nothing_from_a_stranger_in_the_parents_place() {
    let (listener, ticket) = own_parent(PATIENCE);
    let knock = ticket.bytes[KNOCK].to_vec();
    let parent = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the worker comes");
        let mut said = [0; 16];
        stream.read_exact(&mut said).expect("it says its secret");
        stream.write_all(&said).expect("said");
        (stream, said)
    });
    let refused = TcpConnector.connect(ticket).map(drop).expect_err("a stranger");
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert_eq!(parent.join().expect("it ends").1.to_vec(), knock);
}

#[test]
fn a_ticket_that_is_not_ours_is_refused() {
    let spoil: [fn(&mut Ticket); 4] = [
        |ticket| ticket.transport = "pipe".to_owned(),
        |ticket| ticket.bytes.truncate(7),
        |ticket| ticket.bytes.truncate(KNOCK.end + 16),
        |ticket| ticket.bytes.push(b'x'),
    ];
    for spoil in spoil {
        let mut ticket = copy(&Half::open(&Tcp::new()).ticket);
        spoil(&mut ticket);
        let refused = TcpConnector.connect(ticket).map(drop).expect_err("it is spoilt");
        assert_eq!(refused.kind(), ErrorKind::InvalidData);
    }
}

#[test]
fn half_a_frame_and_a_lying_length_end_their_own_link_only() {
    let tcp = Tcp::new().frame_max(1000);
    let bystander = Half::open(&tcp);
    let mut channel = bystander.channel();

    let half = Half::open(&tcp);
    let mut raw = Raw::connect(&half.ticket).expect("let in");
    raw.say(FRAME, 3, b"abc").expect("said");
    raw.say(FRAME, 100, b"half").expect("said");
    raw.0.shutdown(Shutdown::Write).expect("ended");
    assert_eq!(half.next(), Event::Frame(b"abc".to_vec()));
    assert_eq!(half.closed(), Closed::Truncated);

    for (kind, len) in [(FRAME, 1001), (FRAME, u32::MAX as usize), (ASK, 9), (6, 1), (2, 0), (0, 0), (99, 0)] {
        let half = Half::open(&tcp);
        let mut raw = Raw::connect(&half.ticket).expect("let in");
        raw.say(kind, len, &[]).expect("said");
        let why = half.closed();
        assert!(matches!(why, Closed::Malformed(_)), "{kind} {len}: {why:?}");
    }
    bystander.works(&mut *channel);
}

#[test]
fn frames_that_come_while_the_worker_waits_for_an_answer_keep_their_order() {
    let half = Half::open(&Tcp::new());
    let mut channel = half.channel();
    let frame = |n: u8| vec![n; usize::from(n) * 1000];
    (0..10).for_each(|n| half.send(Some(n.into()), &frame(n)));
    assert!(channel.claim(Seq(0)));
    (10..20).for_each(|n| half.send(Some(n.into()), &frame(n)));
    channel.send(b"an answer", b"").expect("sent");
    let mut received = Vec::new();
    for n in 0..20 {
        assert!(channel.recv(&mut received).expect("received") && received == frame(n), "frame {n}");
    }
}

#[test]
fn sixty_four_mebibytes_pass_both_ways_at_once() {
    let half = Half::open(&Tcp::new());
    let mut channel = half.channel();
    let large: Vec<u8> = (0..64_u32 << 20).map(|n| (n ^ (n >> 9)) as u8).collect();
    half.link.send(Outgoing { seq: None, head: b"to", body: &Payload::from(large.clone()) });
    half.link.flush();
    channel.send(b"back", &large).expect("sent");
    let mut frame = Vec::new();
    assert!(channel.recv(&mut frame).expect("received"));
    assert!(frame.starts_with(b"to") && frame[2..] == large);
    match half.next() {
        Event::Frame(frame) => assert!(frame.starts_with(b"back") && frame[4..] == large),
        Event::Closed(why) => panic!("{why}"),
    }
}

/// A reset would take with it what the parent has not read yet.
#[test]
fn what_was_sent_before_a_death_with_unread_frames_arrives() {
    let body = vec![3; 8 << 20];
    for _ in 0..20 {
        let half = Half::open(&Tcp::new());
        let mut channel = half.channel();
        (0..50).for_each(|_| half.send(None, &[1; 10_000]));
        channel.send(b"last words", &body).expect("sent");
        drop(channel);
        assert!(matches!(half.next(), Event::Frame(frame) if frame.len() == 10 + body.len()));
        assert_eq!(half.closed(), Closed::Eof);
    }
}

#[test]
fn a_silent_link_is_closed_after_its_lease_and_one_that_is_heard_is_not() {
    let (short, long) = (Duration::from_secs(2), Duration::from_secs(5));
    let heard = Half::open(&Tcp::new().lease(short));
    let mut channel = heard.channel();
    let silent = Half::open(&Tcp::new().lease(long));
    let start = Instant::now();
    let _raw = Raw::connect(&silent.ticket).expect("let in");
    let Closed::Io(why) = silent.closed() else { panic!("closed for its silence") };
    assert!(why.contains("silent") && start.elapsed() >= long, "{why} after {:?}", start.elapsed());
    // Two of its leases have passed, in which nobody used it.
    heard.works(&mut *channel);
}

#[test]
fn a_call_is_granted_or_taken_back_and_never_both() {
    let half = Half::open(&Tcp::new());
    let mut channel = half.channel();
    (0..4).for_each(|seq| half.send(Some(seq), b"call"));
    assert_eq!(half.link.revoke(Seq(1)), Claim::Revoked);
    assert!(channel.claim(Seq(0)) && !channel.claim(Seq(1)));
    assert_eq!((half.link.revoke(Seq(0)), half.link.revoke(Seq(1))), (Claim::Started, Claim::Revoked));
    assert_eq!(half.link.claim_state(Seq(2)), Claim::Queued);
    half.link.close();
    assert_eq!(half.closed(), Closed::Ours);
    // It has the frames, and all the same it gets nothing any more.
    let (mut frame, mut calls) = (Vec::new(), 0);
    while channel.recv(&mut frame).expect("received") {
        calls += 1;
        assert!(!channel.claim(Seq(2)) && !channel.claim(Seq(3)));
    }
    assert_eq!(calls, 4);
    assert_eq!((half.link.revoke(Seq(2)), half.link.claim_state(Seq(3))), (Claim::Revoked, Claim::Queued));
}

#[test]
fn a_granted_call_starts_only_while_the_grant_is_fresh() {
    let lease = Duration::from_secs(2);
    let (listener, ticket) = own_parent(lease);
    let answer = ticket.bytes[KNOCK.end..][..16].to_vec();
    let worker = thread::spawn(move || {
        let mut channel = TcpConnector.connect(ticket).expect("let in");
        (channel.claim(Seq(7)), channel.claim(Seq(8)))
    });
    let (mut stream, _) = listener.accept().expect("the worker comes");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.read_exact(&mut [0; 16]).expect("its secret");
    stream.write_all(&answer).expect("said");
    let mut raw = Raw(stream);
    let mut asked = |beats: usize| {
        let mut heard = 0;
        loop {
            match raw.hear().expect("it works") {
                Some((6, _)) => heard += 1,
                Some((ASK, seq)) => {
                    // Each is heard a quarter of a lease after the last one.
                    while heard < beats {
                        assert!(matches!(raw.hear(), Ok(Some((6, _)))), "its heart beats");
                        heard += 1;
                    }
                    raw.say(4, 0, &[]).expect("said");
                    return u64::from_le_bytes(seq.try_into().expect("eight bytes"));
                }
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(asked(4), 7, "and the yes comes too late");
    assert_eq!(asked(0), 7, "so it asks again");
    assert_eq!(asked(0), 8);
    // The link ends before the answer comes.
    drop(raw);
    assert_eq!(worker.join().expect("no panic"), (true, true));
}
