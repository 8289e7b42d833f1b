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
use raw::{ASK, FRAME, Raw, Secrets, hear, terms};
use tcp_transport::{Tcp, TcpConnector};

/// The heartbeat of a worker.
const BEAT: u8 = 3;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Frame(Vec<u8>),
    Closed(Closed),
}

struct Recorder(mpsc::Sender<Event>);

impl LinkEvents for Recorder {
    fn arriving(&self) {}

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
    let mut stream = TcpStream::connect(terms(ticket).1).expect("anybody can connect");
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
    let half = Half::open(&Tcp::default());
    let mut nearly = terms(&half.ticket).0[0].to_vec();
    *nearly.last_mut().expect("a byte") ^= 1;
    let long = [&nearly[..], &[FRAME], &u64::MAX.to_le_bytes()].concat();
    for says in [&nearly[..], &[0; 16], &[7; 4096], &long] {
        assert!(is_dropped(stranger(&half.ticket, says)), "{says:?}");
    }
    let mut channel = half.channel();
    half.works(&mut *channel);
}

#[test]
fn a_crowd_of_silent_strangers_keeps_no_worker_out() {
    let half = Half::open(&Tcp::default());
    let crowd: Vec<_> = (0..100).map(|n| stranger(&half.ticket, &vec![9; n % 16])).collect();
    let mut channel = half.channel();
    half.works(&mut *channel);
    // The worker is in: nobody listens to them any more.
    assert!(crowd.into_iter().all(is_dropped));
}

#[test]
fn the_secret_is_good_for_one() {
    let half = Half::open(&Tcp::default());
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
    let tcp = Tcp::default();
    let (one, other) = (Half::open(&tcp), Half::open(&tcp));
    let ([knock, answer], address, ..) = terms(&one.ticket);
    let (others, other_address, ..) = terms(&other.ticket);
    let mut secrets = vec![knock, answer, others[0], others[1]];
    secrets.sort_unstable();
    secrets.dedup();
    assert_eq!(secrets.len(), 4);
    assert_ne!(address, other_address);
    assert!(address.ip().is_loopback());
}

/// A parent that this test plays: a listener, the secrets, and the ticket that leads there.
fn own_parent(lease: Duration) -> (TcpListener, Secrets, Ticket) {
    let half = Half::open(&Tcp { lease, ..Tcp::default() });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let (secrets, _, lease, frame_max) = terms(&half.ticket);
    let terms = (secrets, listener.local_addr().expect("an address"), lease, frame_max);
    let bytes = postcard::to_stdvec(&terms).expect("bytes");
    (listener, secrets, Ticket { bytes, ..copy(&half.ticket) })
}

/// Waits for a connection that shows this, and answers so.
fn welcome(listener: &TcpListener, [knock, answer]: Secrets) -> TcpStream {
    let (mut stream, _) = listener.accept().expect("the worker comes");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut said = [0; 16];
    stream.read_exact(&mut said).expect("it says its secret");
    assert_eq!(said, knock);
    stream.write_all(&answer).expect("said");
    stream
}

#[test]
fn a_worker_takes_nothing_from_a_stranger_in_the_parents_place() {
    // The second connection leads to where the first one does, and is as well looked at.
    for honest in [0, 1] {
        let (listener, secrets, ticket) = own_parent(PATIENCE);
        let parent = thread::spawn(move || {
            let first = (0..honest).map(|_| welcome(&listener, secrets)).collect::<Vec<_>>();
            // All that a stranger can say is what it was told.
            (first, welcome(&listener, [secrets[0]; 2]))
        });
        let refused = TcpConnector.connect(ticket).map(drop).expect_err("a stranger");
        assert!(refused.to_string().contains("stranger"), "{refused}");
        parent.join().expect("it was shown the secret");
    }
}

#[test]
fn a_ticket_that_is_not_ours_is_refused() {
    let spoil: [fn(&mut Ticket); 4] = [
        |ticket| ticket.transport = "pipe".to_owned(),
        |ticket| ticket.bytes.clear(),
        |ticket| ticket.bytes.truncate(7),
        |ticket| ticket.bytes.truncate(32),
    ];
    for spoil in spoil {
        let mut ticket = copy(&Half::open(&Tcp::default()).ticket);
        spoil(&mut ticket);
        let refused = TcpConnector.connect(ticket).map(drop).expect_err("it is spoilt");
        assert_eq!(refused.kind(), ErrorKind::InvalidData);
    }
}

#[test]
fn half_a_frame_and_a_lying_length_end_their_own_link_only() {
    let tcp = Tcp { frame_max: 1000, ..Tcp::default() };
    let bystander = Half::open(&tcp);
    let mut channel = bystander.channel();

    let half = Half::open(&tcp);
    let mut raw = Raw::connect(&half.ticket).expect("let in");
    raw.say(FRAME, 3, b"abc").expect("said");
    assert_eq!(raw.answer().expect("it works"), Some(1));
    raw.say(BEAT, 0, b"").expect("said");
    raw.say(FRAME, 100, b"half").expect("said");
    raw.replies.shutdown(Shutdown::Write).expect("ended");
    assert_eq!(half.next(), Event::Frame(b"abc".to_vec()));
    assert_eq!(half.closed(), Closed::Truncated);

    // Those that are too long already by what they announce, and those that are nothing when they are here.
    let lies = [(FRAME, 1001, 0), (FRAME, u64::MAX, 0), (ASK, u64::MAX, 0), (BEAT, 1001, 0), (99, 1001, 0)];
    let nonsense = [(ASK, 0), (ASK, 7), (ASK, 9), (BEAT, 1), (0, 0), (0, 1000), (4, 0), (99, 0)];
    let nonsense = nonsense.map(|(kind, len)| (kind, len, len as usize));
    for (kind, len, sent) in lies.into_iter().chain(nonsense) {
        let half = Half::open(&tcp);
        let mut raw = Raw::connect(&half.ticket).expect("let in");
        raw.say(kind, len, &vec![0; sent]).expect("said");
        let why = half.closed();
        assert!(matches!(why, Closed::Malformed(_)), "{kind} {len}: {why:?}");
    }
    bystander.works(&mut *channel);
}

#[test]
fn frames_that_come_while_the_worker_waits_for_an_answer_keep_their_order() {
    let half = Half::open(&Tcp::default());
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
    let half = Half::open(&Tcp::default());
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
        let half = Half::open(&Tcp::default());
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
    let heard = Half::open(&Tcp { lease: short, ..Tcp::default() });
    let mut channel = heard.channel();
    let silent = Half::open(&Tcp { lease: long, ..Tcp::default() });
    let start = Instant::now();
    let _raw = Raw::connect(&silent.ticket).expect("let in");
    let Closed::Io(why) = silent.closed() else { panic!("closed for its silence") };
    assert!(why.contains("silent") && start.elapsed() >= long, "{why} after {:?}", start.elapsed());
    // Two of its leases have passed, in which nobody used it.
    heard.works(&mut *channel);
}

/// Whoever writes to it waits for room. Whoever reads must not wait for that.
#[test]
fn a_silent_worker_that_takes_nothing_loses_its_link_as_well() {
    let half = Half::open(&Tcp { lease: Duration::from_secs(1), ..Tcp::default() });
    let mut raw = Raw::connect(&half.ticket).expect("let in");
    half.link.send(Outgoing { seq: None, head: b"", body: &Payload::from(vec![1; 64 << 20]) });
    half.link.flush();
    // It stops while it waits for an answer, and never looks.
    raw.say(FRAME, 4, b"last").expect("said");
    assert_eq!(half.next(), Event::Frame(b"last".to_vec()));
    let Closed::Io(why) = half.closed() else { panic!("closed for its silence") };
    assert!(why.contains("silent"), "{why}");
}

#[test]
fn a_call_is_granted_or_taken_back_and_never_both() {
    let half = Half::open(&Tcp::default());
    let mut channel = half.channel();
    (0..4).for_each(|seq| half.send(Some(seq), b"call"));
    assert_eq!(half.link.revoke(Seq(1)), Claim::Revoked);
    assert!(channel.claim(Seq(0)) && !channel.claim(Seq(1)));
    assert_eq!((half.link.revoke(Seq(0)), half.link.revoke(Seq(1))), (Claim::Started, Claim::Revoked));
    assert_eq!(half.link.claim_state(Seq(2)), Claim::Queued);
    let mut frame = Vec::new();
    (0..4).for_each(|_| assert!(channel.recv(&mut frame).expect("received") && frame == b"call"));
    half.link.close();
    assert_eq!(half.closed(), Closed::Ours);
    // It has the frames, and all the same it gets nothing any more.
    assert!(!channel.claim(Seq(2)) && !channel.claim(Seq(3)));
    assert!(!channel.recv(&mut frame).expect("the end"));
    assert_eq!((half.link.revoke(Seq(2)), half.link.claim_state(Seq(3))), (Claim::Revoked, Claim::Queued));
}

#[test]
fn who_asks_for_what_was_not_sent_or_was_taken_back_gets_nothing() {
    let half = Half::open(&Tcp::default());
    let mut raw = Raw::connect(&half.ticket).expect("let in");
    (0..2).for_each(|seq| half.send(Some(seq), b"call"));
    (0..2).for_each(|_| assert_eq!(hear(&raw.calls).expect("heard"), Some((FRAME, b"call".to_vec()))));
    assert_eq!(half.link.revoke(Seq(1)), Claim::Revoked);
    // The last one makes the parent forget the others, which were settled if everything were as it should be.
    for (seq, granted) in [(0, 1), (0, 1), (1, 0), (2, 0), (u64::MAX, 0), (0, 0)] {
        raw.say(ASK, 8, &u64::to_le_bytes(seq)).expect("said");
        assert_eq!(raw.answer().expect("it works"), Some(granted), "{seq}");
    }
}

#[test]
fn a_granted_call_starts_only_while_the_grant_is_fresh() {
    let lease = Duration::from_secs(2);
    let (listener, secrets, ticket) = own_parent(lease);
    let worker = thread::spawn(move || {
        let mut channel = TcpConnector.connect(ticket).expect("let in");
        (channel.claim(Seq(7)), channel.claim(Seq(8)))
    });
    let (_calls, replies) = (welcome(&listener, secrets), welcome(&listener, secrets));
    let asked = |pause: Duration| loop {
        match hear(&replies).expect("it works") {
            Some((BEAT, _)) => {}
            Some((ASK, seq)) => {
                // The length of the wait is what this is about.
                thread::sleep(pause);
                (&replies).write_all(&[1]).expect("said");
                return u64::from_le_bytes(seq.try_into().expect("eight bytes"));
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(asked(lease), 7, "and the yes comes too late");
    assert_eq!(asked(Duration::ZERO), 7, "so it asks again");
    assert_eq!(asked(Duration::ZERO), 8);
    assert_eq!(worker.join().expect("no panic"), (true, true));
}
