//! How many instructions the hot paths take: `cargo run --release -p pool-bench --bin count`.
//!
//! Counted by `valgrind --tool=callgrind`, so that nothing else on the machine changes the figure, and compared
//! with those in `benches/counts.txt`. What differs by more than the tolerance is a failure, in either direction:
//! a file that says too much would hide the next loss. Where there is no valgrind, or the system is another one,
//! nothing is compared, and a line says so.
//!
//! Each case runs in a process of its own, twice: once some repetitions and once none, after the same warming up.
//! What the first takes more, divided by the repetitions, is the figure; so what a start of the program takes is
//! not in it.
//!
//! When a figure has changed: if the change is meant, or another compiler came with it, and `pool-bench` finds the
//! workloads as fast as before, then write the file anew with `--renew`, and say why in the commit. Another
//! version of the compiler than the file's may differ more: it inlines at other places.

mod link;
mod machine;
mod wire;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What is counted: a name, and what repeats it so often.
struct Case {
    name: &'static str,
    repeat: fn(usize),
}

const CASES: &[Case] = &[
    Case { name: "machine: a call", repeat: machine::calls },
    Case { name: "machine: 1000 calls", repeat: machine::batches },
    Case { name: "machine: 64 calls, half of them stolen", repeat: machine::steals },
    Case { name: "machine: a worker lost, with 8 calls", repeat: machine::losses },
    Case { name: "wire: a call of a number", repeat: wire::numbers },
    Case { name: "wire: a call of texts and numbers", repeat: wire::records },
    Case { name: "frames: 64 out", repeat: link::out },
    Case { name: "frames: 64 in", repeat: link::within },
];

const REPETITIONS: usize = 200;
/// The kind of system that the file is of.
const IS_KNOWN: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/counts.txt");
/// How much a figure may differ, with the compiler of the file or another.
const TOLERANCE: [f64; 2] = [0.05, 0.15];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--repeat", name, times] => repeat(name, times),
        [] => compare(),
        ["--renew"] => renew(),
        _ => Err("usage: count [--renew]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("count: {why}");
            ExitCode::FAILURE
        }
    }
}

fn repeat(name: &str, times: &str) -> Result<()> {
    let case = CASES.iter().find(|case| case.name == name).ok_or("no such case")?;
    (case.repeat)(times.parse()?);
    Ok(())
}

/// Why nothing can be counted here, if that is so.
fn missing() -> Option<&'static str> {
    if cfg!(debug_assertions) {
        return Some("this program was built without --release");
    }
    let valgrind = Command::new("valgrind").arg("--version").output();
    (!valgrind.is_ok_and(|output| output.status.success())).then_some("there is no valgrind")
}

fn compare() -> Result<()> {
    if let Some(why) = missing() {
        println!("skipped: {why}");
        return Ok(());
    }
    let text = std::fs::read_to_string(FILE)?;
    let known = Counts::read(&text)?;
    let same_compiler = known.compiler == minor(env!("BENCH_RUSTC"));
    let tolerance = TOLERANCE[usize::from(!same_compiler)];
    println!("instructions; rustc {}, file {}: {:.0} %", env!("BENCH_RUSTC"), known.compiler, tolerance * 100.0);
    let mut wrong = 0;
    for case in CASES {
        let count = count(case)?;
        let verdict = match known.of.get(case.name) {
            _ if !IS_KNOWN => "not compared: the file is of Linux on x86-64".to_owned(),
            None => {
                wrong += 1;
                "NOT IN THE FILE".to_owned()
            }
            Some(known) => {
                let is_off = differs(count, *known, tolerance);
                wrong += usize::from(is_off);
                let percent = (count as f64 / *known as f64 - 1.0) * 100.0;
                format!("{known} in the file, {percent:+.1} %{}", if is_off { ": CHANGED" } else { "" })
            }
        };
        println!("{}: {count} ({verdict})", case.name);
    }
    match wrong {
        0 => Ok(()),
        _ => Err(format!("{wrong} have changed: benches/src/bin/count/main.rs says what to do").into()),
    }
}

fn differs(count: u64, known: u64, tolerance: f64) -> bool {
    (count as f64 - known as f64).abs() > known as f64 * tolerance
}

fn renew() -> Result<()> {
    if let Some(why) = missing() {
        return Err(why.into());
    }
    let mut text =
        "# Instructions, counted by `cargo run --release -p pool-bench --bin count -- --renew`.\n".to_owned();
    text += &format!("rustc = {}\n", minor(env!("BENCH_RUSTC")));
    for case in CASES {
        text += &format!("{} = {}\n", case.name, count(case)?);
    }
    print!("{text}");
    Ok(std::fs::write(FILE, text)?)
}

/// Instructions for one repetition.
fn count(case: &Case) -> Result<u64> {
    let (none, all) = (run(case, 0)?, run(case, REPETITIONS)?);
    Ok(all.saturating_sub(none) / REPETITIONS as u64)
}

fn run(case: &Case, times: usize) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--repeat", case.name, &times.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{}: {}: {said}", case.name, output.status).into());
    }
    // As in `==1234== Collected : 567890`.
    let collected = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    collected.ok_or_else(|| format!("valgrind has counted nothing: {said}").into())
}

/// What the file says.
struct Counts<'a> {
    compiler: &'a str,
    of: BTreeMap<&'a str, u64>,
}

impl<'a> Counts<'a> {
    fn read(text: &'a str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let mut all: BTreeMap<_, _> = lines.filter_map(|line| line.split_once(" = ")).collect();
        let compiler = all.remove("rustc").ok_or("the file does not say with which compiler it was made")?;
        let of = all.into_iter().map(|(name, count)| Ok((name, count.parse()?))).collect::<Result<_>>()?;
        Ok(Self { compiler, of })
    }
}

/// `1.95` of `1.95.0`.
fn minor(version: &str) -> &str {
    version.rsplit_once('.').map_or(version, |(minor, _)| minor)
}

#[cfg(test)]
mod tests {
    use super::{CASES, Counts, FILE, differs, minor};

    #[test]
    fn the_file_has_every_case_and_no_other() {
        let text = std::fs::read_to_string(FILE).unwrap();
        let mut cases: Vec<_> = CASES.iter().map(|case| case.name).collect();
        cases.sort_unstable();
        assert_eq!(Counts::read(&text).unwrap().of.into_keys().collect::<Vec<_>>(), cases);
    }

    #[test]
    fn a_change_beyond_the_tolerance_is_one_in_either_direction() {
        let is_one = [940, 950, 1000, 1050, 1060].map(|count| differs(count, 1000, 0.05));
        assert_eq!(is_one, [true, false, false, false, true]);
        assert_eq!(minor("1.95.0"), "1.95");
    }

    /// That it does what its name says, it checks itself.
    #[test]
    fn every_case_can_be_repeated() {
        CASES.iter().for_each(|case| (case.repeat)(3));
    }
}
