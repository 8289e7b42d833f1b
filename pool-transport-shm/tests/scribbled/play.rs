//! Somebody who scribbles over a segment while links use it, as some bytes tell him.

use std::borrow::Cow;
use std::fs::File;
use std::io::{PipeWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pool_core::transport::{
    Claim, Closed, Handle, Link, LinkEvents, Outgoing, Payload, Seq, Ticket, Transport, Until,
};
use pool_transport_shm::Shm;

/// Longer than any end takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// A parent waits for so long at a time.
const MOMENT: Duration = Duration::from_micros(100);
/// Deeds of one play.
const DEEDS_MAX: usize = 300;
/// Sizes of frames: none, small, more than a decoder's buffer, than a narrow ring, than a wide one.
const SIZES: [usize; 6] = [0, 10, 1000, 100_000, 1 << 20, 5 << 20];

/// Plays what `data` says, by one of the three below. Panics and hangs are what is looked for.
pub(crate) fn play(data: &[u8]) {
    let mut dice = Dice::new(data);
    match dice.byte() % 3 {
        0 => worker_lies(&mut dice),
        1 => parent_lies(&mut dice),
        _ => both_are_scribbled_over(&mut dice),
    }
}

/// Against the parent's link there is nobody but the one who scribbles.
fn worker_lies(dice: &mut Dice<'_>) {
    let (mut parent, ticket) = Parent::open();
    let [segment, hear, ring] = handles(ticket);
    let hand = Hand::new(segment);
    let (mut hear, mut ring) = (Some(hear), Some(PipeWriter::from(ring)));
    while let Some(deed) = dice.deed() {
        match deed % 16 {
            0..5 => hand.scribbles(dice),
            5..8 => hand.says(WORKER, dice),
            8 if dice.byte() < 10 => drop((hear.take(), ring.take())),
            9 | 10 => {
                // It may be gone, which is told by its events.
                let _ = ring.as_mut().map(|ring| ring.write(&[1]));
            }
            _ => parent.acts(dice),
        }
    }
    parent.ends();
}

/// Against the worker's channel there is nobody but the one who scribbles.
fn parent_lies(dice: &mut Dice<'_>) {
    let (parent, ticket) = Parent::open();
    let Ticket { transport, bytes, handles } = ticket;
    // A segment as the parent makes them, and bells of our own. The parent's link ends with the worker's bells.
    let [segment, ..] = <[Handle; 3]>::try_from(handles).expect("three handles");
    parent.events.wait_closed();
    drop(parent);
    let hand = Hand::new(segment.try_clone().expect("a copy"));
    hand.put(CLOSED, 0);
    let (hear, mut bell) = std::io::pipe().expect("a pipe");
    let (heard, ring) = std::io::pipe().expect("a pipe");
    let ticket = Ticket { transport, bytes, handles: vec![segment, hear.into(), ring.into()] };
    let worker = worker(ticket);
    while let Some(deed) = dice.deed() {
        match deed % 16 {
            0..7 => hand.scribbles(dice),
            7..12 => hand.says(PARENT, dice),
            _ => {
                let _ = bell.write(&[1]);
            }
        }
    }
    drop((bell, heard));
    worker.join().expect("the worker does not panic");
}

/// The parent and the worker are as they should be, and a third one scribbles.
fn both_are_scribbled_over(dice: &mut Dice<'_>) {
    let (mut parent, ticket) = Parent::open();
    let hand = Hand::new(ticket.handles[0].try_clone().expect("a copy"));
    let worker = worker(ticket);
    while let Some(deed) = dice.deed() {
        if deed % 8 < 3 { hand.scribbles(dice) } else { parent.acts(dice) }
    }
    parent.ends();
    worker.join().expect("the worker does not panic");
}

/// The parent and the worker go on with theirs as fast as they can, and a third one scribbles as fast as he can;
/// but only over what `targets` says, since most of it ends a link at once.
pub(crate) fn storm(targets: &[u64], mut random: impl FnMut() -> Vec<u8> + Send) {
    let (mut parent, ticket) = Parent::open();
    let hand = Hand { targets: targets.to_vec(), ..Hand::new(ticket.handles[0].try_clone().expect("a copy")) };
    let worker = worker(ticket);
    let (deeds, scribbles) = (random(), random());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut dice = Dice::new(&scribbles);
            while !is_over.load(Ordering::Relaxed) {
                hand.scribbles(&mut dice);
                if !dice.has_more() {
                    dice = Dice::new(&scribbles);
                }
            }
        });
        let mut dice = Dice::new(&deeds);
        while dice.deed().is_some() && !parent.events.is_closed() {
            parent.acts(&mut dice);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    parent.ends();
    worker.join().expect("the worker does not panic");
}

/// A worker as it should be: it answers what it is sent, with as much or more.
fn worker(ticket: Ticket) -> JoinHandle<()> {
    let mut channel = Shm::new().connector().connect(ticket).expect("the worker connects");
    thread::spawn(move || {
        let (mut frame, blank) = (Vec::new(), payloads()[SIZES.len() - 1].as_slice());
        for n in 0.. {
            // Whatever it finds, it ends.
            if !matches!(channel.recv(&mut frame), Ok(true)) {
                break;
            }
            channel.claim(Seq(n));
            let size = SIZES[n as usize % SIZES.len()].max(frame.len().min(blank.len()));
            if channel.send(&n.to_le_bytes(), &blank[..size]).is_err() {
                break;
            }
        }
    })
}

/// A parent as it should be.
struct Parent {
    link: Box<dyn Link>,
    events: Arc<Events>,
    next: u64,
}

impl Parent {
    fn open() -> (Self, Ticket) {
        let events = Arc::new(Events::default());
        let shm = Shm::new().spin(Duration::from_micros(20));
        let (link, ticket) = shm.open(Arc::clone(&events) as Arc<dyn LinkEvents>).expect("a link");
        (Self { link, events, next: 0 }, ticket)
    }

    fn acts(&mut self, dice: &mut Dice<'_>) {
        match dice.byte() % 8 {
            0..3 => {
                // No more under way than a link has to remember.
                if self.next < 500 {
                    let body = &payloads()[usize::from(dice.byte()) % SIZES.len()];
                    self.link.send(Outgoing { seq: Some(Seq(self.next)), head: b"head", body });
                    self.next += 1;
                }
                self.link.flush();
            }
            3 => {
                let seq = Seq(u64::from(dice.byte()) % self.next.max(1));
                let claim = self.link.revoke(seq);
                // What is final stays.
                if matches!(claim, Claim::Started | Claim::Revoked) {
                    assert_eq!(self.link.claim_state(seq), claim, "a claim has changed");
                }
            }
            _ => {
                let done = || self.events.is_closed();
                self.link.drive(&Until { done: &done, deadline: Some(Instant::now() + MOMENT) });
            }
        }
    }

    /// However it stands, it ends when it is told to.
    fn ends(self) {
        self.link.close();
        self.events.wait_closed();
        drop(self.link);
        let told = self.events.lock();
        assert_eq!(told.wrong, None);
        assert!(!matches!(told.closed, Some(Closed::Io(_))), "{:?}", told.closed);
    }
}

/// One of each size, the largest last. Made once: they take longer than a play.
fn payloads() -> &'static [Payload; SIZES.len()] {
    static PAYLOADS: OnceLock<[Payload; SIZES.len()]> = OnceLock::new();
    PAYLOADS.get_or_init(|| SIZES.map(|size| vec![7; size].into()))
}

/// What a link has told.
#[derive(Debug, Default)]
struct Events {
    told: Mutex<Told>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Told {
    closed: Option<Closed>,
    wrong: Option<&'static str>,
}

impl Events {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.lock().closed.is_some()
    }

    fn wait_closed(&self) {
        let told = self.changed.wait_timeout_while(self.lock(), PATIENCE, |told| told.closed.is_none());
        let (told, _) = told.unwrap_or_else(PoisonError::into_inner);
        assert!(told.closed.is_some(), "the link never ends");
    }

    fn says(&self) {
        let mut told = self.lock();
        if told.closed.is_some() {
            told.wrong = Some("it says something after its end");
        }
    }
}

impl LinkEvents for Events {
    fn arriving(&self) {}

    fn frame(&self, _: Cow<'_, [u8]>) {
        self.says();
    }

    fn drained(&self) {
        self.says();
    }

    fn closed(&self, why: Closed) {
        self.says();
        self.lock().closed = Some(why);
        self.changed.notify_all();
    }
}

/// Writes into a segment as any process can that has its descriptor.
struct Hand {
    file: File,
    /// How large each ring is.
    wide: u64,
    /// Words that are scribbled over. All kinds of things, if there are none.
    targets: Vec<u64>,
}

/// Who may write which ring: where the words of its writer are, and which ring it is.
const PARENT: (u64, u64) = (0, 0);
const WORKER: (u64, u64) = (128, 1);
/// Written, extent and read, of calls and of results; the bells, closed, spin.
pub(crate) const WORDS: [u64; 10] = [0, 8, 64, 128, 136, 192, 256, 320, CLOSED, 448];
const CLOSED: u64 = 384;
const CLAIMS: u64 = 4096;
const RINGS: u64 = 12288;
const NARROW: u64 = 512 * 1024;

impl Hand {
    fn new(segment: Handle) -> Self {
        let file = File::from(segment);
        let wide = (file.metadata().expect("its size").len() - RINGS) / 2;
        Self { file, wide, targets: Vec::new() }
    }

    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at).expect("within the file");
        u64::from_le_bytes(bytes)
    }

    fn put(&self, at: u64, word: u64) {
        self.file.write_all_at(&word.to_le_bytes(), at).expect("within the file");
    }

    /// Over whatever it is.
    fn scribbles(&self, dice: &mut Dice<'_>) {
        let which = usize::from(dice.byte());
        if !self.targets.is_empty() {
            return self.changes(self.targets[which % self.targets.len()], dice);
        }
        match which % 8 {
            0 => self.changes(CLAIMS + 8 * (dice.word() % 1024), dice),
            1 => {
                let bytes: Vec<u8> = (0..dice.byte()).map(|_| dice.byte()).collect();
                // Where something is likely to be.
                let at = dice.word() % if dice.byte() < 200 { 1000 } else { self.wide - 256 };
                let ring = RINGS + self.wide * u64::from(dice.byte() % 2);
                self.file.write_all_at(&bytes, ring + at).expect("within the file");
            }
            _ => self.changes(WORDS[which / 8 % WORDS.len()], dice),
        }
    }

    /// Makes a word something else, which may be as good.
    fn changes(&self, at: u64, dice: &mut Dice<'_>) {
        let (now, other) = (self.word(at), self.word(WORDS[usize::from(dice.byte()) % WORDS.len()]));
        let few = u64::from(dice.byte());
        let word = match dice.byte() % 10 {
            0 => 0,
            1 => u64::MAX,
            2 => now.wrapping_add(few),
            3 => now.wrapping_sub(few),
            4 => now ^ 1 << (few % 64),
            5 => other,
            6 => other << 1 | few & 1,
            7 => dice.word(),
            8 => now.wrapping_add(if few < 128 { NARROW } else { self.wide }),
            _ => now.wrapping_add(few << 12),
        };
        self.put(at, word);
    }

    /// A frame, or something like it, in its place, as its writer may say it.
    fn says(&self, (at, ring): (u64, u64), dice: &mut Dice<'_>) {
        let (written, mut extent) = (self.word(at), self.word(at + 8));
        if dice.byte() < 60 {
            extent = written << 1 | u64::from(dice.byte() % 2);
            self.put(at + 8, extent);
        }
        let size = if extent & 1 == 0 { NARROW } else { self.wide };
        let length = match dice.byte() {
            0..20 => dice.word() as u32,
            20..30 => 1 << 30,
            kind => SIZES[usize::from(kind) % 5] as u32,
        };
        // More often than not all of it.
        let body = if dice.byte() < 100 { u64::from(length.min(u32::from(dice.byte()))) } else { length.into() };
        let bytes = [length.to_le_bytes().as_slice(), &vec![5; body.min(size - 4) as usize]].concat();
        let first = written.wrapping_sub(extent >> 1) % size;
        let (head, tail) = bytes.split_at(bytes.len().min((size - first) as usize));
        for (bytes, at) in [(head, first), (tail, 0)] {
            self.file.write_all_at(bytes, RINGS + ring * self.wide + at).expect("within the file");
        }
        self.put(at, written.wrapping_add(bytes.len() as u64));
    }
}

/// Bytes that decide; noughts when there are no more.
struct Dice<'a> {
    rest: std::slice::Iter<'a, u8>,
    deeds: usize,
}

impl<'a> Dice<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { rest: data.iter(), deeds: 0 }
    }

    fn has_more(&self) -> bool {
        !self.rest.as_slice().is_empty()
    }

    /// What to do next, as long as there is anything.
    fn deed(&mut self) -> Option<u8> {
        self.deeds += 1;
        (self.deeds <= DEEDS_MAX).then(|| self.rest.next().copied()).flatten()
    }

    fn byte(&mut self) -> u8 {
        self.rest.next().copied().unwrap_or_default()
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }
}

fn handles(ticket: Ticket) -> [Handle; 3] {
    <[Handle; 3]>::try_from(ticket.handles).expect("three handles")
}
