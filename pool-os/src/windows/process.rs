//! Starting a process that inherits what it is to have, and nothing else.
//!
//! `std` hands every inheritable handle of the program to every child: accepted sockets are inheritable, and
//! a worker that held one would keep a connection open which its program has long closed. So the process is
//! made here, with a list of just its standard handles.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsHandle, OwnedHandle};
use std::os::windows::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use super::sys;

/// A process that was started.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) handle: OwnedHandle,
}

/// Starts `command`, whose program is an absolute path, in `job`, with `stdin` as its standard input. Standard output and
/// error are this process's own.
pub(super) fn start(command: &Command, stdin: &OwnedHandle, job: &OwnedHandle) -> io::Result<Process> {
    let program = wide(command.get_program())?;
    let mut line = command_line(command)?;
    let environment = environment(command)?;
    let folder = command.get_current_dir().map(|folder| wide(folder.as_os_str())).transpose()?;
    // What can be inherited is on the list only while the process starts. Another thread that starts one through
    // `std` in this moment passes it on as well: an end to read from, which keeps nobody waiting, and what it
    // shares anyhow.
    let stdin = sys::inheritable(stdin.as_handle())?;
    let output = sys::standard_output().map(sys::inheritable).transpose()?;
    let error = sys::standard_error().map(sys::inheritable).transpose()?;
    let streams = [Some(&stdin), output.as_ref(), error.as_ref()];
    let streams = streams.map(|stream| stream.map(OwnedHandle::as_handle));
    let folder = folder.as_deref();
    let mut start = sys::Start { program: &program, line: &mut line, environment: &environment, folder };
    let (pid, handle) = match sys::create_process(&mut start, streams, Some(job.as_handle())) {
        // Nobody has refused but for the job perhaps: this process may be in one that has no others within it. Then the
        // child's own thread is the whole lifeline.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            sys::create_process(&mut start, streams, None)?
        }
        other => other?,
    };
    Ok(Process { pid, handle })
}

impl Process {
    /// Waits for its end.
    pub(super) fn wait(&self) -> io::Result<ExitStatus> {
        sys::wait(self.handle.as_handle(), None);
        sys::exit_code(self.handle.as_handle()).map(ExitStatus::from_raw)
    }
}

/// The text, ended by a zero, which must not be within it.
fn wide(text: &OsStr) -> io::Result<Vec<u16>> {
    let text: Vec<u16> = text.encode_wide().chain([0]).collect();
    match text.iter().position(|unit| *unit == 0) {
        Some(end) if end + 1 == text.len() => Ok(text),
        _ => Err(io::Error::new(ErrorKind::InvalidInput, "a zero within a program's name, argument or variable")),
    }
}

/// Program and arguments in one line, from which the child's C runtime and `std` take them apart again.
fn command_line(command: &Command) -> io::Result<Vec<u16>> {
    let program = command.get_program();
    // The system would start `cmd.exe` for it, which takes arguments apart by rules of its own.
    let is_script = Path::new(program)
        .extension()
        .is_some_and(|name| ["bat", "cmd"].iter().any(|script| name.eq_ignore_ascii_case(script)));
    if is_script {
        return Err(io::Error::new(ErrorKind::InvalidInput, "a batch file cannot be a worker"));
    }
    // No file's name holds a quote.
    let mut line = vec![QUOTE];
    line.extend(program.encode_wide());
    line.push(QUOTE);
    for arg in command.get_args() {
        line.push(SPACE);
        quote(&wide(arg)?, &mut line);
    }
    line.push(0);
    Ok(line)
}

/// Appends `arg`, which ends with a zero, in quotes if it takes some: `cmd` for one does not know its options in
/// quotes. A backslash means itself but before a quote: there, two mean one.
fn quote(arg: &[u16], line: &mut Vec<u16>) {
    let arg = &arg[..arg.len() - 1];
    let quotes = usize::from(arg.is_empty() || arg.iter().any(|unit| [SPACE, TAB].contains(unit)));
    line.extend(std::iter::repeat_n(QUOTE, quotes));
    let mut backslashes = 0;
    for &unit in arg {
        if unit == QUOTE {
            line.extend(std::iter::repeat_n(BACKSLASH, backslashes + 1));
        }
        backslashes = if unit == BACKSLASH { backslashes + 1 } else { 0 };
        line.push(unit);
    }
    line.extend(std::iter::repeat_n(BACKSLASH, quotes * backslashes));
    line.extend(std::iter::repeat_n(QUOTE, quotes));
}

/// This process's environment with the changes of `command`: `name=value`, each ended by a zero, and a zero.
fn environment(command: &Command) -> io::Result<Vec<u16>> {
    // The system compares names without regard to case, and wants them in order.
    let mut all: Vec<(Vec<u16>, OsString)> = Vec::new();
    let place = |all: &[(Vec<u16>, OsString)], name: &[u16]| {
        all.binary_search_by(|(other, _)| sys::compare_ignoring_case(other, name))
    };
    let own = std::env::vars_os().map(|(name, value)| (name, Some(value)));
    let changes = command.get_envs().map(|(name, value)| (name.to_owned(), value.map(OsStr::to_owned)));
    for (name, value) in own.chain(changes) {
        let mut name = wide(&name)?;
        name.pop();
        match (place(&all, &name), value) {
            (Ok(at), Some(value)) => all[at].1 = value,
            (Ok(at), None) => drop(all.remove(at)),
            (Err(at), Some(value)) => all.insert(at, (name, value)),
            (Err(_), None) => {}
        }
    }
    let mut block = Vec::new();
    for (name, value) in &all {
        block.extend(name);
        block.push(EQUALS);
        block.extend(wide(value)?);
    }
    // An empty block is two zeros.
    if block.is_empty() {
        block.push(0);
    }
    block.push(0);
    Ok(block)
}

const SPACE: u16 = b' ' as u16;
const TAB: u16 = b'\t' as u16;
const QUOTE: u16 = b'"' as u16;
const BACKSLASH: u16 = b'\\' as u16;
const EQUALS: u16 = b'=' as u16;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(args: &[&str]) -> String {
        let mut command = Command::new(r"C:\a b\c.exe");
        command.args(args);
        let line = command_line(&command).expect("no zero in it");
        String::from_utf16(&line[..line.len() - 1]).expect("text")
    }

    #[test]
    fn arguments_are_quoted_as_the_c_runtime_takes_them_apart() {
        assert_eq!(line(&["", "a b", r#"say "hi""#]), r#""C:\a b\c.exe" "" "a b" "say \"hi\"""#);
        assert_eq!(line(&[r"C:\dir\", r"C:\a dir\", r#"\\"x"#]), r#""C:\a b\c.exe" C:\dir\ "C:\a dir\\" \\\\\"x"#);
        assert_eq!(line(&["/c", "exit 7"]), r#""C:\a b\c.exe" /c "exit 7""#);
    }

    #[test]
    fn a_zero_and_a_batch_file_are_refused() {
        let mut command = Command::new(r"C:\a.exe");
        command.arg("a\0b");
        assert_eq!(command_line(&command).expect_err("a zero").kind(), ErrorKind::InvalidInput);
        let script = command_line(&Command::new(r"C:\a.BAT")).expect_err("a batch file");
        assert!(script.to_string().contains("batch file"), "{script}");
    }

    #[test]
    fn variables_are_replaced_whatever_their_case_and_removed() {
        let mut command = Command::new(r"C:\a.exe");
        command.env("pool_os_a", "1").env("POOL_OS_A", "2").env("POOL_OS_B", "3").env_remove("path");
        let block = environment(&command).expect("no zero in it");
        let text = String::from_utf16_lossy(&block);
        let ours: Vec<_> = text.split('\0').filter(|entry| entry.to_lowercase().starts_with("pool_os")).collect();
        assert_eq!(ours.len(), 2, "{ours:?}");
        assert!(ours[0].ends_with("=2") && ours[1] == "POOL_OS_B=3", "{ours:?}");
        assert!(!text.split('\0').any(|entry| entry.to_lowercase().starts_with("path=")));
        assert!(block.ends_with(&[0, 0]));
    }
}
