//! The rounds: who is measured when, in which process, and what is printed of it.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::table::{Figures, Rounds, Tally, median, short};
use crate::{How, Result, Scale, Skip, WORKLOADS, Workload, about, json, markdown, meter, ours};

/// The contexts that are measured with `--quick`, where none is named: all would take more than a minute.
const QUICK: [&str; 4] = ["exec+pipe", "exec+shm", "forkserver+pipe", "forkserver+shm"];
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
        let how = How::ALL.into_iter().find(|known| known.name() == how).ok_or("no such scale")?;
        (workload.measure)(subject, Scale { how, times: times.parse()? })
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

/// Measures a part of a workload in a process of its own: some start methods find there what a pool before has
/// left behind. The workload is told of the part behind the subject, after a `#`.
pub(crate) fn apart(workload: &str, subject: &str, part: &str, scale: Scale) -> Result<Figures> {
    measure(this_program(workload, &format!("{subject}#{part}"), scale))
}

/// This program, told to measure one subject so many times as long.
fn this_program(workload: &str, subject: &str, scale: Scale) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "pool-bench".into()));
    command.args(["--measure", workload, subject, scale.how.name(), &scale.times.to_string()]);
    command
}

fn find(name: &str) -> Result<&'static Workload> {
    let found = WORKLOADS.iter().find(|workload| workload.name.eq_ignore_ascii_case(name)).copied();
    found.ok_or_else(|| format!("no such workload here: {name}").into())
}

/// Measures everything that was asked for, and prints the tables.
pub(crate) fn all(options: &Options) -> Result<()> {
    let names = options.workloads.iter().map(String::as_str);
    let workloads = match options.workloads.is_empty() {
        true => WORKLOADS.to_vec(),
        false => names.map(find).collect::<Result<Vec<_>>>()?,
    };
    // What stands in a README goes to the output, and nothing else.
    let say = |text: &str| if options.markdown { eprint!("{text}") } else { print!("{text}") };
    say(&head(options));
    let contexts = contexts(options, say);
    let perf = perf();
    match &perf {
        _ if options.quick => say("system calls are not counted with --quick\n"),
        Ok(()) => {}
        Err(why) => say(&format!("system calls are not counted: {why}\n")),
    }
    let (mut tally, mut failed, mut done) = (Tally::default(), 0, Vec::new());
    for workload in workloads {
        let mut run = Run::new(workload, &contexts, options);
        for _ in 0..options.rounds {
            run.round();
        }
        if perf.is_ok() && workload.counts_system_calls && !options.quick {
            run.count_system_calls();
        }
        let (text, found) = run.report();
        say(&text);
        tally += found;
        failed += run.failed;
        done.push((workload, run.rounds));
    }
    let Tally { missed, unmeasured } = tally;
    say(&format!(
        "\n{failed} measurements failed, {missed} musts are MISSED, {unmeasured} could not be measured\n"
    ));
    if options.markdown {
        print!("{}", markdown::table(&done, options.rounds));
    }
    if let Some(file) = &options.json {
        std::fs::write(file, json::array(&done)).map_err(|error| format!("{file}: {error}"))?;
    }
    if failed > 0 {
        return Err("not everything ran".into());
    }
    if options.strict && missed + unmeasured > 0 {
        return Err("with --strict a must that is not met is a failure".into());
    }
    Ok(())
}

/// What was measured, and where.
fn head(options: &Options) -> String {
    let mut head = format!(
        "{} interleaved rounds{}\n{}, load average {}\n{}; rustc {}; {}\n",
        options.rounds,
        if options.quick { ", quick" } else { "" },
        about::machine(),
        meter::load(),
        about::today(),
        about::RUSTC,
        about::python(),
    );
    if !cfg!(target_os = "linux") {
        head += "skipped: w5, w7, w8, the limits, and memory: they are measured on Linux only\n";
    }
    head
}

/// Those that this program knows.
fn contexts(options: &Options, say: impl Fn(&str)) -> Vec<String> {
    let known = process_pool::available();
    if options.contexts.is_empty() {
        let is_wanted = |name: &String| !options.quick || QUICK.contains(&name.as_str());
        return known.into_iter().filter(is_wanted).collect();
    }
    let (found, unknown): (Vec<_>, Vec<_>) =
        options.contexts.iter().cloned().partition(|name| known.contains(name));
    for name in unknown {
        say(&format!("skipped: {name}: this program knows {}\n", known.join(", ")));
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
        let others = workload.others.iter().filter(|name| cfg!(unix) || **name != "procspawn");
        let ours = contexts.iter().map(|context| ours::subject(context));
        let subjects: Vec<_> = others.map(|name| (*name).to_owned()).chain(ours).collect();
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
        let how = if self.options.quick { How::Quick } else { How::Full };
        let measured = measure(this_program(self.workload.name, subject, Scale { how, times: 1 }));
        if let Some((before, after)) = busy.zip(meter::busy_seconds()) {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
            let foreign = after - before - (meter::used_by_children() - own);
            self.foreign.push((foreign / (start.elapsed().as_secs_f64() * cores)).clamp(0.0, 1.0));
        }
        self.or_note(subject, measured)
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
            let count =
                |times| counted(&this_program(self.workload.name, &subject, Scale { how: How::First, times }));
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

    /// The table, with what is to be known of it; and how many musts are not met.
    fn report(&self) -> (String, Tally) {
        let mut text = format!("\n## {}\n\n", self.workload.title);
        for (subject, why) in &self.skipped {
            text += &format!("skipped: {subject}: {why}\n\n");
        }
        let (table, tally) = self.rounds.table(self.workload.cases, self.workload.goals, self.workload.yardsticks);
        text += &table;
        let most = self.foreign.iter().copied().fold(0.0, f64::max);
        let middle = |values: &[f64]| median(values.iter().copied());
        if let Some(foreign) = middle(&self.foreign) {
            let (foreign, most) = (foreign * 100.0, most * 100.0);
            text += &format!("\nOthers used {foreign:.0} % of the machine (at most {most:.0} %). ");
        }
        if let Some(processors) = middle(&self.processors) {
            text +=
                &format!("Two threads got {} processors. Load average {}.\n", short(processors), meter::load());
        }
        (text, tally)
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
