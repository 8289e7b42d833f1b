//! Shows what a process pool survives: makes every event of the crash matrix happen, each to a pool of its own, and
//! says what became of the call, of the calls beside it, and of the pool.
//!
//! ```sh
//! cargo run --release -p xtests --example survive
//! ```
//!
//! Each event has a process to itself, so that one that hangs can be ended, and is named.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use xtests::crash::{self, EVENTS, Event, FOLDER, Seen, Setting};

const HELP: &str = "\
Makes happen to process pools what may happen to them, and shows what becomes of it.

Usage: survive [OPTION]...

Options:
  --context NAME  how workers are started and spoken to, such as exec+pipe (the default), or all
  --help          print this text

Exit code: 0 if all that is promised was held, 1 if not, 2 if the options are wrong.
";

/// After this long an event hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Given to the process that one event has to itself, with the event's number.
const PLAY: &str = "--play";

fn main() -> ExitCode {
    crash::attend();
    process_pool::init();
    crash::become_parent();
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => show(&["exec+pipe".to_owned()]),
        ["--context", "all"] => show(&process_pool::available()),
        ["--context", name] => match name.parse::<process_pool::Context>() {
            Ok(_) => show(&[name.to_owned()]),
            Err(error) => usage(&error.to_string()),
        },
        ["--help"] => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        [PLAY, context, number] => match number.parse().ok().and_then(|number: usize| EVENTS.get(number)) {
            Some(event) => play(event, context),
            None => usage("no such event"),
        },
        ["--context"] => usage("--context takes a name"),
        [first, ..] => usage(&format!("unknown option {first:?}")),
    }
}

fn usage(wrong: &str) -> ExitCode {
    eprintln!("survive: {wrong}\n\n{HELP}");
    ExitCode::from(2)
}

/// One event, in this process; the result in one line.
fn play(event: &Event, context: &str) -> ExitCode {
    let folder = std::env::var_os(FOLDER).unwrap_or_else(|| OsString::from("."));
    let setting = Setting { context, folder: folder.as_ref() };
    match (event.play)(&setting) {
        Ok(Seen { call, neighbours, pool }) => {
            println!("{call}\t{neighbours}\t{pool}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// How an event went.
enum Went {
    Held(Seen),
    Not(String),
    Unfit(&'static str),
}

fn show(contexts: &[String]) -> ExitCode {
    let start = Instant::now();
    let (mut held, mut not_held, mut unfit) = (0, 0, 0);
    for context in contexts {
        println!("{context}\n\n{}", row("what happens", "its call", "the calls beside it", "the pool"));
        for (number, event) in EVENTS.iter().enumerate() {
            let line = match one(number, event, context) {
                Ok(Went::Held(seen)) => {
                    held += 1;
                    row(event.name, &seen.call, &seen.neighbours, &seen.pool)
                }
                Ok(Went::Unfit(why)) => {
                    unfit += 1;
                    format!("{:<68} does not apply: {why}", event.name)
                }
                Ok(Went::Not(why)) => {
                    not_held += 1;
                    format!("{:<68} NOT HELD: {why}", event.name)
                }
                Err(error) => {
                    not_held += 1;
                    format!("{:<68} cannot be shown: {error}", event.name)
                }
            };
            println!("{line}");
            // Row by row also where the output is a file; whoever does not read it has seen enough.
            if io::stdout().flush().is_err() {
                return ExitCode::FAILURE;
            }
        }
        println!();
    }
    let took = start.elapsed().as_secs_f64();
    println!("{held} held, {not_held} not held, {unfit} do not apply; {took:.1} s");
    if not_held == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn row(event: &str, call: &str, neighbours: &str, pool: &str) -> String {
    format!("{event:<68} {call:<42} {neighbours:<20} {pool}").trim_end().to_owned()
}

fn one(number: usize, event: &Event, context: &str) -> io::Result<Went> {
    let folder = tempfile::Builder::new().prefix("survive-").tempdir()?;
    if let Some(why) = (event.unfit)(&Setting { context, folder: folder.path() }) {
        return Ok(Went::Unfit(why));
    }
    // What workers and panics print is not for the table.
    let mut process = Command::new(std::env::current_exe()?)
        .args([PLAY, context, &number.to_string()])
        .env(FOLDER, folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let Some(succeeded) = wait(&mut process)? else {
        return Ok(Went::Not(format!("hangs for {} s", PATIENCE.as_secs())));
    };
    let mut text = String::new();
    if let Some(mut stdout) = process.stdout.take() {
        stdout.read_to_string(&mut text)?;
    }
    let line = text.lines().last().unwrap_or("it ended without a word");
    let mut fields = line.split('\t').map(str::to_owned);
    Ok(match (succeeded, fields.next(), fields.next(), fields.next()) {
        (true, Some(call), Some(neighbours), Some(pool)) => Went::Held(Seen { call, neighbours, pool }),
        _ => Went::Not(line.to_owned()),
    })
}

/// Whether it ended with success; `None` if it had to be killed.
fn wait(process: &mut Child) -> io::Result<Option<bool>> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = process.try_wait()? {
            return Ok(Some(status.success()));
        }
        // To look now and then will do: nothing depends on when an end is seen.
        std::thread::sleep(Duration::from_millis(2));
    }
    process.kill()?;
    process.wait()?;
    Ok(None)
}
