//! What the system does for the runner, and the promise that Fork wants.

use std::path::Path;

use pool_core::Context;

/// The case's process ends when its runner does.
///
/// Without a thread, so that Fork finds none: the kernel sees to it. The runner's thread that has started this
/// process waits for it, so its end is the runner's.
#[cfg(target_os = "linux")]
pub(crate) fn end_with_the_runner() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Signal, set_parent_process_death_signal};

    set_parent_process_death_signal(Some(Signal::KILL)).expect("any process may ask for it");
    // The runner holds the other end of standard input. It may be gone already.
    let stdin = rustix::stdio::stdin();
    let mut ends = [PollFd::new(&stdin, PollFlags::empty())];
    if poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(0) {
        std::process::exit(crate::trial::FAILED);
    }
}

/// The case's process ends when its runner does: the runner holds the other end of its standard input.
#[cfg(not(target_os = "linux"))]
pub(crate) fn end_with_the_runner() {
    std::thread::spawn(|| {
        let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
        std::process::exit(crate::trial::FAILED);
    });
}

/// Lets every user write to `temp` in `root`: a case may become another one.
#[cfg(unix)]
pub(crate) fn open_to_all(root: &Path, temp: &Path) {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    set_permissions(root, Permissions::from_mode(0o711)).expect("set");
    set_permissions(temp, Permissions::from_mode(0o1777)).expect("set");
}

#[cfg(not(unix))]
pub(crate) fn open_to_all(_: &Path, _: &Path) {}

/// The same context, with a Fork that does not mind threads.
pub(crate) fn fork_with_threads(context: Context) -> Context {
    // SAFETY: the cases' calls use nothing that other threads of the case lock or change: they are fn items that
    // work on their arguments, on files, and on a gate's port. The allocator's locks are seen to by glibc, and what
    // the workers of a process pool need of their own is the library's to see to.
    let fork = unsafe { process_pool::spawn::Fork::new_unchecked() };
    context.start_method(fork)
}

#[cfg(windows)]
pub(crate) use windows::{
    handles, is_wine, kill_descendant, new_console, press_break, pressed, runs_this_program, threads,
};

#[cfg(windows)]
mod windows {
    use std::collections::HashMap;
    use std::ffi::OsString;
    use std::io;
    use std::mem;
    use std::os::windows::ffi::OsStringExt as _;
    use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
    use std::path::PathBuf;
    use std::ptr;
    use std::sync::OnceLock;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use windows_sys::Wdk::System::SystemInformation::NtQuerySystemInformation;
    use windows_sys::Win32::Foundation::{
        CloseHandle, INVALID_HANDLE_VALUE, STATUS_INFO_LENGTH_MISMATCH, WAIT_TIMEOUT,
    };
    use windows_sys::Win32::System::Console::{
        AllocConsole, CTRL_BREAK_EVENT, FreeConsole, GenerateConsoleCtrlEvent, SetConsoleCtrlHandler,
    };
    use windows_sys::Win32::System::Diagnostics::ToolHelp::{
        CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
        TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
    };
    use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};
    use windows_sys::Win32::System::Threading::{
        OpenProcess, PROCESS_NAME_WIN32, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE,
        PROCESS_TERMINATE, QueryFullProcessImageNameW, TerminateProcess, WaitForSingleObject,
    };

    /// Whether the program runs under Wine, and not on Windows itself.
    pub(crate) fn is_wine() -> bool {
        let name: Vec<u16> = "ntdll.dll\0".encode_utf16().collect();
        // SAFETY: the name ends with a zero.
        let ntdll = unsafe { GetModuleHandleW(name.as_ptr()) };
        // SAFETY: the module is in every process, and the name ends with a zero.
        unsafe { GetProcAddress(ntdll, c"wine_get_version".as_ptr().cast()) }.is_some()
    }

    /// How many handles this process has. (Wine gives no honest answer to `GetProcessHandleCount`.)
    pub(crate) fn handles() -> usize {
        /// `SystemExtendedHandleInformation`: the number of entries, a word, and the entries.
        const ALL_HANDLES: i32 = 64;
        /// Of an entry: object, process, handle, and what takes two more.
        const ENTRY: usize = 5;
        let mut words = vec![0_usize; 1 << 16];
        loop {
            let len = mem::size_of_val(&*words) as u32;
            // SAFETY: the memory is writable for its length; the length that it would take is not asked for.
            let status =
                unsafe { NtQuerySystemInformation(ALL_HANDLES, words.as_mut_ptr().cast(), len, ptr::null_mut()) };
            if status != STATUS_INFO_LENGTH_MISMATCH {
                assert_eq!(status, 0, "the system tells of its handles");
                break;
            }
            words.resize(2 * words.len(), 0);
        }
        let entries = words[2..].chunks_exact(ENTRY).take(words[0]);
        entries.filter(|entry| entry[1] == std::process::id() as usize).count()
    }

    /// Kills a descendant of this process, as a user would: the exit code is 1, as that of the system's own tools. False
    /// if there is none of this number.
    pub(crate) fn kill_descendant(pid: u32) -> bool {
        // Opened first: while it is open, the number is nobody else's.
        let Some(process) = open(pid, PROCESS_TERMINATE | PROCESS_SYNCHRONIZE) else { return false };
        if !is_running(&process) || !is_descendant(pid) {
            return false;
        }
        // SAFETY: the process is open, to be ended too.
        unsafe { TerminateProcess(process.as_raw_handle(), 1) != 0 }
    }

    /// Whether the process of this number runs, and has this process's program: another's number is not meant.
    pub(crate) fn runs_this_program(pid: u32) -> bool {
        let Some(process) = open(pid, PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE) else {
            return false;
        };
        is_running(&process) && std::env::current_exe().is_ok_and(|own| program(&process) == Some(own))
    }

    fn open(pid: u32, rights: u32) -> Option<OwnedHandle> {
        // SAFETY: it takes no memory.
        let process = unsafe { OpenProcess(rights, 0, pid) };
        // SAFETY: it is open, and nobody else's.
        (!process.is_null()).then(|| unsafe { OwnedHandle::from_raw_handle(process) })
    }

    fn is_running(process: &OwnedHandle) -> bool {
        // SAFETY: the process is open, and may be waited for.
        unsafe { WaitForSingleObject(process.as_raw_handle(), 0) == WAIT_TIMEOUT }
    }

    fn program(process: &OwnedHandle) -> Option<PathBuf> {
        let mut path = [0; 1024];
        let mut len = path.len() as u32;
        // SAFETY: the process is open, and may be asked; the memory is writable for as long as is said.
        let told = unsafe {
            QueryFullProcessImageNameW(
                process.as_raw_handle(),
                PROCESS_NAME_WIN32,
                path.as_mut_ptr(),
                &raw mut len,
            )
        };
        (told != 0).then(|| OsString::from_wide(&path[..len as usize]).into())
    }

    fn is_descendant(pid: u32) -> bool {
        let parents = parents();
        let mut ancestor = pid;
        // No chain is longer than all processes; a number that came into other hands could make a ring.
        for _ in 0..parents.len() {
            match parents.get(&ancestor) {
                Some(parent) if *parent == std::process::id() => return true,
                Some(parent) => ancestor = *parent,
                None => return false,
            }
        }
        false
    }

    /// Each process's parent.
    fn parents() -> HashMap<u32, u32> {
        // SAFETY: it takes no memory; of processes the system tells all.
        let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) };
        assert_ne!(snapshot, INVALID_HANDLE_VALUE, "the system tells of its processes");
        let mut entry = PROCESSENTRY32W { dwSize: size_of::<PROCESSENTRY32W>() as u32, ..Default::default() };
        let mut parents = HashMap::new();
        // SAFETY: the snapshot is open, and the entry says its size.
        let mut more = unsafe { Process32FirstW(snapshot, &raw mut entry) };
        while more != 0 {
            parents.insert(entry.th32ProcessID, entry.th32ParentProcessID);
            // SAFETY: the same.
            more = unsafe { Process32NextW(snapshot, &raw mut entry) };
        }
        // SAFETY: it is open, and used no more.
        unsafe { CloseHandle(snapshot) };
        parents
    }

    /// Gives this process a console of its own, with nobody else at it.
    pub(crate) fn new_console() -> io::Result<()> {
        // SAFETY: it has no preconditions. Without a console there is none to leave.
        unsafe { FreeConsole() };
        // SAFETY: the same.
        if unsafe { AllocConsole() } == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Presses Ctrl-Break at this process's console.
    pub(crate) fn press_break() -> io::Result<()> {
        // SAFETY: it has no preconditions; 0 is everybody at the console.
        if unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, 0) } == 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Says each Ctrl-Break. If `kept`, nobody else in this process hears of it; else those who were there before.
    pub(crate) fn pressed(kept: bool) -> io::Result<Receiver<()>> {
        static HEARD: OnceLock<(Sender<()>, bool)> = OnceLock::new();

        unsafe extern "system" fn hear(event: u32) -> i32 {
            let Some((heard, kept)) = HEARD.get().filter(|_| event == CTRL_BREAK_EVENT) else { return 0 };
            let _ = heard.send(());
            (*kept).into()
        }

        let (sender, receiver) = channel();
        HEARD.set((sender, kept)).map_err(|_| io::ErrorKind::AlreadyExists)?;
        // SAFETY: the function is there as long as the process, and may be called by any thread.
        if unsafe { SetConsoleCtrlHandler(Some(hear), 1) } == 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(receiver)
        }
    }

    /// How many threads it has.
    pub(crate) fn threads() -> usize {
        // SAFETY: it takes no memory; of threads the system tells those of all processes.
        let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0) };
        assert_ne!(snapshot, INVALID_HANDLE_VALUE, "the system tells of its threads");
        let mut entry = THREADENTRY32 { dwSize: size_of::<THREADENTRY32>() as u32, ..Default::default() };
        let mut count = 0;
        // SAFETY: the snapshot is open, and the entry says its size.
        let mut more = unsafe { Thread32First(snapshot, &raw mut entry) };
        while more != 0 {
            count += usize::from(entry.th32OwnerProcessID == std::process::id());
            // SAFETY: the same.
            more = unsafe { Thread32Next(snapshot, &raw mut entry) };
        }
        // SAFETY: it is open, and used no more.
        unsafe { CloseHandle(snapshot) };
        count
    }
}

/// Whether the program runs under Wine, and not on Windows itself.
#[cfg(not(windows))]
pub(crate) fn is_wine() -> bool {
    false
}
