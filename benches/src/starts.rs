//! W5: how long it takes until workers are up, and until they are gone. Milliseconds.
//!
//! - *first result*: from before a pool of two workers is built until it has answered its first call; the median
//!   of five pools.
//! - *64 up*: from before the pool is built until the 64th worker runs a call.
//! - *64 stop*: from the drop of that pool, whose workers are idle, until it returns. (procspawn kills them.)
//! - *large parent*: the same where the parent has 1 GiB more.
//!
//! Each subject has processes of its own, as small or as large as asked for, so that no memory or thread of
//! another one counts. Fork servers are warm: they have started a worker before.
//!
//! The limits are what the system takes for the least that can be called a worker, a process that says a byte
//! and waits: forked by a process that does nothing else, each on a request of its own that is answered with its
//! process id, or started by `posix_spawn` from this program's file. They stop when they are told to, by the end
//! of a pipe.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use process_pool::Executor;
use process_pool::spawn::ForkServer;

use crate::calls::{Pool, noop};
use crate::gate::Gate;
use crate::table::{Case, Figures, Goal, Of, at_most, median};
use crate::{Result, Scale, Workload, cpython, ours, sys};

pub(crate) const WORKLOAD: Workload = Workload {
    name: "w5",
    title: "W5: starts and stops",
    cases: &[
        Case { name: FIRST, unit: "ms" },
        Case { name: UP, unit: "ms" },
        Case { name: STOP, unit: "ms" },
        Case { name: FIRST_LARGE, unit: "ms" },
        Case { name: UP_LARGE, unit: "ms" },
        Case { name: STOP_LARGE, unit: "ms" },
    ],
    // 4, 60 and 12 ms where a bare start by `posix_spawn` takes 0.8, 50 and 5; 1, 20 and 12 where a zygote takes
    // 0.3, 6 and 5. The aims are 2, 40 and 8, and 0.5, 10 and 8.
    goals: &[
        Goal { case: FIRST, who: "+exec", must: &[at_most(5.0, SPAWN)], aim: &[at_most(2.5, SPAWN)] },
        Goal { case: UP, who: "+exec", must: &[at_most(1.2, SPAWN)], aim: &[at_most(0.8, SPAWN)] },
        Goal { case: STOP, who: "+exec", must: &[at_most(2.4, SPAWN)], aim: &[at_most(1.6, SPAWN)] },
        Goal { case: FIRST, who: "+forkserver", must: &[at_most(3.3, FORK)], aim: &[at_most(1.7, FORK)] },
        Goal { case: UP, who: "+forkserver", must: &[at_most(3.3, FORK)], aim: &[at_most(1.7, FORK)] },
        Goal { case: STOP, who: "+forkserver", must: &[at_most(2.4, FORK)], aim: &[at_most(1.6, FORK)] },
        // Flat: as far as two medians of such times are ever equal.
        Goal { case: FIRST_LARGE, who: "+exec", must: &[at_most(1.3, Of::Case(FIRST))], aim: &[] },
        Goal { case: UP_LARGE, who: "+exec", must: &[at_most(1.3, Of::Case(UP))], aim: &[] },
        Goal { case: STOP_LARGE, who: "+exec", must: &[at_most(1.3, Of::Case(STOP))], aim: &[] },
        Goal { case: FIRST_LARGE, who: "+forkserver", must: &[at_most(1.3, Of::Case(FIRST))], aim: &[] },
        Goal { case: UP_LARGE, who: "+forkserver", must: &[at_most(1.3, Of::Case(UP))], aim: &[] },
        Goal { case: STOP_LARGE, who: "+forkserver", must: &[at_most(1.3, Of::Case(STOP))], aim: &[] },
    ],
    others: &["cpython", "cpython/Pool", "procspawn", POSIX_SPAWN, ZYGOTE],
    yardsticks: &["cpython", POSIX_SPAWN],
    counts_system_calls: false,
    measure,
};

pub(crate) const POSIX_SPAWN: &str = "limit/posix_spawn";
const ZYGOTE: &str = "limit/zygote";
const SPAWN: Of = Of::Subject(POSIX_SPAWN);
const FORK: Of = Of::Subject(ZYGOTE);

const FIRST: &str = "first result";
const UP: &str = "64 up";
const STOP: &str = "64 stop";
const FIRST_LARGE: &str = "first result, large parent";
const UP_LARGE: &str = "64 up, large parent";
const STOP_LARGE: &str = "64 stop, large parent";

const WORKERS: usize = 64;
/// How much larger the large parent is, in MiB.
const LARGE: usize = 1024;

/// Measures one figure of one subject, or plays a part in that, if the arguments say so.
pub(crate) fn main(args: &[String]) -> Option<Result<()>> {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--start", subject, mib, what] => Some(start(subject, mib, what)),
        ["--ready"] => Some(ready()),
        ["--zygote"] => Some(zygote()),
        _ => None,
    }
}

fn measure(subject: &str, scale: Scale) -> Result<Figures> {
    if subject.starts_with("cpython") {
        return cpython::measure(subject, "w5", scale);
    }
    let mut figures = Figures::default();
    let large = scale.of(LARGE, LARGE / 4);
    for (mib, first, up, stop) in [(0, FIRST, UP, STOP), (large, FIRST_LARGE, UP_LARGE, STOP_LARGE)] {
        for (what, cases) in [("first", &[first][..]), ("all", &[up, stop])] {
            let output = this_program().args(["--start", subject, &mib.to_string(), what]).output()?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
            }
            let text = String::from_utf8_lossy(&output.stdout);
            for (case, ms) in cases.iter().zip(text.split_whitespace()) {
                figures.push(case, ms.parse()?);
            }
        }
    }
    Ok(figures)
}

fn start(subject: &str, mib: &str, what: &str) -> Result<()> {
    let ballast = vec![1_u8; mib.parse::<usize>()? << 20];
    let times = match (subject, what) {
        (ZYGOTE, "first") => first_of(5, || Ok(by_zygote(1)?.0))?,
        (ZYGOTE, _) => by_zygote(WORKERS).map(|(up, stop)| vec![up, stop])?,
        (POSIX_SPAWN, "first") => first_of(5, || Ok(by_posix_spawn(1)?.0))?,
        (POSIX_SPAWN, _) => by_posix_spawn(WORKERS).map(|(up, stop)| vec![up, stop])?,
        ("procspawn", "first") => {
            first_of(5, || first_result::<procspawn::Pool>(|workers| Pool::new(workers, subject)))?
        }
        ("procspawn", _) => by_pool::<procspawn::Pool>(|workers| Pool::new(workers, subject))?,
        (_, "first") => {
            let build = builds(subject)?;
            // After its first pool a process has threads.
            first_of(if is_fork(subject) { 1 } else { 5 }, || first_result(&build))?
        }
        _ => by_pool(builds(subject)?)?,
    };
    std::hint::black_box(&ballast);
    for took in times {
        println!("{}", took.as_secs_f64() * 1e3);
    }
    Ok(())
}

/// The median of so many.
fn first_of(count: usize, mut one: impl FnMut() -> Result<Duration>) -> Result<Vec<Duration>> {
    let seconds = (0..count).map(|_| Ok(one()?.as_secs_f64())).collect::<Result<Vec<_>>>()?;
    Ok(median(seconds.into_iter()).map(Duration::from_secs_f64).into_iter().collect())
}

/// Whether workers are copies of this process, which is to have one thread then, and has nothing to warm up.
fn is_fork(subject: &str) -> bool {
    subject.ends_with("+fork")
}

/// Builds pools of one context, whose fork server, if it has one, is warm and theirs.
fn builds(name: &str) -> Result<impl Fn(usize) -> Result<Executor>> {
    let (subject, server) = (name.to_owned(), ForkServer::new());
    let build = move |workers| -> Result<Executor> {
        let context = ours::context(&subject)?;
        let is_server = subject.ends_with("+forkserver");
        let context = if is_server { context.start_method(server.clone()) } else { context };
        Ok(Executor::builder().max_workers(workers).context(context).build()?)
    };
    if !is_fork(name) {
        build(1)?.submit(noop, 1)?.result()?;
    }
    Ok(build)
}

fn first_result<P: Pool>(build: impl Fn(usize) -> Result<P>) -> Result<Duration> {
    let start = Instant::now();
    let pool = build(crate::WORKERS)?;
    P::result(pool.noop(1)?)?;
    Ok(start.elapsed())
}

fn by_pool<P: Pool>(build: impl Fn(usize) -> Result<P>) -> Result<Vec<Duration>> {
    let gate = Gate::new()?;
    let folder = gate.folder()?;
    let start = Instant::now();
    let pool = build(WORKERS)?;
    let calls = (0..WORKERS).map(|_| pool.hold(folder.clone())).collect::<Result<Vec<_>>>()?;
    gate.arrivals(WORKERS)?;
    let up = start.elapsed();
    gate.open(WORKERS)?;
    for call in calls {
        P::result(call)?;
    }
    let start = Instant::now();
    drop(pool);
    Ok(vec![up, start.elapsed()])
}

/// A bare child that has said its byte.
pub(crate) fn ready_child() -> Result<Child> {
    let (mut arrivals, theirs) = std::io::pipe()?;
    let mut command = this_program();
    let child = command.arg("--ready").stdin(Stdio::piped()).stdout(theirs).spawn()?;
    // It holds the other end.
    drop(command);
    arrivals.read_exact(&mut [0])?;
    Ok(child)
}

fn by_posix_spawn(count: usize) -> Result<(Duration, Duration)> {
    let start = Instant::now();
    let (mut arrivals, theirs) = std::io::pipe()?;
    let spawn = || -> Result<Child> {
        let mut command = this_program();
        Ok(command.arg("--ready").stdin(Stdio::piped()).stdout(theirs.try_clone()?).spawn()?)
    };
    let mut children = (0..count).map(|_| spawn()).collect::<Result<Vec<_>>>()?;
    arrivals.read_exact(&mut vec![0; count])?;
    let up = start.elapsed();
    let start = Instant::now();
    children.iter_mut().for_each(|child| drop(child.stdin.take()));
    for mut child in children {
        child.wait()?;
    }
    Ok((up, start.elapsed()))
}

fn by_zygote(count: usize) -> Result<(Duration, Duration)> {
    let mut zygote = this_program().arg("--zygote").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let ends: Option<(ChildStdin, ChildStdout)> = zygote.stdin.take().zip(zygote.stdout.take());
    let (mut requests, mut answers) = ends.ok_or("no pipes")?;
    // It is up.
    answers.read_exact(&mut [0])?;
    let start = Instant::now();
    for _ in 0..count {
        requests.write_all(&[1])?;
    }
    // For each worker its process id from the zygote, and a byte from itself.
    answers.read_exact(&mut vec![0; count * 5])?;
    let up = start.elapsed();
    let start = Instant::now();
    drop(requests);
    // Its end: when the last of them has ended.
    answers.read_to_end(&mut Vec::new())?;
    let stop = start.elapsed();
    zygote.wait()?;
    Ok((up, stop))
}

fn zygote() -> Result<()> {
    let mut answers = File::from(rustix::io::dup(std::io::stdout())?);
    let mut requests = File::from(rustix::io::dup(std::io::stdin())?);
    answers.write_all(&[1])?;
    // Its end, which comes when this process has ended, lets the children go.
    let (mut wait, hold) = std::io::pipe()?;
    let mut hold = Some(hold);

    while requests.read_exact(&mut [0]).is_ok() {
        let worker = || {
            drop(hold.take());
            answers.write_all(&[1]).expect("the parent is there");
            wait.read_to_end(&mut Vec::new()).expect("it ends");
        };
        let pid = sys::fork(worker);
        answers.write_all(&pid.to_ne_bytes())?;
    }
    Ok(())
}

/// The least that can be called a worker.
fn ready() -> Result<()> {
    std::io::stdout().write_all(&[1])?;
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn this_program() -> Command {
    Command::new("/proc/self/exe")
}
