//! How long it takes until many workers are up.
//!
//! The clock runs from before the pool is built until the 64th worker runs a call. Each subject has a process of
//! its own, as small or as large as asked for, so that no memory or thread of another one counts. Fork servers
//! are warm: they have started a worker before.
//!
//! The limits are what the system takes for the least that can be called a worker, a process that says a byte and
//! waits: forked by a process that does nothing else, each on a request of its own that is answered with its
//! process id, or started by `posix_spawn` from this program's file.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use process_pool::spawn::ForkServer;
use process_pool::{Builder, Context, Executor, TaskHandle};

use crate::{median, sys};

const WORKERS: usize = 64;
/// How large the parent is, in MiB, beside what it needs anyhow.
const SIZES: [usize; 2] = [0, 1024];
const ZYGOTE: &str = "limit/zygote";
const POSIX_SPAWN: &str = "limit/posix_spawn";

/// Measures one subject, or plays a part in that, if the arguments say so.
pub(crate) fn main(args: &[String]) -> Option<Result<(), Box<dyn Error>>> {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--start", subject, mib] => Some(start(subject, mib)),
        ["--ready"] => Some(ready()),
        ["--zygote"] => Some(zygote()),
        _ => None,
    }
}

/// Measures all subjects and prints a table.
pub(crate) fn print_table(rounds: usize) -> Result<(), Box<dyn Error>> {
    let mut subjects = vec![ZYGOTE.to_owned(), POSIX_SPAWN.to_owned()];
    subjects.extend(process_pool::available());
    let mut times = vec![vec![Vec::new(); SIZES.len()]; subjects.len()];
    for _ in 0..rounds {
        for (subject, times) in subjects.iter().zip(&mut times) {
            for (mib, times) in SIZES.iter().zip(times) {
                let output = this_program().args(["--start", subject, &mib.to_string()]).output()?;
                let text = String::from_utf8_lossy(&output.stdout);
                match text.trim().parse::<f64>() {
                    Ok(ms) => times.push(ms),
                    Err(_) => eprintln!("{subject}: {}", String::from_utf8_lossy(&output.stderr)),
                }
            }
        }
    }
    println!("\n{WORKERS} workers up, ms (in brackets: × {ZYGOTE} in the same round)\n");
    println!("| subject |{}", SIZES.map(|mib| format!(" parent + {mib} MiB |")).concat());
    println!("|---|{}", "---:|".repeat(SIZES.len()));
    for (subject, sizes) in subjects.iter().zip(&times) {
        let cell = |size: usize| {
            let value = median(sizes[size].iter().copied())?;
            let ratio = median(sizes[size].iter().zip(&times[0][size]).map(|(ms, limit)| ms / limit))?;
            Some(format!(" {value:.1} ({ratio:.1}) |"))
        };
        let cells = (0..SIZES.len()).map(|size| cell(size).unwrap_or_else(|| " – |".to_owned()));
        println!("| {subject} |{}", cells.collect::<String>());
    }
    Ok(())
}

fn start(subject: &str, mib: &str) -> Result<(), Box<dyn Error>> {
    let ballast = vec![1_u8; mib.parse::<usize>()? << 20];
    let took = match subject {
        ZYGOTE => by_zygote()?,
        POSIX_SPAWN => by_posix_spawn()?,
        name => by_pool(name)?,
    };
    std::hint::black_box(&ballast);
    println!("{}", took.as_secs_f64() * 1e3);
    Ok(())
}

fn by_pool(name: &str) -> Result<Duration, Box<dyn Error>> {
    let server = ForkServer::new();
    let builder = || -> Result<Builder, Box<dyn Error>> {
        let context: Context = name.parse()?;
        let is_server = name.starts_with("forkserver+");
        Ok(Executor::builder().context(if is_server { context.start_method(server.clone()) } else { context }))
    };
    // `Fork` is to find this process with one thread, and has nothing to warm up.
    if !name.starts_with("fork+") {
        let pool = builder()?.max_workers(1).build()?;
        pool.submit(|n: u32| n, 1)?.result()?;
    }
    let gate = Gate::new()?;
    let folder = gate.folder.to_str().ok_or("a path that is no text")?;
    let start = Instant::now();
    let pool = builder()?.max_workers(WORKERS).build()?;
    let calls: Vec<TaskHandle<()>> =
        (0..WORKERS).map(|_| pool.submit(hold, folder.to_owned())).collect::<Result<_, _>>()?;
    gate.arrivals(WORKERS)?;
    let took = start.elapsed();
    gate.open()?;
    calls.into_iter().try_for_each(|call| call.result())?;
    Ok(took)
}

/// Two FIFOs in a folder of their own: calls say a byte on one, and wait for one on the other. (Not for its end:
/// forked workers have copies of both ends.)
struct Gate {
    folder: PathBuf,
    arrive: File,
    leave: File,
}

impl Gate {
    fn new() -> Result<Self, Box<dyn Error>> {
        let folder = std::env::temp_dir().join(format!("pool-bench-{}", std::process::id()));
        std::fs::create_dir(&folder)?;
        // To read and write: so the opening does not wait for the other side.
        let fifo = |name| -> Result<File, Box<dyn Error>> {
            let path = folder.join(name);
            rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU)?;
            Ok(OpenOptions::new().read(true).write(true).open(path)?)
        };
        let (arrive, leave) = (fifo("arrive")?, fifo("leave")?);
        Ok(Self { folder, arrive, leave })
    }

    fn arrivals(&self, count: usize) -> std::io::Result<()> {
        (&self.arrive).read_exact(&mut vec![0; count])
    }

    fn open(self) -> std::io::Result<()> {
        (&self.leave).write_all(&[1; WORKERS])?;
        Ok(())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // It is a folder for temporary files; what cannot be removed there is not missed.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn hold(folder: String) {
    let folder = Path::new(&folder);
    let mut arrive = OpenOptions::new().write(true).open(folder.join("arrive")).expect("a FIFO");
    let mut leave = File::open(folder.join("leave")).expect("a FIFO");
    arrive.write_all(&[1]).expect("its reader is there");
    leave.read_exact(&mut [0]).expect("a byte for each");
}

fn by_posix_spawn() -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    let (mut arrivals, theirs) = std::io::pipe()?;
    let spawn = || -> Result<Child, Box<dyn Error>> {
        let mut command = this_program();
        Ok(command.arg("--ready").stdin(Stdio::piped()).stdout(theirs.try_clone()?).spawn()?)
    };
    let children: Vec<_> = (0..WORKERS).map(|_| spawn()).collect::<Result<_, _>>()?;
    arrivals.read_exact(&mut [0; WORKERS])?;
    let took = start.elapsed();
    for mut child in children {
        drop(child.stdin.take());
        child.wait()?;
    }
    Ok(took)
}

fn by_zygote() -> Result<Duration, Box<dyn Error>> {
    let mut zygote = this_program().arg("--zygote").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(mut requests), Some(mut answers)) = (zygote.stdin.take(), zygote.stdout.take()) else {
        return Err("no pipes".into());
    };
    // It is up.
    answers.read_exact(&mut [0])?;
    let start = Instant::now();
    for _ in 0..WORKERS {
        requests.write_all(&[1])?;
    }
    // For each worker its process id from the zygote, and a byte from itself.
    answers.read_exact(&mut [0; WORKERS * 5])?;
    let took = start.elapsed();
    drop(requests);
    zygote.wait()?;
    Ok(took)
}

fn zygote() -> Result<(), Box<dyn Error>> {
    let mut answers = File::from(rustix::io::dup(std::io::stdout())?);
    let mut requests = File::from(rustix::io::dup(std::io::stdin())?);
    answers.write_all(&[1])?;
    // Its end, which comes when this process has ended, lets the children go.
    let (mut wait, hold) = std::io::pipe()?;
    let mut hold = Some(hold);

    for _ in 0..WORKERS {
        requests.read_exact(&mut [0])?;
        let worker = || {
            drop(hold.take());
            answers.write_all(&[1]).expect("the parent is there");
            wait.read_to_end(&mut Vec::new()).expect("it ends");
        };
        let pid = sys::fork(worker);
        answers.write_all(&pid.to_ne_bytes())?;
    }
    requests.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// The least that can be called a worker.
fn ready() -> Result<(), Box<dyn Error>> {
    std::io::stdout().write_all(&[1])?;
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn this_program() -> Command {
    Command::new("/proc/self/exe")
}
