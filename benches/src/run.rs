//! The rounds: who is measured when, in which process, and what is printed of it.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::table::{Figures, Rounds, Tally, median, short};
use crate::{Result, Scale, Skip, WORKLOADS, Workload, cpython, meter};

/// The contexts that are measured where none is named.
const USUAL: [&str; 4] = ["exec+pipe", "exec+shm", "forkserver+pipe", "forkserver+shm"];
/// What hangs is a failure: the longest measurement takes a tenth of that.
const DEADLINE: Duration = Duration::from_secs(300);

/// Measures one subject, if the arguments say so, and prints its figures.
pub(crate) fn part(args: &[String]) -> Option<Result<()>> {
    let ["--measure", workload, subject, how, times] = args.iter().map(String::as_str).collect::<Vec<_>>()[..]
    else {
        return None;
    };
    let measure = || {
        let workload = find(workload)?;
        (workload.measure)(subject, Scale { quick: how == "quick", times: times.parse()? })
    };
    Some(match measure() {
        Ok(figures) => {
            figures.print();
            Ok(())
        }
        Err(error) if error.is::<Skip>() => {
            println!("skip {error}");
            Ok(())
        }
        Err(error) => Err(error),
    })
}

fn find(name: &str) -> Result<&'static Workload> {
    let found = WORKLOADS.iter().find(|workload| workload.name == name).copied();
    found.ok_or_else(|| format!("no such workload here: {name}").into())
}

/// Measures everything that was asked for, and prints the tables.
pub(crate) fn all(options: &Options) -> Result<()> {
    let names = options.workloads.iter().map(String::as_str);
    let workloads = match options.workloads.is_empty() {
        true => WORKLOADS.to_vec(),
        false => names.map(find).collect::<Result<Vec<_>>>()?,
    };
    let contexts = contexts(options);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!("{} interleaved rounds{}", options.rounds, if options.quick { ", quick" } else { "" });
    println!(
        "{} {}, {cores} processors, load average {}",
        std::env::consts::OS,
        std::env::consts::ARCH,
        meter::load()
    );
    println!("cpython: {}", cpython::version().unwrap_or_else(|why| why.to_string()));
    if !cfg!(target_os = "linux") {
        println!("skipped: w5, w7, w8, the limits, and memory: they are measured on Linux only");
    }
    let perf = perf();
    if let Err(why) = &perf {
        println!("system calls are not counted: {why}");
    }
    let (mut tally, mut failed) = (Tally::default(), 0);
    for workload in workloads {
        let mut run = Run::new(workload, &contexts, options);
        for _ in 0..options.rounds {
            run.round();
        }
        if perf.is_ok() && workload.counts_system_calls && !options.quick {
            run.count_system_calls();
        }
        tally += run.print();
        failed += run.failed;
    }
    let Tally { missed, unmeasured } = tally;
    println!("\n{failed} measurements failed, {missed} musts are MISSED, {unmeasured} could not be measured");
    if failed > 0 {
        return Err("not everything ran".into());
    }
    if options.strict && missed + unmeasured > 0 {
        return Err("with --strict a must that is not met is a failure".into());
    }
    Ok(())
}

/// Those that this program knows.
fn contexts(options: &Options) -> Vec<String> {
    let wanted = match options.contexts.is_empty() {
        true => USUAL.map(str::to_owned).to_vec(),
        false => options.contexts.clone(),
    };
    let known = process_pool::available();
    let (found, unknown): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|name| known.contains(name));
    for name in unknown {
        println!("skipped: {name}: this program knows {}", known.join(", "));
    }
    found
}

/// One workload under way.
struct Run<'a> {
    workload: &'static Workload,
    options: &'a Options,
    rounds: Rounds,
    /// Why a subject is left out.
    skipped: BTreeMap<String, String>,
    failed: usize,
    /// The share of the machine that others used, and the processors that two threads got, by round.
    foreign: Vec<f64>,
    processors: Vec<f64>,
}

impl<'a> Run<'a> {
    fn new(workload: &'static Workload, contexts: &[String], options: &'a Options) -> Self {
        // The table of starts is of all of them.
        let all = workload.name == "w5" && options.contexts.is_empty() && !options.quick;
        let contexts = if all { process_pool::available() } else { contexts.to_vec() };
        let others = workload.others.iter().filter(|name| cfg!(unix) || **name != "procspawn");
        let subjects: Vec<_> = others.map(|name| (*name).to_owned()).chain(contexts).collect();
        let figures = vec![Vec::new(); subjects.len()];
        Self {
            workload,
            options,
            rounds: Rounds { subjects, figures, system_calls: BTreeMap::new() },
            skipped: BTreeMap::new(),
            failed: 0,
            foreign: Vec::new(),
            processors: Vec::new(),
        }
    }

    fn round(&mut self) {
        self.processors.push(meter::two_processors());
        for at in 0..self.rounds.subjects.len() {
            let subject = self.rounds.subjects[at].clone();
            let figures = if self.skipped.contains_key(&subject) { None } else { self.one(&subject) };
            self.rounds.figures[at].push(figures);
        }
    }

    fn one(&mut self, subject: &str) -> Option<Figures> {
        let (start, busy, own) = (Instant::now(), meter::busy_seconds(), meter::used_by_children());
        let measured = measure(self.this_program(subject, 1));
        if let Some((before, after)) = busy.zip(meter::busy_seconds()) {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
            let foreign = after - before - (meter::used_by_children() - own);
            self.foreign.push((foreign / (start.elapsed().as_secs_f64() * cores)).clamp(0.0, 1.0));
        }
        self.or_note(subject, measured)
    }

    /// This program, told to measure one subject so many times as long.
    fn this_program(&self, subject: &str, times: usize) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "pool-bench".into()));
        let how = if self.options.quick { "quick" } else { "full" };
        command.args(["--measure", self.workload.name, subject, how, &times.to_string()]);
        command
    }

    fn or_note(&mut self, subject: &str, measured: Result<Figures>) -> Option<Figures> {
        match measured {
            Ok(figures) if self.workload.cases.iter().any(|case| figures.0.contains_key(case.name)) => {
                return Some(figures);
            }
            Ok(_) => {
                self.failed += 1;
                eprintln!("{}: {subject}: FAILED: it has measured nothing", self.workload.name);
            }
            Err(why) if why.is::<Skip>() => {
                self.skipped.insert(subject.to_owned(), why.to_string());
            }
            Err(why) => {
                self.failed += 1;
                eprintln!("{}: {subject}: FAILED: {}", self.workload.name, why.to_string().trim());
            }
        }
        None
    }

    /// For each call: what is more in a run of three times as many calls, divided by the calls that are more.
    fn count_system_calls(&mut self) {
        for subject in self.rounds.subjects.clone() {
            if self.skipped.contains_key(&subject) || subject.starts_with("limit/") {
                continue;
            }
            let count = |times| counted(&self.this_program(&subject, times));
            match count(1).and_then(|short| Ok((short, count(3)?))) {
                Ok((short, long)) if long.1 > short.1 => {
                    self.rounds.system_calls.insert(subject, (long.0 - short.0) / (long.1 - short.1));
                }
                Ok(_) => eprintln!("{}: {subject}: its system calls were not counted", self.workload.name),
                Err(why) => {
                    eprintln!("{}: {subject}: its system calls were not counted: {why}", self.workload.name)
                }
            }
        }
    }

    /// Prints the tables; returns how many musts are not met.
    fn print(&self) -> Tally {
        println!("\n## {}\n", self.workload.title);
        for (subject, why) in &self.skipped {
            println!("skipped: {subject}: {why}\n");
        }
        let tally = self.rounds.print(self.workload.cases, self.workload.goals, self.workload.yardsticks);
        let most = self.foreign.iter().copied().fold(0.0, f64::max);
        let middle = |values: &[f64]| median(values.iter().copied());
        if let Some(foreign) = middle(&self.foreign) {
            let (foreign, most) = (foreign * 100.0, most * 100.0);
            print!("\nOthers used {foreign:.0} % of the machine (at most {most:.0} %). ");
        }
        if let Some(processors) = middle(&self.processors) {
            println!("Two threads got {} processors. Load average {}.", short(processors), meter::load());
        }
        #[cfg(target_os = "linux")]
        if self.workload.name == "w5" {
            crate::starts::print_table(&self.rounds);
        }
        tally
    }
}

/// Runs a measurement, which must end, and reads its figures.
fn measure(mut command: Command) -> Result<Figures> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        // What a worker holds open beyond its parent's end would be a fault of its own, found by the deadline.
        let text = stdout.map(read_all).unwrap_or_default();
        // Nobody waits for it any more after the deadline.
        let _ = sender.send(text);
    });
    let complaints = std::thread::spawn(move || stderr.map(read_all).unwrap_or_default());
    let text = match receiver.recv_timeout(DEADLINE) {
        Ok(text) => text,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            child.kill()?;
            child.wait()?;
            return Err(format!("it has not ended after {} s", DEADLINE.as_secs()).into());
        }
    };
    let status = child.wait()?;
    if let Some(why) = text.lines().find_map(|line| line.strip_prefix("skip ")) {
        return Err(crate::skip(why));
    }
    if !status.success() {
        return Err(format!("{status}: {}", complaints.join().unwrap_or_default().trim()).into());
    }
    Ok(Figures::read(&text))
}

fn read_all(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    // What came until then is all there is.
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

const COUNT: [&str; 4] = ["stat", "-x,", "-e", "raw_syscalls:sys_enter"];

/// Whether `perf` can count system calls here.
fn perf() -> Result<()> {
    let output = Command::new("perf").args(COUNT).args(["--", "true"]).output();
    let output = output.map_err(|error| format!("no perf: {error}"))?;
    match counter(&String::from_utf8_lossy(&output.stderr)) {
        Some(_) => Ok(()),
        None => Err("perf cannot trace them".into()),
    }
}

/// How many system calls a measurement made, in all its processes, and how many calls.
fn counted(command: &Command) -> Result<(f64, f64)> {
    let output =
        Command::new("perf").args(COUNT).arg("--").arg(command.get_program()).args(command.get_args()).output()?;
    let figures = Figures::read(&String::from_utf8_lossy(&output.stdout));
    let system_calls = counter(&String::from_utf8_lossy(&output.stderr)).ok_or("perf has counted nothing")?;
    Ok((system_calls, *figures.0.get("calls made").ok_or("it has not said how many calls it made")?))
}

fn counter(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains("raw_syscalls:sys_enter"))?;
    line.split(',').next()?.parse().ok()
}
