//! A good spawner with one fault. Each is as narrow as its law allows, so that no other is broken beside it.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use pool_core::error::Exit;
use pool_core::spawner::{ExitReport, OnExit, Signal, SpawnError, Spawner, SpawnerCaps, Worker};
use pool_core::transport::{Handle, Ticket};
use pool_core::worker::WorkerEntry;
use pool_spawn_exec::Exec;

use crate::transport::{inheritable, null};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    NothingIsWrong,
    SwallowsAnExit,
    ReportsTooEarly,
    SwapsHandles,
    AddsAHandle,
    ChangesTheBytes,
    ShowsAHandle,
    GivesAHandleToTheNext,
    SignalsNobody,
    ErrsAfterTheEnd,
    LeavesAnHeir,
    HasNoOutput,
    FailsForGood,
    LeaksWhenItFails,
    TellsOfNoShortage,
    EndsWithItsValue,
    LeavesAZombie,
    LosesADescriptor,
    LosesAThread,
    SlowerBesideALot,
    TellsAnotherCode,
    TellsNoSignal,
    LosesLastWords,
    WaitsForItsCallback,
    SuffersFromAPanic,
    OneAtATime,
    CutsTheBytes,
    CutsTheHandles,
    LosesTheGroup,
    EndsANeighboursToo,
}

use Fault::*;

/// The spawner.
pub(crate) struct Mutant {
    fault: Fault,
    exec: Exec,
    /// For workers that start others.
    exec_of_others: Exec,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    spawns: AtomicUsize,
    has_failed: AtomicBool,
    has_panicked: AtomicBool,
    lock: Mutex<()>,
    /// Another worker's.
    handle: Mutex<Option<Handle>>,
    /// A worker that has started others.
    neighbour: Mutex<Option<Arc<dyn Worker>>>,
}

impl Mutant {
    pub(crate) fn new(fault: Fault) -> Self {
        // Of one bystander only: what a worker's start leaves, or does not.
        let is_bystander = |role| std::env::var("XTESTS_ROLE").is_ok_and(|is| is == role);
        let through_a_shell = |line: &str| {
            let own = std::env::current_exe().expect("a path");
            Exec::program("sh").args(["-c", line]).arg(own)
        };
        let exec = match fault {
            LeavesAnHeir if is_bystander("parent") => through_a_shell("sleep 5 </dev/null & exec \"$0\""),
            HasNoOutput if is_bystander("printer") => through_a_shell("exec \"$0\" >/dev/null"),
            _ => Exec::new(),
        };
        let exec_of_others = match fault {
            LosesTheGroup => through_a_shell("exec setsid --wait \"$0\""),
            _ => exec.clone(),
        };
        Self { fault, exec, exec_of_others, shared: Arc::default() }
    }

    fn spoil(&self, ticket: &mut Ticket) {
        match self.fault {
            SwapsHandles if ticket.handles.len() == 3 => ticket.handles.swap(1, 2),
            AddsAHandle if ticket.handles.len() == 3 => ticket.handles.push(null().expect("opens").into()),
            ChangesTheBytes if ticket.handles.len() == 3 => ticket.bytes[0] ^= 1,
            // The second idle worker's to the third.
            GivesAHandleToTheNext if ticket.transport.ends_with("idle") => {
                let mut handle = self.shared.handle.lock().unwrap_or_else(PoisonError::into_inner);
                match self.shared.spawns.fetch_add(1, Ordering::Relaxed) {
                    1 => *handle = ticket.handles.first().and_then(|handle| handle.try_clone().ok()),
                    2 => ticket.handles.extend(handle.take()),
                    _ => {}
                }
            }
            CutsTheBytes => ticket.bytes.truncate(60_000),
            CutsTheHandles => ticket.handles.truncate(40),
            _ => {}
        }
    }

    fn before(&self) -> io::Result<Option<File>> {
        match self.fault {
            SlowerBesideALot => thread::sleep(Duration::from_millis(resident_mib() / 8)),
            LeaksWhenItFails => return null().map(Some),
            ShowsAHandle => return File::open(std::env::current_exe()?).map(inheritable).map(Some),
            _ => {}
        }
        Ok(None)
    }
}

/// What stays of every fourth worker, so that a case must look at several.
fn leave_behind(fault: Fault, spawns: &AtomicUsize) {
    let leaves = matches!(fault, LosesADescriptor | LosesAThread | LeavesAZombie);
    if !leaves || spawns.fetch_add(1, Ordering::Relaxed) % 4 != 3 {
        return;
    }
    match fault {
        LosesADescriptor => mem::forget(null()),
        LosesAThread => drop(thread::spawn(|| {
            loop {
                thread::park();
            }
        })),
        // Nobody waits for it.
        LeavesAZombie => drop(Command::new("true").spawn()),
        _ => {}
    }
}

/// How much memory this process has, in MiB.
fn resident_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages / 256
}

impl fmt::Debug for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutant").field("fault", &self.fault).finish_non_exhaustive()
    }
}

impl Spawner for Mutant {
    fn name(&self) -> &str {
        self.exec.name()
    }

    fn caps(&self) -> SpawnerCaps {
        self.exec.caps()
    }

    fn prepare(&self, entry: WorkerEntry) -> Result<(), SpawnError> {
        self.exec.prepare(entry)
    }

    fn spawn(&self, mut ticket: Ticket, on_exit: OnExit) -> Result<Box<dyn Worker>, SpawnError> {
        let (fault, shared) = (self.fault, Arc::clone(&self.shared));
        let other = |what| SpawnError::Other { what, source: io::Error::other("it does not want to") };
        if fault == FailsForGood && shared.has_failed.load(Ordering::SeqCst) {
            return Err(other("start another one"));
        }
        // The callback that calls it.
        while fault == WaitsForItsCallback && IS_TOLD.get() {
            thread::park();
        }
        let held = match fault {
            OneAtATime => Some(shared.lock.try_lock().map_err(|_| other("start two at once"))?),
            _ => None,
        };
        let job = ticket.transport.clone();
        let is_quiet = fault == SwallowsAnExit && job.ends_with("return") && ticket.bytes == [0];
        self.spoil(&mut ticket);
        let kept = self.before().map_err(|error| SpawnError::from_io("start a worker", error))?;
        let (kept, spare) = if fault == ShowsAHandle { (kept, None) } else { (None, kept) };
        let life = Arc::new(Life { has_ended: AtomicBool::new(false), on_exit: Mutex::new(Some(on_exit)) });
        let (told, theirs) = (Arc::clone(&life), Arc::clone(&shared));
        let on_ended = Box::new(move |report: ExitReport| {
            drop(kept);
            if fault == EndsANeighboursToo
                && let Some(neighbour) = theirs.neighbour.lock().unwrap_or_else(PoisonError::into_inner).take()
            {
                neighbour.signal(Signal::Kill).expect("sent");
            }
            told.has_ended.store(true, Ordering::SeqCst);
            let on_exit = told.on_exit.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(on_exit) = on_exit.filter(|_| !is_quiet) else { return };
            match fault {
                WaitsForItsCallback => {
                    IS_TOLD.set(true);
                    let told = catch_unwind(AssertUnwindSafe(|| on_exit(report)));
                    IS_TOLD.set(false);
                    told.unwrap_or_else(|panic| resume_unwind(panic));
                }
                SuffersFromAPanic => {
                    if !theirs.has_panicked.load(Ordering::SeqCst)
                        && let Err(panic) = catch_unwind(AssertUnwindSafe(|| on_exit(report)))
                    {
                        theirs.has_panicked.store(true, Ordering::SeqCst);
                        resume_unwind(panic);
                    }
                }
                _ => on_exit(told_wrong(fault, report)),
            }
        });
        let starts_others = job.ends_with("start another");
        let exec = if starts_others { &self.exec_of_others } else { &self.exec };
        let started = exec.spawn(ticket, on_ended);
        drop(held);
        match started {
            Ok(worker) => {
                leave_behind(fault, &shared.spawns);
                let worker: Arc<dyn Worker> = Arc::from(worker);
                if starts_others {
                    let mut neighbour = shared.neighbour.lock().unwrap_or_else(PoisonError::into_inner);
                    neighbour.get_or_insert_with(|| Arc::clone(&worker));
                }
                Ok(Box::new(MutantWorker { fault, worker, life, job }))
            }
            Err(SpawnError::Resources { what, source }) => {
                shared.has_failed.store(true, Ordering::SeqCst);
                mem::forget(spare);
                Err(match fault {
                    TellsOfNoShortage => SpawnError::Other { what, source },
                    _ => SpawnError::Resources { what, source },
                })
            }
            Err(error) => Err(error),
        }
    }
}

fn told_wrong(fault: Fault, report: ExitReport) -> ExitReport {
    let ExitReport { exit, last_words } = report;
    match (fault, &exit) {
        (TellsAnotherCode, Exit::Code(42)) => ExitReport { exit: Exit::Code(43), last_words },
        (TellsNoSignal, Exit::Signal(6)) => ExitReport { exit: Exit::Code(134), last_words },
        (LosesLastWords, _) => ExitReport { exit, last_words: last_words.filter(|words| words.len() < 1000) },
        _ => ExitReport { exit, last_words },
    }
}

thread_local! {
    /// Whether a callback runs on this thread.
    static IS_TOLD: Cell<bool> = const { Cell::new(false) };
}

/// What worker and callback know of each other.
struct Life {
    has_ended: AtomicBool,
    on_exit: Mutex<Option<OnExit>>,
}

struct MutantWorker {
    fault: Fault,
    worker: Arc<dyn Worker>,
    life: Arc<Life>,
    job: String,
}

impl Worker for MutantWorker {
    fn pid(&self) -> Option<u32> {
        self.worker.pid()
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let has_ended = self.life.has_ended.load(Ordering::SeqCst);
        match self.fault {
            SignalsNobody if signal == Signal::Terminate && self.job.ends_with("busy") => Ok(()),
            ErrsAfterTheEnd if has_ended => Err(io::Error::other("nobody to hit")),
            ReportsTooEarly if signal == Signal::Kill => {
                let on_exit = self.life.on_exit.lock().unwrap_or_else(PoisonError::into_inner).take();
                let report = ExitReport { exit: Exit::Signal(9), last_words: None };
                on_exit.into_iter().for_each(|on_exit| on_exit(report.clone()));
                let worker = Arc::clone(&self.worker);
                thread::Builder::new().spawn(move || {
                    thread::sleep(Duration::from_millis(300));
                    worker.signal(signal).expect("sent");
                })?;
                Ok(())
            }
            _ => self.worker.signal(signal),
        }
    }
}

impl Drop for MutantWorker {
    fn drop(&mut self) {
        if self.fault == EndsWithItsValue {
            self.worker.signal(Signal::Kill).expect("sent");
        }
    }
}
