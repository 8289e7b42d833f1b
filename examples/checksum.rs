//! Prints the SHA-256 of every file under the given directories, as `sha256sum` would, from several processes.
//!
//! ```sh
//! cargo run --release --example checksum -- .
//! ```
//!
//! This process walks the directories and prints; workers read and hash. Only paths travel to a worker, and
//! only digits come back. A file that cannot be read, or whose worker dies, is named at the end.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, IsTerminal, StdoutLock, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use process_pool::error::{BuildError, SubmitError, TaskError};
use process_pool::{Context, Executor, available};
use sha2::{Digest, Sha256};

const HELP: &str = "\
Prints the SHA-256 of files, and of all files in directories, in the format of sha256sum.

Usage: checksum [OPTION]... PATH...

Options:
  --jobs N        use N worker processes, from 1; by default as many as can run at once here
  --context NAME  how workers are started and spoken to, such as exec+pipe
  --help          print this text

A symbolic link is followed if it is given as PATH, but not if it is found in a directory.
Exit code: 0 if every file was read, 1 if not, 2 if the options are wrong.
";

fn main() -> ExitCode {
    // First: in a worker this does not return. What stands before it runs in each worker too.
    process_pool::init();

    match run() {
        Ok(unread) => {
            for line in &unread {
                eprintln!("checksum: {line}");
            }
            if unread.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        // Whoever reads the lines has seen enough, as in `checksum . | head`.
        Err(Stop::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Stop::Output(error)) => {
            eprintln!("checksum: cannot write: {error}");
            ExitCode::FAILURE
        }
        Err(Stop::Pool(error)) => {
            eprintln!("checksum: {error}");
            ExitCode::FAILURE
        }
        Err(Stop::Usage(wrong)) => {
            eprintln!("checksum: {wrong}");
            ExitCode::from(2)
        }
    }
}

/// Why the program ends early.
enum Stop {
    Usage(String),
    Output(io::Error),
    Pool(Box<dyn std::error::Error>),
}

/// Does it all, and returns a line for each path that was not read.
fn run() -> Result<Vec<String>, Stop> {
    let Some(options) = Options::parse(lexopt::Parser::from_env()).map_err(Stop::Usage)? else {
        io::stdout().write_all(HELP.as_bytes()).map_err(Stop::Output)?;
        return Ok(Vec::new());
    };
    let executor = options.executor()?;
    let unread = print_sums(&executor, options.paths);
    if unread.is_err() {
        // Nobody wants what is still under way; dropping the executor would wait for it.
        executor.kill_workers();
    }
    unread
}

/// What a worker has to say of a file: its checksum, or why it was not read. A call that returns `Err` has
/// succeeded as far as the pool is concerned; what the pool itself reports is a [`TaskError`].
type Sum = Result<String, String>;

/// Hashes one file, in a worker.
fn sha256(path: OsString) -> Sum {
    let mut hasher = Sha256::new();
    File::open(path)
        .and_then(|file| io::copy(&mut BufReader::with_capacity(BLOCK, file), &mut hasher))
        .map_err(|error| error.to_string())?;
    let mut hex = String::new();
    for byte in hasher.finalize() {
        write!(hex, "{byte:02x}").expect("a String takes everything");
    }
    Ok(hex)
}

/// Hashes files that are too small for a call each.
fn sha256_each(paths: Vec<OsString>) -> Vec<Sum> {
    paths.into_iter().map(sha256).collect()
}

/// How much is read at once, in bytes, and how much makes a batch.
const BLOCK: usize = 1 << 20;
/// The most files in a batch.
const BATCH_FILES: usize = 32;
/// The most batches under way, so that the walk does not run ahead of the workers for ever.
const AHEAD: usize = 256;

fn print_sums(executor: &Executor, paths: Vec<PathBuf>) -> Result<Vec<String>, Stop> {
    let mut files = Walk::new(paths);
    let mut under_way = VecDeque::new();
    let mut out = Output::new();
    loop {
        while under_way.len() < AHEAD
            && let Some(batch) = next_batch(&mut files)
        {
            let sums = executor.submit(sha256_each, batch.clone())?;
            out.progress.inc_length(batch.len() as u64);
            under_way.push_back((batch, sums));
        }
        let Some((batch, sums)) = under_way.pop_front() else { break };
        let sums = match sums.result() {
            Ok(sums) => sums,
            Err(error) => one_by_one(executor, &batch, &error)?,
        };
        for (path, sum) in batch.iter().zip(sums) {
            match sum {
                Ok(hex) => out.print(&hex, path).map_err(Stop::Output)?,
                Err(reason) => files.unread.push(unread(path, &reason)),
            }
            out.progress.inc(1);
        }
    }
    out.finish().map_err(Stop::Output)?;
    Ok(files.unread)
}

/// A few small files, or a large one; nothing when there are no more.
fn next_batch(files: &mut Walk) -> Option<Vec<OsString>> {
    let (mut batch, mut size) = (Vec::new(), 0);
    while batch.len() < BATCH_FILES
        && size < BLOCK as u64
        && let Some(file) = files.next()
    {
        size += file.size;
        batch.push(file.path.into_os_string());
    }
    (!batch.is_empty()).then_some(batch)
}

/// Gives each file of a batch that got lost a call of its own, so that the death of a worker costs only the
/// file it died of. The pool never runs a call twice by itself: whether that is safe, only its user knows.
fn one_by_one(executor: &Executor, batch: &[OsString], error: &TaskError) -> Result<Vec<Sum>, SubmitError> {
    if batch.len() == 1 {
        return Ok(vec![Err(error.to_string())]);
    }
    let alone = |path: &OsString| match executor.submit(sha256, path.clone())?.result() {
        Ok(sum) => Ok(sum),
        Err(error) => Ok(Err(error.to_string())),
    };
    batch.iter().map(alone).collect()
}

/// A file to hash.
struct Found {
    path: PathBuf,
    size: u64,
}

/// Finds the files under some paths: these in the order given, and what is in a directory in the order of the
/// bytes of its path. Holds the listings of the directories it is in, and not more.
struct Walk {
    paths: std::vec::IntoIter<PathBuf>,
    /// The directories from the path given down to the present one, and what is left to visit in each.
    inside: Vec<(PathBuf, std::vec::IntoIter<Entry>)>,
    /// A line for each path that was not read.
    unread: Vec<String>,
}

/// What is in a directory: a file or another directory.
struct Entry {
    name: OsString,
    is_dir: bool,
    size: u64,
}

impl Walk {
    fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths: paths.into_iter(), inside: Vec::new(), unread: Vec::new() }
    }

    /// Visits a path that was given.
    fn visit(&mut self, path: PathBuf) -> Option<Found> {
        match fs::metadata(&path) {
            Ok(is) if is.is_file() => return Some(Found { path, size: is.len() }),
            Ok(is) if is.is_dir() => self.enter(path),
            Ok(_) => self.unread.push(unread(path.as_os_str(), &"neither a file nor a directory")),
            Err(error) => self.unread.push(unread(path.as_os_str(), &error)),
        }
        None
    }

    fn enter(&mut self, directory: PathBuf) {
        match self.list(&directory) {
            Ok(entries) => self.inside.push((directory, entries.into_iter())),
            Err(error) => self.unread.push(unread(directory.as_os_str(), &error)),
        }
    }

    fn list(&mut self, directory: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(is) if is.is_file() || is.is_dir() => {
                    entries.push(Entry { name: entry.file_name(), is_dir: is.is_dir(), size: is.len() });
                }
                // A link, a socket or the like.
                Ok(_) => {}
                Err(error) => self.unread.push(unread(entry.path().as_os_str(), &error)),
            }
        }
        entries.sort_unstable_by(|a, b| a.order().cmp(b.order()));
        Ok(entries)
    }
}

impl Iterator for Walk {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let found = match self.inside.last_mut() {
                None => {
                    let path = self.paths.next()?;
                    self.visit(path)
                }
                Some((directory, entries)) => match entries.next() {
                    None => {
                        self.inside.pop();
                        None
                    }
                    Some(entry) => {
                        let path = directory.join(entry.name);
                        if !entry.is_dir {
                            return Some(Found { path, size: entry.size });
                        }
                        self.enter(path);
                        None
                    }
                },
            };
            if found.is_some() {
                return found;
            }
        }
    }
}

impl Entry {
    /// A directory's name counts with the slash that follows it in the paths of its files, so that these are
    /// visited in the order of their bytes: `a.rs` comes before `a/b.rs`.
    fn order(&self) -> impl Iterator<Item = u8> {
        self.name.as_encoded_bytes().iter().copied().chain(self.is_dir.then_some(b'/'))
    }
}

/// Standard output for the lines, standard error for a progress bar if it is a terminal.
struct Output {
    lines: BufWriter<StdoutLock<'static>>,
    progress: ProgressBar,
    is_terminal: bool,
}

impl Output {
    fn new() -> Self {
        let style = "{bar:30} {human_pos} of {human_len} files found so far, {per_sec}";
        let style = ProgressStyle::with_template(style).expect("the template is well-formed");
        // It hides itself where standard error is no terminal.
        let progress = ProgressBar::new(0).with_style(style);
        let stdout = io::stdout().lock();
        Self { is_terminal: stdout.is_terminal(), lines: BufWriter::new(stdout), progress }
    }

    fn print(&mut self, hex: &str, path: &OsStr) -> io::Result<()> {
        let (escape, path) = escaped(path);
        let line = [escape.as_bytes(), hex.as_bytes(), b"  ", &path, b"\n"].concat();
        if !self.is_terminal {
            return self.lines.write_all(&line);
        }
        // The bar may be on the same screen.
        self.progress.suspend(|| {
            self.lines.write_all(&line)?;
            self.lines.flush()
        })
    }

    fn finish(mut self) -> io::Result<()> {
        self.progress.finish_and_clear();
        self.lines.flush()
    }
}

/// The bytes of a path, with what would break a line escaped, and the mark that `sha256sum` puts before such
/// a line.
fn escaped(path: &OsStr) -> (&'static str, Cow<'_, [u8]>) {
    let bytes = path.as_encoded_bytes();
    // On Windows a backslash is what separates folders, and none of these is part of a name.
    if cfg!(windows) || !bytes.iter().any(|byte| b"\\\n\r".contains(byte)) {
        return ("", bytes.into());
    }
    let escape = |byte: &u8| match byte {
        b'\\' => b"\\\\".to_vec(),
        b'\n' => b"\\n".to_vec(),
        b'\r' => b"\\r".to_vec(),
        byte => vec![*byte],
    };
    ("\\", bytes.iter().flat_map(escape).collect())
}

fn unread(path: &OsStr, reason: &dyn std::fmt::Display) -> String {
    format!("{}: {reason}", String::from_utf8_lossy(&escaped(path).1))
}

struct Options {
    jobs: Option<NonZero<usize>>,
    context: Option<String>,
    paths: Vec<PathBuf>,
}

impl Options {
    /// `None` if help is wanted.
    fn parse(mut arguments: lexopt::Parser) -> Result<Option<Self>, String> {
        use lexopt::{Arg, ValueExt};

        const ALLOWED: &str = "allowed are --jobs N, --context NAME, --help, and then paths";
        let mut options = Self { jobs: None, context: None, paths: Vec::new() };
        while let Some(argument) = arguments.next().map_err(|error| format!("{error}: {ALLOWED}"))? {
            match argument {
                Arg::Long("jobs") => {
                    let value = arguments.value().map_err(|_| "--jobs needs a number, from 1")?;
                    let jobs = value.parse().map_err(|_| {
                        format!("--jobs {}: must be a whole number, from 1", value.to_string_lossy())
                    })?;
                    options.jobs = Some(jobs);
                }
                Arg::Long("context") => {
                    let value =
                        arguments.value().map_err(|_| format!("--context needs a name: {}", contexts()))?;
                    options.context = Some(value.to_string_lossy().into_owned());
                }
                Arg::Long("help") => return Ok(None),
                Arg::Long(name) => return Err(format!("unknown option --{name}: {ALLOWED}")),
                Arg::Short(name) => return Err(format!("unknown option -{name}: {ALLOWED}")),
                Arg::Value(path) => options.paths.push(path.into()),
            }
        }
        if options.paths.is_empty() {
            return Err("no path given: name at least one directory or file, or --help".to_owned());
        }
        Ok(Some(options))
    }

    fn executor(&self) -> Result<Executor, Stop> {
        let mut builder = Executor::builder();
        if let Some(jobs) = self.jobs {
            builder = builder.max_workers(jobs.get());
        }
        let name = self.context.as_deref().unwrap_or_default();
        let usage = |error| Stop::Usage(format!("--context {name}: {error}; {}", contexts()));
        if self.context.is_some() {
            builder = builder.context(name.parse::<Context>().map_err(usage)?);
        }
        builder.build().map_err(|error| match error {
            BuildError::Context(error) => usage(error),
            error => Stop::Pool(error.into()),
        })
    }
}

fn contexts() -> String {
    format!("this program has {}", available().join(", "))
}

impl From<SubmitError> for Stop {
    fn from(error: SubmitError) -> Self {
        Self::Pool(error.into())
    }
}
