//! Everything at once: sixteen threads that submit, cancel, kill, wait, resize and shut down as a seed says, while workers
//! are killed. No call is lost or made twice, nothing hangs, and nothing is left behind.
//!
//! `XTESTS_STORM_SECONDS` says for how long, in each context; `XTESTS_STORM_SEED` is the seed, which is printed. Threads
//! run as they like, so that a seed gives the same wishes again and not the same sequence of events.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant, SystemTime};

use process_pool::{CallOptions, Executor, RestartLimit, Retry, Shutdown, SubmitError, TaskError, TaskHandle};
use xtests::cases;
use xtests::gate::PATIENCE;
use xtests::random::Random;
use xtests::runner::{Case, Subject, kill_if_there, skip};

const THREADS: u64 = 16;
/// More calls than a thread makes.
const CALLS_MAX: u64 = 4 << 20;
/// How many calls a thread has under way.
const UNDER_WAY: usize = 100;
/// What the process may grow by once everything has been seen, in bytes.
const GROWTH_MAX: u64 = 48 << 20;
const WORKERS_MAX: u64 = 6;
/// How many times as long as it is to take it may, until everything has happened.
const SLOWEST: u32 = 20;

/// For calls: notes that this one runs, and how often it has.
fn note(path: &str, id: u64) {
    let open = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut runs = [0];
        file.seek(SeekFrom::Start(id))?;
        let _ = file.read(&mut runs)?;
        file.seek(SeekFrom::Start(id))?;
        file.write_all(&[runs[0].saturating_add(1)])
    };
    open().expect("the case's file");
}

/// For calls: a short one, or one that takes so many microseconds.
fn work((path, id, micros): (String, u64, u64)) -> u64 {
    note(&path, id);
    let end = Instant::now() + Duration::from_micros(micros);
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    id
}

/// For calls: does not come back.
fn hang((path, id): (String, u64)) -> u64 {
    note(&path, id);
    loop {
        std::thread::park();
    }
}

/// For calls: takes the worker down.
fn die((path, id, how): (String, u64, u64)) -> u64 {
    note(&path, id);
    match how {
        0 => std::process::exit(3),
        1 => std::process::abort(),
        _ => panic!("as it was told to"),
    }
}

/// A call that was accepted.
struct Made {
    id: u64,
    runs_max: u8,
    handle: TaskHandle<u64>,
}

/// How often everything has happened.
#[derive(Debug, Default)]
struct Tally {
    made: AtomicU64,
    refused: AtomicU64,
    done: AtomicU64,
    cancelled: AtomicU64,
    lost: AtomicU64,
    ended: AtomicU64,
    panicked: AtomicU64,
    detached: AtomicU64,
    workers_killed: AtomicU64,
    resized: AtomicU64,
    pools: AtomicU64,
}

fn count(place: &AtomicU64) {
    place.fetch_add(1, Ordering::Relaxed);
}

struct Storm<'a> {
    subject: &'a Subject,
    notes: String,
    pool: RwLock<Arc<Executor>>,
    tally: Tally,
    is_over: AtomicBool,
}

impl Storm<'_> {
    fn new_pool(subject: &Subject, random: &mut Random) -> Arc<Executor> {
        // Killed workers are no reason to give up.
        let patient = RestartLimit { failures: u32::MAX, backoff_min: Duration::ZERO, ..RestartLimit::default() };
        let builder = subject.builder().max_workers(1 + random.below(WORKERS_MAX) as usize).restart_limit(patient);
        let builder = if random.below(3) == 0 { builder.max_tasks_per_child(20) } else { builder };
        Arc::new(builder.build().expect("a pool"))
    }

    fn pool(&self) -> Arc<Executor> {
        Arc::clone(&self.pool.read().expect("no panic"))
    }

    fn submit(&self, random: &mut Random, id: u64) -> Result<Made, SubmitError> {
        let (pool, path) = (self.pool(), self.notes.clone());
        let mut options = CallOptions::new().priority(random.below(3) as i32);
        if random.below(8) == 0 {
            options = options.sticky(random.below(4));
        }
        let again = random.below(4) == 0;
        if again {
            options = options.retry(Retry::new(2).rests(Duration::ZERO, Duration::ZERO));
        }
        let handle = match random.below(100) {
            0..70 => pool.with(options).submit(work, (path, id, 0))?,
            70..90 => pool.with(options).submit(work, (path, id, random.below(3000)))?,
            90..94 => {
                let limit = Duration::from_millis(20 + random.below(100));
                pool.with(options.time_limit(limit)).submit(hang, (path, id))?
            }
            94..96 => {
                let limit = Duration::from_millis(20 + random.below(200));
                pool.with(options.total_limit(limit)).submit(hang, (path, id))?
            }
            _ => pool.with(options).submit(die, (path, id, random.below(3)))?,
        };
        Ok(Made { id, runs_max: if again { 3 } else { 1 }, handle })
    }

    /// What a call has come to.
    fn check(&self, made: Made) {
        let Made { id, runs_max, handle } = made;
        let Some(result) = handle.result_timeout(PATIENCE) else {
            panic!("call {id} has no end: {:?}, {:?}", handle.state(), self.pool());
        };
        let runs = runs(&self.notes, id);
        assert!(runs <= runs_max, "call {id} ran {runs} times: {result:?}");
        match result {
            Ok(result) => {
                assert!(result == id && runs > 0, "call {id} has the result {result} after {runs} runs");
                count(&self.tally.done);
            }
            Err(TaskError::Cancelled) => {
                assert!(runs == 0 || runs_max > 1, "call {id} is cancelled, and ran");
                count(&self.tally.cancelled);
            }
            Err(TaskError::WorkerLost(_)) => count(&self.tally.lost),
            Err(TaskError::Panicked(_)) => count(&self.tally.panicked),
            Err(TaskError::TimedOut(_) | TaskError::Killed(_) | TaskError::Stopped(_)) => count(&self.tally.ended),
            Err(error) => panic!("call {id}: {error}"),
        }
    }

    /// Ends the pool somehow, and goes on with another.
    fn replace(&self, random: &mut Random) {
        let fresh = Self::new_pool(self.subject, random);
        let old = std::mem::replace(&mut *self.pool.write().expect("no panic"), fresh);
        count(&self.tally.pools);
        match random.below(7) {
            0 => old.kill_workers(),
            1 => old.terminate_workers(),
            2 => old.interrupt(),
            3 => {
                let timeout = Some(Duration::from_millis(random.below(50)));
                let report = old.shutdown(Shutdown { timeout, ..Shutdown::default() });
                assert!(report.complete, "{report:?}");
            }
            4 => drop(old.shutdown(Shutdown { cancel_futures: true, ..Shutdown::default() })),
            5 => drop(old.shutdown(Shutdown { wait: false, ..Shutdown::default() })),
            _ => {}
        }
    }

    fn thread(&self, seed: u64, thread: u64) -> Vec<(u64, u8)> {
        let mut random = Random::new(seed.wrapping_mul(THREADS).wrapping_add(thread));
        let (mut made, mut detached) = (Vec::<Made>::new(), Vec::new());
        let mut id = thread * CALLS_MAX;
        // One pool is replaced at least.
        let mut is_first = thread == 0;
        while !self.is_over.load(Ordering::Relaxed) {
            if is_first && id == 50 {
                is_first = false;
                self.replace(&mut random);
            }
            let chosen = random.below(made.len().max(1) as u64) as usize;
            match random.below(1000) {
                0..600 => match self.submit(&mut random, id) {
                    Ok(call) => {
                        count(&self.tally.made);
                        made.push(call);
                        id += 1;
                        assert!(id < (thread + 1) * CALLS_MAX, "so many calls are not made");
                    }
                    // Another thread has just ended it.
                    Err(SubmitError::ShutDown) => count(&self.tally.refused),
                    Err(error) => panic!("{error}"),
                },
                600..700 if chosen < made.len() => {
                    let was_cancelled = made[chosen].handle.cancel();
                    let has_run = runs(&self.notes, made[chosen].id) > 0;
                    assert!(!was_cancelled || !has_run || made[chosen].runs_max > 1, "it was cancelled, and ran");
                }
                700..740 if chosen < made.len() => drop(made[chosen].handle.kill()),
                740..940 if chosen < made.len() => self.check(made.swap_remove(chosen)),
                940..960 if chosen < made.len() => {
                    let Made { id, runs_max, handle } = made.swap_remove(chosen);
                    drop(handle);
                    detached.push((id, runs_max));
                    count(&self.tally.detached);
                }
                960..975 => {
                    let pids = self.pool().worker_pids();
                    if !pids.is_empty() && kill_if_there(pids[random.below(pids.len() as u64) as usize]) {
                        count(&self.tally.workers_killed);
                    }
                }
                975..990 => {
                    self.pool().resize(1 + random.below(WORKERS_MAX) as usize).expect("at least one");
                    count(&self.tally.resized);
                }
                990..991 => self.replace(&mut random),
                _ => {}
            }
            if made.len() > UNDER_WAY {
                self.check(made.swap_remove(0));
            }
        }
        for call in made {
            self.check(call);
        }
        detached
    }
}

impl Tally {
    /// Whether all has happened that is to happen.
    fn has_all(&self) -> bool {
        let Self {
            made,
            done,
            cancelled,
            lost,
            ended,
            panicked,
            detached,
            workers_killed,
            resized,
            pools,
            refused: _,
        } = self;
        let seen = [made, done, cancelled, lost, ended, panicked, detached, workers_killed, resized, pools];
        seen.iter().all(|count| count.load(Ordering::Relaxed) > 0)
    }
}

/// How often a call has run.
fn runs(path: &str, id: u64) -> u8 {
    let mut runs = [0];
    let mut file = File::open(path).expect("the case's file");
    file.seek(SeekFrom::Start(id)).expect("it has places");
    // Beyond its end nothing has run.
    let _ = file.read(&mut runs).expect("it can be read");
    runs[0]
}

/// What this process has for itself, in bytes.
fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().expect("a number"))
}

/// For how long.
fn seconds() -> u64 {
    number("XTESTS_STORM_SECONDS").unwrap_or(5)
}

fn no_call_is_lost_or_made_twice_and_nothing_is_left_behind(subject: &Subject) {
    if subject.start_method() == "fork" {
        skip("pools of this start method are built by a process that has no threads yet");
    }
    let seconds = seconds();
    let by_clock =
        || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |age| age.as_millis() as u64);
    let seed = number("XTESTS_STORM_SEED").unwrap_or_else(by_clock);
    println!("XTESTS_STORM_SEED={seed}");
    let notes = Path::new(&subject.dir).join("runs");
    File::create(&notes).expect("a file in the case's folder");
    let mut random = Random::new(seed);
    let storm = Storm {
        subject,
        notes: notes.to_str().expect("a path that is text").to_owned(),
        pool: RwLock::new(Storm::new_pool(subject, &mut random)),
        tally: Tally::default(),
        is_over: AtomicBool::new(false),
    };
    let start = Instant::now();
    let mut settled = None;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|n| {
                let storm = &storm;
                scope.spawn(move || storm.thread(seed, n))
            })
            .collect();
        let over = Duration::from_secs(seconds);
        // Where processes start slowly, until everything has happened.
        let is_enough = || start.elapsed() >= over && (storm.tally.has_all() || start.elapsed() >= SLOWEST * over);
        while !is_enough() && !threads.iter().any(|thread| thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(100));
            if start.elapsed() > over / 2 {
                settled = settled.or_else(memory);
            }
        }
        storm.is_over.store(true, Ordering::Relaxed);
        let detached: Vec<_> =
            threads.into_iter().flat_map(|thread| thread.join().expect("its panic is told")).collect();
        // Ends what nobody waits for: it is finished, so that nothing can run any more.
        drop(storm.pool().shutdown(Shutdown::default()));
        for (id, runs_max) in detached {
            let runs = runs(&storm.notes, id);
            assert!(runs <= runs_max, "call {id}, which nobody waited for, ran {runs} times");
        }
    });
    println!("{} s: {:?}", start.elapsed().as_secs(), storm.tally);
    assert!(storm.tally.has_all(), "too quiet: {:?}", storm.tally);
    if let Some((settled, now)) = settled.zip(memory()) {
        println!("memory: {} KiB at half time, {} KiB now", settled >> 10, now >> 10);
        assert!(now < settled + GROWTH_MAX, "it grows: from {settled} to {now} bytes");
    }
}

const ALL: &[Case] = cases![no_call_is_lost_or_made_twice_and_nothing_is_left_behind];

fn main() {
    process_pool::init();
    let all = ALL.iter().map(|case| case.watchdog(Duration::from_secs(300 + seconds())));
    xtests::runner::main(&all.collect::<Vec<_>>());
}
