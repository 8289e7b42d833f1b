//! The events, in the order of the table.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pool_core::error::{BreakReason, Cause, CodecStep, Exit, StartError, TaskError};
use pool_core::{RestartLimit, SubmitError};
use process_pool::Bytes;

use super::deeds::{self, Deed, Trap};
use super::scene::{self, Scene, lost, lost_by, not_carried, right, settled, works};
use super::{Event, Held, Seen, Setting, parent, sys};
use crate::gate::{Gate, PATIENCE};
use crate::processes::{is_there, parent_of};
use crate::random::Random;
use crate::runner::KILLED_FROM_OUTSIDE;

/// All of them.
pub const EVENTS: &[Event] = &[
    any("a busy worker is killed", |s| {
        let scene = Scene::begin(s)?;
        let (call, visitor) = scene.waits()?;
        sys::kill(visitor.pid)?;
        scene.end(call, lost(KILLED))
    }),
    any("the idle worker is killed", |s| {
        let scene = Scene::begin(s)?;
        sys::kill(scene.idle_worker()?)?;
        let call = scene.does(Deed::Nothing)?;
        scene.end(call, scene::works_if_known(s))
    }),
    any("all workers are killed while they are idle", all_idle),
    any("a worker is killed at random instants", random_instants),
    any("the task exits with code 0", |s| does(s, Deed::Exit(0), lost(&[Exit::Code(0)]))),
    any("the task exits with code 3", |s| does(s, Deed::Exit(3), lost(&[Exit::Code(3)]))),
    any("the task aborts", |s| does(s, Deed::Abort, lost_by(ABORTED))),
    any("the task accesses memory that is not there", |s| {
        does(s, Deed::Trespass, lost_by(&[Cause::AccessViolation]))
    }),
    Event {
        name: "the task overflows its stack",
        play: |s| does(s, Deed::OverflowStack, lost_by(OVERFLOWN)),
        unfit: |_| crate::sys::is_wine().then_some("Wine keeps a process without a stack in its debugger"),
    },
    any("the task panics", |s| {
        does(s, Deed::Panic, |outcome| match outcome {
            Err(TaskError::Panicked(panic)) if panic.message == "on purpose" => {
                Ok("panicked, with its message".into())
            }
            // Built so that a panic is an abort.
            other if cfg!(panic = "abort") => lost_by(ABORTED)(other),
            other => Err(format!("{other:?}")),
        })
    }),
    any("the initializer panics", initializer_panics),
    any("the argument cannot be encoded", unencodable),
    any("the argument cannot be decoded", |s| {
        trapped(s, Trap::CannotBeDecoded, not_carried(CodecStep::DecodeArgument))
    }),
    any("the worker crashes while it decodes the argument", |s| {
        trapped(s, Trap::KillsWhoDecodes, lost_by(ABORTED))
    }),
    any("the result cannot be encoded", |s| {
        answers(s, Trap::CannotBeEncoded, not_carried(CodecStep::EncodeResult))
    }),
    any("the result cannot be decoded by the parent", |s| {
        answers(s, Trap::CannotBeDecoded, not_carried(CodecStep::DecodeResult))
    }),
    any("64 MiB each way", |s| {
        let scene = Scene::begin(s)?;
        let call = scene.call(large)?;
        scene.end(call, |outcome| match outcome {
            Ok(output) if (output.came, output.load.len()) == (LARGE, LARGE) => Ok("right".into()),
            Ok(_) => Err("bytes are missing".into()),
            Err(error) => Err(error.to_string()),
        })
    }),
    unix("the worker is killed in the middle of a 64 MiB argument", killed_amid_argument),
    any("the worker is killed in the middle of a 64 MiB result", killed_amid_result),
    unix("the task closes every descriptor", |s| {
        let scene = Scene::begin(s)?;
        let call = scene.does(Deed::CloseAll)?;
        scene.end(call, |outcome| match outcome {
            Err(TaskError::WorkerLost(lost)) => Ok(format!("lost: {}", lost.exit)),
            // Memory is shared without any.
            Ok(_) if s.context.ends_with("+shm") => Ok("right, the next one is lost".into()),
            other => Err(format!("{other:?}")),
        })
    }),
    unix("the task leaves a daemon with all its descriptors, and exits with 0", leaves_heir),
    unix("the worker is stopped for three seconds, and goes on", stopped),
    unix("the worker is stopped before its handshake", stopped_early),
    unix("the worker has used up its memory", out_of_memory),
    Event { name: "the server that forks is killed", play: server_killed, unfit: no_server },
    any("the parent is killed", parent_killed),
];

const LARGE: usize = 64 << 20;

const KILLED: &[Exit] = &[KILLED_FROM_OUTSIDE];
const ABORTED: &[Cause] = &[Cause::Abort];
const OVERFLOWN: &[Cause] =
    if cfg!(windows) { &[Cause::StackOverflow] } else { &[Cause::Abort, Cause::AccessViolation] };

const fn any(name: &'static str, play: fn(&Setting<'_>) -> Held<Seen>) -> Event {
    Event { name, play, unfit: |_| None }
}

const fn unix(name: &'static str, play: fn(&Setting<'_>) -> Held<Seen>) -> Event {
    let unfit: fn(&Setting<'_>) -> Option<&'static str> =
        |_| if cfg!(unix) { None } else { Some("it takes signals, or what only Unix has") };
    Event { name, play, unfit }
}

fn large(argument: &mut deeds::Argument) {
    argument.load = Bytes::from(vec![7; LARGE]);
    argument.bytes = LARGE;
}

fn does(setting: &Setting<'_>, deed: Deed, judge: impl FnOnce(scene::Outcome) -> Held<String>) -> Held<Seen> {
    let scene = Scene::begin(setting)?;
    let call = scene.does(deed)?;
    scene.end(call, judge)
}

fn trapped(setting: &Setting<'_>, trap: Trap, judge: impl FnOnce(scene::Outcome) -> Held<String>) -> Held<Seen> {
    let scene = Scene::begin(setting)?;
    let call = scene.call(|argument| argument.trap = trap)?;
    scene.end(call, judge)
}

fn answers(setting: &Setting<'_>, trap: Trap, judge: impl FnOnce(scene::Outcome) -> Held<String>) -> Held<Seen> {
    let scene = Scene::begin(setting)?;
    let call = scene.call(|argument| argument.answer = trap as u8)?;
    scene.end(call, judge)
}

fn all_idle(setting: &Setting<'_>) -> Held<Seen> {
    let scene = Scene::begin(setting)?;
    let ((number, call), visitor) = scene.waits()?;
    visitor.pass();
    right(number, &settled(number, &call)?)?;
    scene.neighbour_ends()?;
    scene.pool.worker_pids().into_iter().try_for_each(|pid| {
        scene.met(pid);
        sys::kill(pid)
    })?;
    let call = scene.does(Deed::Nothing)?;
    scene.end(call, scene::works_if_known(setting))
}

/// Kills whichever worker is at hand while calls flow, at instants that a seed decides.
fn random_instants(setting: &Setting<'_>) -> Held<Seen> {
    const CALLS: u32 = 300;
    const KILLS: u32 = 20;
    // Some will be killed before they have done anything, which is no reason to give up here.
    let patient = RestartLimit { failures: KILLS + 1, ..RestartLimit::default() };
    let scene = Scene::empty(setting, |builder| builder.restart_limit(patient))?;
    let seed = seed();
    println!("{SEED}={seed}");
    let mut random = Random::new(seed);
    let (mut calls, mut kills) = (Vec::new(), 0);
    let mut pids = BTreeSet::new();
    for n in 0..CALLS {
        calls.push(scene.call(|argument| argument.bytes = random.below(100_000) as usize)?);
        if n % (CALLS / KILLS) == 0 {
            // Any instant will do, that is the point.
            std::thread::sleep(Duration::from_micros(random.below(3000)));
            let living = scene.pool.worker_pids();
            pids.extend(&living);
            if !living.is_empty() {
                let victim = living[random.below(living.len() as u64) as usize];
                // It may have been killed before, and be gone by now.
                kills += u32::from(sys::kill(victim).is_ok());
            }
        }
    }
    pids.into_iter().for_each(|pid| scene.met(pid));
    let mut losses = 0;
    for (number, call) in calls {
        match settled(number, &call)? {
            Err(TaskError::WorkerLost(_)) => losses += 1,
            outcome => right(number, &outcome)?,
        }
    }
    // A worker has one call at a time; more may be lost with it only where nobody knows which have begun.
    if losses > kills && setting.claims() {
        return Err(format!("{losses} calls were lost by {kills} kills (seed {seed})"));
    }
    scene.conclude(format!("{losses} of {CALLS} lost by {kills} kills"), 0)
}

/// In the environment: what to begin with, to see something again.
const SEED: &str = "XTESTS_SEED";

fn seed() -> u64 {
    let given = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let since = || std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    given.unwrap_or_else(|| u64::from(std::process::id()) << 32 ^ since().as_nanos() as u64)
}

fn initializer_panics(setting: &Setting<'_>) -> Held<Seen> {
    let scene = Scene::empty(setting, |builder| builder.initializer(deeds::panics, ()))?;
    let (number, call) = scene.does(Deed::Nothing)?;
    let outcome = settled(number, &call)?;
    let said = match &outcome {
        Err(TaskError::Broken(broken)) => match &*broken.reason {
            BreakReason::Initializer(failed) if failed.message.contains("not ready, on purpose") => {
                "fails, with the panic's message"
            }
            // Built so that a panic is an abort: then it is a worker that does not come up.
            BreakReason::TooManyFailures { last: StartError::Ended { .. }, .. } if cfg!(panic = "abort") => {
                "fails, with the workers' end"
            }
            other => return Err(format!("{other:?}")),
        },
        other => return Err(format!("{other:?}")),
    };
    match scene.pool.submit(deeds::act, scene.argument(|_| {})) {
        Err(SubmitError::Broken(_)) => {}
        other => return Err(format!("a broken pool takes a call: {other:?}")),
    }
    scene.close(said.to_owned(), "none".to_owned(), "broken, and says why")
}

fn unencodable(setting: &Setting<'_>) -> Held<Seen> {
    let scene = Scene::begin(setting)?;
    let argument = scene.argument(|argument| argument.trap = Trap::CannotBeEncoded);
    let call = match scene.pool.submit(deeds::act, argument) {
        Err(SubmitError::Codec(error)) if error.step == CodecStep::EncodeArgument => error.step.to_string(),
        other => return Err(format!("{other:?}")),
    };
    scene.queue()?;
    scene.conclude(call, 0)
}

/// The worker is stopped, so that the argument fills the pipe and stays there.
fn killed_amid_argument(setting: &Setting<'_>) -> Held<Seen> {
    let scene = Scene::begin(setting)?;
    let pid = scene.idle_worker()?;
    sys::stop(pid)?;
    let call = scene.call(large)?;
    sys::kill(pid)?;
    let claims = setting.claims();
    scene.end(call, move |outcome| match outcome {
        Ok(output) if output.came == LARGE => Ok("right, by another worker".into()),
        Ok(_) => Err("bytes are missing".into()),
        Err(TaskError::WorkerLost(lost)) if !claims => Ok(format!("lost: {}", lost.exit)),
        Err(error) => Err(error.to_string()),
    })
}

/// The worker is killed from within, some time after it has begun to answer.
fn killed_amid_result(setting: &Setting<'_>) -> Held<Seen> {
    const TIMES: u64 = 8;
    let scene = Scene::begin(setting)?;
    let answer = |deed: Deed| {
        scene.call(|argument| {
            argument.bytes = LARGE;
            argument.deed = deed;
        })
    };
    // How long it takes undisturbed.
    let start = Instant::now();
    let (number, call) = answer(Deed::Nothing)?;
    right(number, &settled(number, &call)?)?;
    let micros = start.elapsed().as_micros() as u64;
    let mut losses = 0;
    for n in 0..TIMES {
        let (number, call) = answer(Deed::EndSoon(micros * n / TIMES))?;
        match settled(number, &call)? {
            Ok(output) if output.load.len() == LARGE && output.load.iter().all(|byte| *byte == 7) => {}
            Ok(_) => return Err("half a result".into()),
            Err(TaskError::WorkerLost(_)) => losses += 1,
            Err(error) => return Err(error.to_string()),
        }
    }
    if losses == 0 {
        return Err("no worker was killed early enough".into());
    }
    scene.queue()?;
    // A call that comes right after a large result may be what the kill meets.
    scene.conclude(format!("{losses} of {TIMES} lost, the others right"), 1)
}

fn leaves_heir(setting: &Setting<'_>) -> Held<Seen> {
    sys::adopt();
    let path = setting.folder.join("heir");
    let start = Instant::now();
    let seen = does(setting, Deed::LeaveHeir(path.to_string_lossy().into_owned()), lost(&[Exit::Code(0)]))?;
    let took = start.elapsed();
    let heir = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let heir: u32 = heir.parse().map_err(|_| format!("no process id: {heir}"))?;
    if setting.start_method() == "exec" {
        if !is_there(heir) {
            return Err("the daemon has ended before".into());
        }
        sys::kill(heir)?;
    }
    // Where a server forks, it has ended the daemon with the worker, or is about to.
    scene::all_gone(&BTreeSet::from([heir]), Duration::from_secs(5))?;
    sys::bury()?;
    if took > Duration::from_secs(10) { Err(format!("the daemon was waited for: {took:?}")) } else { Ok(seen) }
}

fn stopped(setting: &Setting<'_>) -> Held<Seen> {
    let scene = Scene::begin(setting)?;
    let ((number, call), visitor) = scene.waits()?;
    let pid = visitor.pid;
    sys::stop(pid)?;
    scene.queue()?;
    scene.release();
    visitor.pass();
    // What is looked at is three seconds without a sign of life.
    if call.wait_timeout(Duration::from_secs(3)) {
        return Err("a stopped worker has answered".into());
    }
    sys::go_on(pid)?;
    works(settled(number, &call)?)?;
    scene.conclude("right, once it went on".to_owned(), 0)
}

fn stopped_early(setting: &Setting<'_>) -> Held<Seen> {
    let deadline = Duration::from_secs(1);
    let scene = Scene::begin_with(setting, |builder| builder.start_deadline(deadline))?;
    parent::stop_the_next(setting.folder)?;
    let call = scene.does(Deed::Nothing)?;
    let seen = scene.end(call, |outcome| works(outcome).map(|_| "right, by another worker".to_owned()))?;
    if parent::is_to_stop(setting.folder) { Err("no worker was stopped".to_owned()) } else { Ok(seen) }
}

fn out_of_memory(setting: &Setting<'_>) -> Held<Seen> {
    let scene = Scene::begin(setting)?;
    let (call, visitor) = {
        let gate = Gate::new();
        let call = scene.call(|argument| {
            argument.gate = gate.port();
            argument.deed = Deed::Devour(512);
        })?;
        (call, gate.arrival_within(PATIENCE).ok_or("the call never began")?)
    };
    scene.met(visitor.pid);
    match sys::Group::of_little_memory(visitor.pid, 64 << 20) {
        Ok(group) => {
            visitor.pass();
            let seen = scene.end(call, lost(KILLED));
            drop(group);
            seen
        }
        // The same end, by another hand; and it is said so.
        Err(why) => {
            sys::kill(visitor.pid)?;
            let seen = scene.end(call, lost(KILLED))?;
            Ok(Seen { call: format!("{} (by hand: {why})", seen.call), ..seen })
        }
    }
}

fn no_server(setting: &Setting<'_>) -> Option<&'static str> {
    match setting.start_method() {
        "forkserver" | "fork" if cfg!(target_os = "linux") => None,
        "forkserver" | "fork" => Some("the system does not say who a process's parent is"),
        _ => Some("nobody forks for it"),
    }
}

/// Its workers die with it.
fn server_killed(setting: &Setting<'_>) -> Held<Seen> {
    sys::adopt();
    let seen = without_server(setting)?;
    sys::bury()?;
    Ok(seen)
}

fn without_server(setting: &Setting<'_>) -> Held<Seen> {
    let scene = Scene::begin(setting)?;
    let ((number, call), visitor) = scene.waits()?;
    let server = parent_of(visitor.pid).ok_or("its worker has no parent")?;
    sys::kill(server)?;
    let outcome = settled(number, &call)?;
    let end = match &outcome {
        Err(TaskError::WorkerLost(lost)) => format!("lost: {}", lost.exit),
        // The pool may have noticed first that there will be no other worker.
        Err(TaskError::Broken(_)) if setting.start_method() == "fork" => "fails with the pool".to_owned(),
        other => return Err(format!("{other:?}")),
    };
    if setting.start_method() == "forkserver" {
        // There is another server, and the neighbour was lost with the first.
        return scene.conclude(end, 1);
    }
    // What was forked at the beginning cannot be forked again.
    let is_broken = match scene.pool.submit(deeds::act, scene.argument(|_| {})) {
        Err(SubmitError::Broken(_)) => true,
        Err(_) => false,
        Ok(later) => matches!(settled(number, &later)?, Err(TaskError::Broken(_))),
    };
    if !is_broken {
        return Err("the pool takes calls that nobody can run".to_owned());
    }
    scene.close(end, "lost with it".to_owned(), "broken, and says why")
}

/// A parent with two busy workers.
fn parent_killed(setting: &Setting<'_>) -> Held<Seen> {
    let gate = Gate::new();
    sys::adopt();
    let mut process = parent::start(setting.context, gate.port())?;
    let visitors: Vec<_> = (0..parent::WORKERS).map_while(|_| gate.arrival_within(PATIENCE)).collect();
    let killed = process.kill().and_then(|()| process.wait());
    killed.map_err(|error| error.to_string())?;
    if visitors.len() < parent::WORKERS {
        return Err("its calls never began".into());
    }
    let pids = visitors.iter().map(|visitor| visitor.pid).collect();
    scene::all_gone(&pids, Duration::from_secs(1))?;
    if !visitors.iter().all(|visitor| visitor.is_gone_within(Duration::from_secs(1))) {
        return Err("a worker is left".into());
    }
    sys::bury()?;
    Ok(Seen { call: "gone".into(), neighbours: "gone".into(), pool: "gone, and its workers within 1 s".into() })
}
