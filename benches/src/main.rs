//! Side-by-side measurements: `cargo run --release -p pool-bench`.
//!
//! Every subject runs every workload in each round, one after the other, and the median of the rounds counts,
//! with its ratio to CPython's in the same round: a machine's speed drifts, ratios hold. Two workers, calls that
//! do nothing.
//!
//! - *round trip*: one caller submits a call, waits for its result, and submits the next; µs per call.
//! - *calls/s*: all calls are submitted, then all results are asked for.
//! - *workers up*: see `starts`.
//!
//! What is missing on a machine (a `python3`, say) is left out of the table, with the reason.

mod cpython;
mod ours;
#[cfg(unix)]
mod spawned;
#[cfg(target_os = "linux")]
mod starts;
#[cfg(target_os = "linux")]
mod sys;

use std::process::ExitCode;

/// One subject's figures of one round.
#[derive(Clone, Copy, Debug)]
struct Figures {
    round_trip_us: f64,
    calls_per_s: f64,
}

struct Subject {
    name: &'static str,
    run: fn() -> Result<Figures, String>,
}

const WORKERS: usize = 2;

fn main() -> ExitCode {
    process_pool::init();
    #[cfg(unix)]
    procspawn::init();

    let args: Vec<String> = std::env::args().skip(1).collect();
    #[cfg(target_os = "linux")]
    if let Some(done) = starts::main(&args) {
        return finish(done);
    }
    let rounds = match rounds(args) {
        Ok(rounds) => rounds,
        Err(why) => {
            eprintln!("pool-bench: {why}\nusage: pool-bench [--rounds N]");
            return ExitCode::from(2);
        }
    };
    let subjects = [
        Subject { name: "cpython", run: cpython::run },
        Subject { name: "ours/pipe+exec", run: ours::run },
        #[cfg(unix)]
        Subject { name: "procspawn", run: spawned::run },
    ];

    println!("{WORKERS} workers, no-op calls, medians of {rounds} interleaved rounds");
    println!("cpython: {}", cpython::version().unwrap_or_else(|why| why));
    let mut figures: Vec<Vec<Figures>> = vec![Vec::new(); subjects.len()];
    for _ in 0..rounds {
        for (subject, figures) in subjects.iter().zip(&mut figures) {
            match (subject.run)() {
                Ok(round) => figures.push(round),
                Err(why) => eprintln!("{}: {why}", subject.name),
            }
        }
    }
    print_table(&subjects, &figures);
    #[cfg(target_os = "linux")]
    return finish(starts::print_table(rounds));
    #[cfg(not(target_os = "linux"))]
    {
        println!("\nstarts are measured on Linux only");
        ExitCode::SUCCESS
    }
}

#[cfg(target_os = "linux")]
fn finish(done: Result<(), Box<dyn std::error::Error>>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("pool-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn rounds(args: Vec<String>) -> Result<usize, String> {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(5),
        ["--rounds", n] => match n.parse() {
            Ok(n) if n > 0 => Ok(n),
            _ => Err(format!("--rounds takes a whole number from 1, not `{n}`")),
        },
        _ => Err(format!("unknown arguments: {}", args.join(" "))),
    }
}

fn print_table(subjects: &[Subject], figures: &[Vec<Figures>]) {
    println!("\n| subject | round trip, µs | × CPython's time | calls/s | × CPython's |");
    println!("|---|---:|---:|---:|---:|");
    let base = &figures[0];
    for (subject, rounds) in subjects.iter().zip(figures) {
        if rounds.is_empty() {
            continue;
        }
        let ratio = |of: fn(&Figures) -> f64| {
            let ratios = rounds.iter().zip(base).map(|(ours, base)| of(ours) / of(base));
            median(ratios).map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.3}"))
        };
        let value = |of: fn(&Figures) -> f64| median(rounds.iter().map(of)).unwrap_or(f64::NAN);
        println!(
            "| {} | {:.1} | {} | {:.0} | {} |",
            subject.name,
            value(|round| round.round_trip_us),
            ratio(|round| round.round_trip_us),
            value(|round| round.calls_per_s),
            ratio(|round| round.calls_per_s),
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
