//! Cases for Unix.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use pool_core::spawner::SpawnError;
use pool_spawn_exec::Exec;
use xtests::processes::emulator_lacks;

use crate::harness::{Case, bystander, start};

pub(crate) fn all() -> Vec<Case> {
    vec![
        ("what_is_no_program_is_named", what_is_no_program_is_named),
        ("another_version_is_answered_in_words", another_version_is_answered_in_words),
        ("a_message_cut_short_is_answered_in_words", a_message_cut_short_is_answered_in_words),
    ]
}

fn what_is_no_program_is_named() {
    let folder = std::env::temp_dir().join(format!("pool-spawn-exec-{}", std::process::id()));
    fs::create_dir(&folder).expect("created");
    let (plain, text) = (folder.join("plain"), folder.join("text"));
    fs::write(&plain, "not executable").expect("written");
    fs::write(&text, "executable, but neither ELF nor #!").expect("written");
    fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).expect("set");
    let exec = Exec::program(&plain);
    for result in [exec.check(), start(&exec, "x", b"", vec![]).map(drop)] {
        assert!(matches!(&result, Err(SpawnError::Program { path, .. }) if *path == plain), "{result:?}");
    }
    let exec = Exec::program(&text);
    exec.check().expect("only the kernel can tell");
    if !emulator_lacks("a process that shares its parent's memory until it is another program has a copy of it") {
        let result = start(&exec, "x", b"", vec![]).map(drop);
        assert!(matches!(&result, Err(SpawnError::Program { path, .. }) if *path == text), "{result:?}");
    }
    fs::remove_dir_all(&folder).expect("removed");
}

/// Starts this program with `message` on its standard input, as a parent would; returns its exit code and
/// its last words.
fn answer_to(message: &[u8]) -> (Option<i32>, String) {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    ours.write_all(message).expect("written");
    let mut command = bystander("echo");
    command.env("PROCESS_POOL_WORKER", "exec/99").stdin(OwnedFd::from(theirs)).stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    drop(command);
    let status = child.wait().expect("it ends");
    let mut words = Vec::new();
    // What the child did not read makes the end an error, which comes after all there is to read.
    let _ = ours.read_to_end(&mut words);
    (status.code(), String::from_utf8(words).expect("text"))
}

fn another_version_is_answered_in_words() {
    let (code, words) = answer_to(b"\x89ppool\r\n\x63\0\0\0\x05\0\0\0\0\0\0\0hello");
    assert_eq!(code, Some(97));
    assert!(words.contains("version 99") && words.contains("version 1"), "{words}");
}

fn a_message_cut_short_is_answered_in_words() {
    for message in [b"\x89ppool\r\n".as_slice(), b"\x89ppool\r\n\x01\0\0\0\x05\0\0\0\0\0\0\0hel"] {
        let (code, words) = answer_to(message);
        assert_eq!(code, Some(97));
        assert!(words.contains("start message"), "{words}");
    }
    let (code, words) = answer_to(b"\x89ppool\r\n\x01\0\0\0\x05\0\0\0\x02\0\0\0hello");
    assert_eq!(code, Some(97));
    assert!(words.contains("0 of 2 descriptors"), "{words}");
}
