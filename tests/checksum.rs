//! Runs the example `checksum` as its users do, and compares it with `sha256sum`.
//!
//! Cargo builds the examples before it runs all tests of a package, and puts them beside the folder of the
//! test programs, whatever the profile and the target.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};

fn checksum() -> Command {
    let this = std::env::current_exe().expect("this program has a path");
    let profile = this.parent().and_then(Path::parent).expect("test programs lie in <profile>/deps");
    let program = profile.join("examples").join(format!("checksum{}", std::env::consts::EXE_SUFFIX));
    assert!(program.exists(), "{} is missing: `cargo build --example checksum` makes it", program.display());
    Command::new(program)
}

fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Output {
    checksum().args(arguments).output().expect("checksum runs")
}

/// Runs it where all is well, and returns what it prints.
fn sums<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Vec<u8> {
    let output = run(arguments);
    assert_eq!(text(&output.stderr), "", "no bar and no complaint, since this is no terminal");
    assert_eq!(output.status.code(), Some(0));
    output.stdout
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it prints text")
}

/// A new, empty folder for the test of this name.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("checksum").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("an earlier run's folder can be removed");
    }
    fs::create_dir_all(&folder).expect("a folder can be made");
    folder
}

/// All regular files under `directory`, in the order of the bytes of their paths.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("the directory can be read") {
        let entry = entry.expect("the directory can be read");
        let kind = entry.file_type().expect("its entry has a type");
        if kind.is_dir() {
            files.extend(self::files(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    files
}

/// What `sha256sum` prints of these files; where there is none, what it would print.
fn expected(files: &[PathBuf]) -> Vec<u8> {
    if cfg!(unix)
        && let Ok(output) = Command::new("sha256sum").arg("--").args(files).output()
    {
        assert!(output.status.success(), "sha256sum: {}", String::from_utf8_lossy(&output.stderr));
        return output.stdout;
    }
    let line = |path: &PathBuf| {
        let mut line = hex(&fs::read(path).expect("the file can be read")).into_bytes();
        line.extend(b"  ");
        line.extend(path.as_os_str().as_encoded_bytes());
        line.push(b'\n');
        line
    };
    files.iter().flat_map(line).collect()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes everything");
        hex
    })
}

#[test]
fn it_prints_what_sha256sum_prints() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("pool-core");
    let printed = sums([&sources]);
    assert_eq!(text(&printed), text(&expected(&files(&sources))));
}

#[test]
fn a_file_can_be_named_itself_and_arguments_keep_their_order() {
    let folder = folder("arguments");
    for name in ["z", "m", "a"] {
        fs::write(folder.join(name), name).expect("written");
    }
    let named = [folder.join("z"), folder.join("a"), folder.join("a")];
    assert_eq!(text(&sums(&named)), text(&expected(&named)));
}

#[test]
fn files_come_in_the_order_of_the_bytes_of_their_paths_in_every_run() {
    let folder = folder("order");
    // Where `A` is another name for `a`, it cannot be a file beside it.
    let upper = if cfg!(unix) { ["A", "a/B"] } else { ["C", "a/D"] };
    for name in ["a/b/c", "a/b.c", "a.b", "a-b", "ab", "b/x"].into_iter().chain(upper) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("made");
        fs::write(path, name).expect("written");
    }
    for number in 0..500 {
        fs::write(folder.join(format!("b/{number}")), vec![7; number * 100]).expect("written");
    }
    let expected = expected(&files(&folder));
    for jobs in ["1", "2", "5", "5"] {
        assert_eq!(text(&sums([OsStr::new("--jobs"), OsStr::new(jobs), folder.as_os_str()])), text(&expected));
    }
}

#[test]
fn empty_and_large_files_are_hashed_whole() {
    let folder = folder("sizes");
    const MIB: usize = 1 << 20;
    for size in [0, 1, 63, 64, MIB - 1, MIB, MIB + 1, 3 * MIB + 17] {
        fs::write(folder.join(format!("{size:09}")), vec![size as u8; size]).expect("written");
    }
    assert_eq!(text(&sums([&folder])), text(&expected(&files(&folder))));
}

#[cfg(unix)]
#[test]
fn odd_names_are_escaped_as_sha256sum_escapes_them() {
    let folder = folder("names");
    for name in ["a\\b", "new\nline", "carriage\rreturn", "tab\t", " ", "-", "--jobs", "*", "ä", "\\\n\r\\"] {
        fs::write(folder.join(name), name).expect("written");
    }
    let printed = sums([&folder]);
    assert_eq!(text(&printed), text(&expected(&files(&folder))));
    assert!(text(&printed).contains(&format!("\\{}  {}/a\\\\b\n", hex(b"a\\b"), folder.display())));
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_need_not_be_text() {
    use std::os::unix::ffi::OsStrExt;

    let folder = folder("bytes");
    fs::write(folder.join(OsStr::from_bytes(b"\xff\xfe\n\x80")), "odd").expect("written");
    let printed = sums([&folder]);
    assert_eq!(printed, expected(&files(&folder)));
    assert!(printed.ends_with(b"/\xff\xfe\\n\x80\n"));
}

#[cfg(unix)]
#[test]
fn links_are_followed_only_if_they_are_named() {
    use std::os::unix::fs::symlink;

    let folder = folder("links");
    fs::create_dir(folder.join("real")).expect("made");
    fs::write(folder.join("real/file"), "content").expect("written");
    symlink("real", folder.join("link")).expect("linked");
    symlink("real/file", folder.join("link to file")).expect("linked");
    symlink("..", folder.join("real/loop")).expect("linked");
    symlink("nowhere", folder.join("dangling")).expect("linked");
    assert_eq!(text(&sums([&folder])), text(&expected(&[folder.join("real/file")])));
    assert_eq!(text(&sums([folder.join("link")])), text(&expected(&[folder.join("link/file")])));
    let (file, circle) = (folder.join("link to file"), folder.join("circle"));
    assert_eq!(text(&sums([&file])), text(&expected(std::slice::from_ref(&file))));
    symlink("circle", &circle).expect("linked");
    assert_eq!(run([&circle]).status.code(), Some(1));
}

#[test]
fn what_cannot_be_read_is_named_at_the_end_and_the_rest_is_printed() {
    let folder = folder("unreadable");
    let good = folder.join("good");
    fs::write(&good, "good").expect("written");
    let mut arguments = vec![folder.join("missing"), good.clone()];
    let mut reasons = vec!["missing: "];
    if cfg!(target_os = "linux") {
        // A regular file that anyone may open and nobody can read at its start; and no file at all.
        arguments.extend([PathBuf::from("/proc/self/mem"), PathBuf::from("/dev/null")]);
        reasons.extend(["/dev/null: neither a file nor a directory", "/proc/self/mem: "]);
    }
    let output = run(&arguments);
    assert_eq!(text(&output.stdout), text(&expected(&[good])));
    let mut lines: Vec<_> = text(&output.stderr).lines().collect();
    lines.sort_unstable_by_key(|line| line.contains("/proc/self/mem"));
    assert_eq!(lines.len(), reasons.len(), "{lines:?}");
    for (line, reason) in lines.iter().zip(reasons) {
        assert!(line.starts_with("checksum: ") && line.contains(reason), "{line}");
    }
    assert_eq!(output.status.code(), Some(1));
}

/// Permissions do not bind whoever runs the tests as root, but the limit on a path's length does.
#[cfg(unix)]
#[test]
fn a_directory_that_cannot_be_read_costs_only_itself() {
    const HALF: usize = if cfg!(target_os = "linux") { 3000 } else { 700 };
    let folder = folder("deep");
    fs::write(folder.join("good"), "good").expect("written");
    let dig = |top: &str| {
        let mut path = folder.join(top);
        while path.as_os_str().len() < HALF {
            path.push("d".repeat(100));
        }
        fs::create_dir_all(&path).expect("made");
        path
    };
    fs::write(dig("lower").join("out of reach"), "").expect("written");
    fs::rename(folder.join("lower"), dig("upper").join("lower")).expect("renamed");

    let output = run([&folder]);
    assert_eq!(text(&output.stdout), text(&expected(&[folder.join("good")])));
    let report = text(&output.stderr);
    assert_eq!(report.lines().count(), 1, "{report}");
    // In the words of the C library.
    let says = ["File name too long", "Filename too long"];
    assert!(says.iter().any(|says| report.contains(&format!("ddd: {says}"))), "{report}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn wrong_options_are_refused_in_one_line_that_says_what_is_allowed() {
    for (arguments, says) in [
        (&["--jbos", "2", "."][..], "--jbos: allowed are --jobs N, --context NAME, --help"),
        (&["-x", "."], "-x: allowed are --jobs N, --context NAME, --help"),
        (&["--jobs", "0", "."], "--jobs 0: must be a whole number, from 1"),
        (&["--jobs", "-1", "."], "--jobs -1: must be a whole number, from 1"),
        (&["--jobs=many", "."], "--jobs many: must be a whole number, from 1"),
        (&["--jobs", "99999999999999999999", "."], "--jobs 99999999999999999999: must be"),
        (&[".", "--jobs"], "--jobs needs a number, from 1"),
        (&["--context", "thread", "."], "--context thread: unknown start method `thread`"),
        (&["--context", "exec+pigeon", "."], "--context exec+pigeon: unknown transport `pigeon`"),
        (&["--context", "", "."], "this program has exec+pipe"),
        (&[".", "--context"], "--context needs a name: this program has exec+pipe"),
        (&[], "name at least one directory or file"),
    ] {
        let output = run(arguments);
        let report = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {report}");
        assert!(report.starts_with("checksum: ") && report.contains(says), "{arguments:?}: {report}");
        assert_eq!(report.lines().count(), 1, "{arguments:?}: {report}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
}

#[test]
fn help_and_contexts_are_accepted() {
    assert!(text(&sums(["--help"])).contains("--context NAME"));
    let folder = folder("contexts");
    fs::write(folder.join("--jobs"), "x").expect("written");
    let expected = expected(&[folder.join("--jobs")]);
    for context in ["spawn", "exec", "exec+pipe"] {
        let context = format!("--context={context}");
        let arguments = [OsString::from(context), "--".into(), folder.clone().into()];
        assert_eq!(text(&sums(arguments)), text(&expected));
    }
}

/// These look at processes from outside, and hold a worker at work with a file that takes for ever: one with
/// nothing in it but its size.
#[cfg(target_os = "linux")]
mod processes {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Child, Stdio};
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    /// Nothing here should take as long; beyond it, it hangs.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Waits until `done`, and tells what for if that takes too long.
    fn wait_until(what: &str, patience: Duration, mut done: impl FnMut() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < patience, "waited {patience:?} in vain until {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn endless(path: &Path) {
        fs::File::create(path).and_then(|file| file.set_len(1 << 42)).expect("the file system has sparse files");
    }

    fn start(folder: &Path) -> Child {
        let mut command = checksum();
        command.arg("--jobs=2").arg(folder).stdout(Stdio::piped()).stderr(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().expect("checksum starts")
    }

    /// The state and the parent of a process, if there is one.
    fn stat(pid: &str) -> Option<(String, u32)> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
    }

    fn workers(parent: &Child) -> Vec<String> {
        let processes = fs::read_dir("/proc").expect("/proc can be read").flatten();
        let names = processes.filter_map(|process| process.file_name().into_string().ok());
        names.filter(|pid| stat(pid).is_some_and(|(_, its)| its == parent.id())).collect()
    }

    /// Whether the process has ended; its new parent may not yet have noticed.
    fn is_gone(pid: &str) -> bool {
        stat(pid).is_none_or(|(state, _)| state == "Z" || state == "X")
    }

    fn has_open(pid: &str, file: &Path) -> bool {
        let handles = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        handles.flat_map(|handle| fs::read_link(handle.path())).any(|target| target == file)
    }

    fn wait_for_worker_at(parent: &Child, file: &Path) -> String {
        let mut found = None;
        wait_until("a worker reads the endless file", PATIENCE, || {
            found = workers(parent).into_iter().find(|pid| has_open(pid, file));
            found.is_some()
        });
        found.expect("just found")
    }

    fn signal(pid: &str, signal: Signal) {
        let pid = Pid::from_raw(pid.parse().expect("a number")).expect("not 0");
        kill_process(pid, signal).expect("the process is there");
    }

    fn end(mut child: Child) -> (Option<i32>, String) {
        let mut report = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut report).expect("text");
        (child.wait().expect("it ends").code(), report)
    }

    #[test]
    fn a_worker_that_dies_costs_only_its_file() {
        let folder = folder("dies");
        for name in ["a", "b", "y", "z"] {
            fs::write(folder.join(name), name).expect("written");
        }
        let small = files(&folder);
        let poison = folder.join("poison");
        endless(&poison);
        let mut child = start(&folder);
        // Once in the batch with the small files, once alone.
        for _ in 0..2 {
            let worker = wait_for_worker_at(&child, &poison);
            signal(&worker, Signal::KILL);
            wait_until("the worker is gone", PATIENCE, || is_gone(&worker));
        }
        let mut printed = String::new();
        child.stdout.take().expect("piped").read_to_string(&mut printed).expect("text");
        assert_eq!(printed, text(&expected(&small)));
        let (code, report) = end(child);
        assert_eq!(report.lines().count(), 1, "{report}");
        assert!(report.starts_with(&format!("checksum: {}: worker ", poison.display())), "{report}");
        assert!(report.trim_end().ends_with("signal 9, killed"), "{report}");
        assert_eq!(code, Some(1));
    }

    fn ignores_interrupts() -> bool {
        let status = fs::read_to_string("/proc/self/status").expect("it is there");
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("Linux says");
        u64::from_str_radix(ignored.trim(), 16).expect("a number") & 1 << (Signal::INT.as_raw() - 1) != 0
    }

    #[test]
    fn ctrl_c_leaves_no_worker_behind() {
        if ignores_interrupts() {
            println!(
                "skipped: this process ignores Ctrl-C, as a shell's background jobs do, and so does what it starts"
            );
            return;
        }
        let folder = folder("interrupt");
        let file = folder.join("endless");
        endless(&file);
        let mut child = start(&folder);
        wait_for_worker_at(&child, &file);
        let workers = workers(&child);
        // To the one process, so that it is not the same signal that ends the workers.
        signal(&child.id().to_string(), Signal::INT);
        wait_until("the workers are gone", Duration::from_secs(1), || workers.iter().all(|pid| is_gone(pid)));
        let status = child.wait().expect("it ends");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::INT.as_raw()));
    }

    #[test]
    fn it_ends_quietly_when_nobody_reads_on() {
        let folder = folder("head");
        // More lines than a pipe holds, then a file that would take for ever.
        for number in 0..2000 {
            fs::write(folder.join(format!("{number:04}")), "x").expect("written");
        }
        let file = folder.join("endless");
        endless(&file);
        let mut child = start(&folder);
        let mut line = String::new();
        let mut reader = BufReader::new(child.stdout.take().expect("piped"));
        reader.read_line(&mut line).expect("text");
        let workers = workers(&child);
        drop(reader);
        assert_eq!(line, text(&expected(&[folder.join("0000")])));
        assert_eq!(end(child), (Some(0), String::new()));
        assert!(workers.iter().all(|pid| is_gone(pid)));
    }
}
