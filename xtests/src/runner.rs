//! Cases about contexts: each is run for every pair of start method and transport that there is.
//!
//! How one is run, in a process of its own, is the affair of `trial`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pool_core::error::Exit;
use pool_core::transport::LinkCaps;
use pool_core::{Builder, Executor};
use process_pool::carry::{Ipc, Pipe, Shm};

use crate::processes::is_emulated;
use crate::trial::{self, Trial};
use crate::{context, leaks};

pub use crate::trial::skip;

/// Something that holds for every context.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name: a sentence that states the truth tested.
    pub name: &'static str,
    /// Panics if the truth does not hold.
    pub run: fn(&Subject),
    /// How long it may take.
    pub watchdog: Duration,
    /// The one context to run it for, if it is not about contexts; and what it is about.
    pub only: Option<(&'static str, &'static str)>,
    /// Why it does not hold yet, if so. Such a case runs only when asked for, with `--ignored`.
    pub known_failing: Option<&'static str>,
}

impl Case {
    /// A case with the usual watchdog.
    pub const fn new(name: &'static str, run: fn(&Subject)) -> Self {
        Self { name, run, watchdog: trial::WATCHDOG, only: None, known_failing: None }
    }

    /// The same case, allowed to take so long.
    pub const fn watchdog(self, watchdog: Duration) -> Self {
        Self { watchdog, ..self }
    }

    /// The same case, run for this context only, since it is about something else: this.
    pub const fn only(self, context: &'static str, about: &'static str) -> Self {
        Self { only: Some((context, about)), ..self }
    }

    /// The same case, known to fail, and why.
    pub const fn known_failing(self, why: &'static str) -> Self {
        Self { known_failing: Some(why), ..self }
    }
}

/// A list of cases, each a function that is its name.
#[macro_export]
macro_rules! cases {
    ($($($path:ident)::+),* $(,)?) => {
        &[$($crate::runner::Case::new($crate::last_name!($($path)::+), $($path)::+)),*]
    };
}

/// The last name of a path.
#[doc(hidden)]
#[macro_export]
macro_rules! last_name {
    ($name:ident) => { stringify!($name) };
    ($first:ident :: $($rest:ident)::+) => { $crate::last_name!($($rest)::+) };
}

/// Why nothing is forked where [`is_emulated`].
pub const CANNOT_FORK: &str = "a process cannot be forked here: the emulator has a thread in it";

/// What a case is about: one context, and a directory to itself.
#[derive(Debug)]
pub struct Subject {
    /// Start method and transport, such as `"exec+pipe"`.
    pub context: String,
    /// An empty directory that goes away after the case.
    pub dir: PathBuf,
}

impl Subject {
    /// A pool's builder, with the context set.
    ///
    /// # Panics
    /// If this program does not know the context.
    pub fn builder(&self) -> Builder {
        Executor::builder().context(context::named(&self.context))
    }

    /// A pool's builder, with the context set, whose transport carries frames of so many bytes.
    ///
    /// # Panics
    /// If this program does not know the context.
    pub fn builder_of_frames(&self, frame_max: usize) -> Builder {
        let context = context::named(&self.context);
        Executor::builder().context(match self.transport() {
            "ipc" => context.transport(Ipc::new().frame_max(frame_max)),
            "shm" => context.transport(Shm::new().frame_max(frame_max)),
            _ => context.transport(Pipe::new().frame_max(frame_max)),
        })
    }

    /// The name of the start method.
    pub fn start_method(&self) -> &str {
        self.names().0
    }

    /// The name of the transport.
    pub fn transport(&self) -> &str {
        self.names().1
    }

    fn names(&self) -> (&str, &str) {
        self.context.split_once('+').expect("a context's name has both")
    }

    /// What a link of the transport can do. Starts the transport's thread for a moment.
    ///
    /// # Panics
    /// If no link can be opened.
    pub fn caps(&self) -> LinkCaps {
        context::link_caps(self.transport())
    }

    /// A pool of so many workers.
    ///
    /// # Panics
    /// If it cannot be built.
    pub fn pool(&self, max_workers: usize) -> Executor {
        self.builder().max_workers(max_workers).build().expect("a pool")
    }
}

/// How a worker ends that [`kill_if_there`] has killed. (On Windows whoever kills chooses the exit code, and most choose
/// this one.)
pub const KILLED_FROM_OUTSIDE: Exit = if cfg!(windows) { Exit::Code(1) } else { Exit::Signal(9) };

/// Kills a process of this case's, whoever started it, by the system's hardest means; false if it is not there.
///
/// A process id that is no longer that of a process of the case may be anybody's: it is left alone.
pub fn kill_if_there(pid: u32) -> bool {
    leaks::sys::kill_if_there(pid)
}

/// Runs the cases, for each context that `init()` made known, and ends the program.
pub fn main(cases: &[Case]) -> ! {
    let contexts = pool_core::available();
    assert!(!contexts.is_empty(), "call `process_pool::init()` before the runner");
    main_with(&contexts, cases)
}

/// Runs the cases, for each of these contexts, and ends the program.
pub fn main_with(contexts: &[String], cases: &[Case]) -> ! {
    let all = contexts.iter().flat_map(|context| cases.iter().map(move |case| trial_of(context, case)));
    trial::main(&all.collect::<Vec<_>>())
}

/// What an emulator does not honour: the cases, and why. Where it has an answer of its own there, nothing is learnt.
const LACKING: &[(&str, &[&str])] = &[
    ("it finds the C library by a variable of the environment", &["an_environment_can_be_cleared"]),
    (
        "a process that shares its parent's memory until it is another program has a copy, so nobody hears why it is none",
        &[
            "a_folder_that_is_gone_is_named",
            "a_file_without_an_interpreter_is_no_program",
            "a_script_whose_interpreter_is_missing_is_no_program",
            "a_program_that_vanishes_after_the_pool_was_built_is_missed",
            "wherever_processes_run_out_the_error_says_so",
        ],
    ),
    (
        "a limit of the address space bounds nobody",
        &["a_worker_that_takes_too_much_memory_costs_its_call", "a_task_that_exhausts_its_memory_is_lost"],
    ),
    ("every program handles signals", &["workers_hear_signals_that_their_parent_does_not"]),
    (
        "every program has a thread more",
        &[
            "a_program_that_begins_with_init_has_room_for_descriptors",
            "a_worker_has_but_one_thread",
            "a_worker_has_pools_of_its_own_and_does_not_hand_its_invitation_on",
        ],
    ),
    (
        "the emulator needs descriptors and a thread of its own for every program, and aborts where there are none",
        &[
            "wherever_descriptors_run_out_the_error_says_so",
            "sixty_four_workers_under_a_few_processes_are_fewer_workers",
        ],
    ),
];

/// Why this case cannot be run here, if so.
fn cannot_be_played(context: &str, case: &str) -> Option<String> {
    if !is_emulated() {
        return None;
    }
    if context.starts_with("fork") {
        return Some(CANNOT_FORK.to_owned());
    }
    let (why, _) = LACKING.iter().find(|(_, cases)| cases.contains(&case))?;
    Some(format!("under the emulator {why}"))
}

/// The case, for this context.
fn trial_of<'a>(context: &'a str, case: &'a Case) -> Trial<'a> {
    let run = move |dir: &Path| (case.run)(&Subject { context: context.to_owned(), dir: dir.to_owned() });
    let elsewhere =
        |(only, about)| (only != context).then(|| format!("about {about}, not the context: run with {only}"));
    Trial {
        watchdog: case.watchdog,
        beside_the_point: case.only.and_then(elsewhere).or_else(|| cannot_be_played(context, case.name)),
        known_failing: case.known_failing,
        ..Trial::new(format!("{context}::{}", case.name), run)
    }
}
