//! Everything that is read from shared memory, while somebody scribbles over it: a worker against its parent's
//! link, a parent against its worker's channel, a third one against both.
//!
//! Whatever he writes, and when, nobody panics, every link ends when it is told to, every worker when its parent
//! is gone, and memory is taken as bytes arrive. `play` says how; a failure names its seed.
#![cfg(any(target_os = "linux", target_os = "android"))]

mod play;

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use xtests::random::Random;
use xtests::transport::tools::guarded;

/// More than all of it needs, and less than a frame may be: who takes a length at its word runs out of memory.
const MEMORY_MAX: u64 = 768 << 20;

/// A panic of a thread that nobody waits for counts as well.
static PANICKED: AtomicBool = AtomicBool::new(false);

fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = getrlimit(Resource::Data);
        setrlimit(Resource::Data, Rlimit { current: Some(MEMORY_MAX), ..usual }).expect("set");
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICKED.store(true, Ordering::SeqCst);
            tell(panic);
        }));
    });
}

/// Prints the seed if what follows fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() || PANICKED.load(Ordering::SeqCst) {
            eprintln!("seed {}", self.0);
        }
    }
}

fn bytes(random: &mut Random, count: u64) -> Vec<u8> {
    (0..count).map(|_| random.below(256) as u8).collect()
}

fn plays(name: &'static str, role: u8, seeds: u64) {
    prepare();
    guarded(name, || {
        for seed in 0..seeds {
            let _told = Seed(seed);
            let mut random = Random::new(seed);
            let count = random.below(3000);
            let mut data = bytes(&mut random, count);
            data.insert(0, role);
            play::play(&data);
            assert!(!PANICKED.load(Ordering::SeqCst), "a thread of the link's has panicked");
        }
    });
}

#[test]
fn a_worker_that_scribbles_harms_nothing_but_its_link() {
    plays("a worker that scribbles", 0, 150);
}

#[test]
fn a_parent_that_scribbles_harms_nothing_but_its_worker() {
    plays("a parent that scribbles", 1, 150);
}

#[test]
fn who_scribbles_over_both_harms_nothing_but_the_link() {
    plays("one who scribbles over both", 2, 150);
}

#[test]
fn scribbles_at_every_moment_harm_nothing_but_the_link() {
    prepare();
    guarded("a storm of scribbles", || {
        // Each word by itself, and all together.
        for seed in 0..12 * 10 {
            let _told = Seed(seed);
            let mut random = Random::new(seed);
            let targets = match (seed % 12) as usize {
                word @ 0..10 => vec![play::WORDS[word]],
                10 => play::WORDS.to_vec(),
                _ => Vec::new(),
            };
            play::storm(&targets, || bytes(&mut random, 2000));
            assert!(!PANICKED.load(Ordering::SeqCst), "a thread of the link's has panicked");
        }
    });
}
