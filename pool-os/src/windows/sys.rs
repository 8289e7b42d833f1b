//! The calls, as safe functions over handles.

use std::cmp::Ordering;
use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, IntoRawHandle, OwnedHandle, RawHandle};
use std::ptr;
use std::time::Duration;

use windows_sys::Win32::Foundation::{
    DUPLICATE_SAME_ACCESS, DuplicateHandle, HANDLE, HANDLE_FLAG_INHERIT, INVALID_HANDLE_VALUE,
    SetHandleInformation, WAIT_OBJECT_0,
};
use windows_sys::Win32::Globalization::{CSTR_EQUAL, CSTR_LESS_THAN, CompareStringOrdinal};
use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, GetConsoleProcessList, GetStdHandle, STD_ERROR_HANDLE, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE,
    SetConsoleCtrlHandler, SetStdHandle,
};
use windows_sys::Win32::System::Diagnostics::Debug::{
    GetErrorMode, SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX, SetErrorMode,
};
use windows_sys::Win32::System::JobObjects::{
    CreateJobObjectW, JOB_OBJECT_LIMIT_BREAKAWAY_OK, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation, SetInformationJobObject,
};
use windows_sys::Win32::System::Pipes::{CreatePipe, PeekNamedPipe};
use windows_sys::Win32::System::Threading::{
    CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW, CREATE_UNICODE_ENVIRONMENT, CreateProcessW,
    DeleteProcThreadAttributeList, EXTENDED_STARTUPINFO_PRESENT, GetCurrentProcess, GetExitCodeProcess, INFINITE,
    InitializeProcThreadAttributeList, OpenProcess, PROC_THREAD_ATTRIBUTE_HANDLE_LIST,
    PROC_THREAD_ATTRIBUTE_JOB_LIST, PROCESS_DUP_HANDLE, PROCESS_INFORMATION, PROCESS_SYNCHRONIZE,
    PROCESS_TERMINATE, STARTF_USESTDHANDLES, STARTUPINFOEXW, TerminateProcess, UpdateProcThreadAttribute,
    WaitForSingleObject,
};
use windows_sys::core::BOOL;

/// A pipe that takes `size` bytes before a writer waits: the end to read from, the end to write to. Neither
/// can be inherited.
pub(super) fn create_pipe(size: u32) -> io::Result<(OwnedHandle, OwnedHandle)> {
    let (mut reader, mut writer) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: both places are writable; no security attributes means the default, not inheritable.
    check(unsafe { CreatePipe(&raw mut reader, &raw mut writer, ptr::null(), size) })?;
    Ok((own(reader), own(writer)))
}

/// Copies what lies first in a pipe without taking it; returns how much lies there in all.
pub(super) fn peek(pipe: BorrowedHandle<'_>, into: &mut [u8]) -> io::Result<usize> {
    let (buffer, len) = (into.as_mut_ptr().cast::<c_void>(), into.len() as u32);
    let mut waiting = 0;
    // SAFETY: `buffer` is writable for `len` bytes and `waiting` is writable; other answers are not asked for.
    check(unsafe {
        PeekNamedPipe(pipe.as_raw_handle(), buffer, len, ptr::null_mut(), &raw mut waiting, ptr::null_mut())
    })?;
    Ok(waiting as usize)
}

/// This process's standard input, if it has one.
pub(super) fn standard_input() -> Option<BorrowedHandle<'static>> {
    standard(STD_INPUT_HANDLE)
}

/// This process's standard output, if it has one.
pub(super) fn standard_output() -> Option<BorrowedHandle<'static>> {
    standard(STD_OUTPUT_HANDLE)
}

/// This process's standard error, if it has one.
pub(super) fn standard_error() -> Option<BorrowedHandle<'static>> {
    standard(STD_ERROR_HANDLE)
}

fn standard(which: u32) -> Option<BorrowedHandle<'static>> {
    // SAFETY: the call has no preconditions.
    let handle = unsafe { GetStdHandle(which) };
    if handle.is_null() || handle == INVALID_HANDLE_VALUE {
        return None;
    }
    // SAFETY: a standard handle stays open as long as the process lives, unless somebody breaks what all
    // programs rely on.
    Some(unsafe { BorrowedHandle::borrow_raw(handle) })
}

/// Makes `handle` this process's standard input, for good.
pub(super) fn set_standard_input(handle: OwnedHandle) -> io::Result<()> {
    // SAFETY: the handle is open, and as it was given up here it stays so.
    check(unsafe { SetStdHandle(STD_INPUT_HANDLE, handle.into_raw_handle()) })
}

/// Lets no child inherit `handle`.
pub(super) fn disinherit(handle: BorrowedHandle<'_>) -> io::Result<()> {
    // SAFETY: the handle is open.
    check(unsafe { SetHandleInformation(handle.as_raw_handle(), HANDLE_FLAG_INHERIT, 0) })
}

/// A duplicate that children on whose list it is inherit.
pub(super) fn inheritable(handle: BorrowedHandle<'_>) -> io::Result<OwnedHandle> {
    let mut copy: RawHandle = ptr::null_mut();
    // SAFETY: the handle is open, the others stand for this process; `copy` is writable.
    check(unsafe {
        let this = this_process();
        DuplicateHandle(this, handle.as_raw_handle(), this, &raw mut copy, 0, 1, DUPLICATE_SAME_ACCESS)
    })?;
    Ok(own(copy))
}

/// How names that the system takes for the same in either case are ordered.
pub(super) fn compare_ignoring_case(one: &[u16], other: &[u16]) -> Ordering {
    let (one_len, other_len) = (one.len() as i32, other.len() as i32);
    // SAFETY: both are readable for their lengths.
    match unsafe { CompareStringOrdinal(one.as_ptr(), one_len, other.as_ptr(), other_len, 1) } {
        CSTR_EQUAL => Ordering::Equal,
        CSTR_LESS_THAN => Ordering::Less,
        _ => Ordering::Greater,
    }
}

/// What a process is made from. All text ends with a zero.
pub(super) struct Start<'a> {
    pub(super) program: &'a [u16],
    pub(super) line: &'a mut [u16],
    pub(super) environment: &'a [u16],
    pub(super) folder: Option<&'a [u16]>,
}

/// Makes a process that inherits these standard streams, which can be inherited, and no other handle, and that is in `job`
/// from its first instruction on. Returns its number and a handle to it.
pub(super) fn create_process(
    start: &mut Start<'_>,
    streams: [Option<BorrowedHandle<'_>>; 3],
    job: Option<BorrowedHandle<'_>>,
) -> io::Result<(u32, OwnedHandle)> {
    assert!(start.program.ends_with(&[0]) && start.line.ends_with(&[0]), "invariant: text ends with a zero");
    assert!(start.environment.ends_with(&[0, 0]), "invariant: an environment ends with two zeros");
    assert!(start.folder.is_none_or(|folder| folder.ends_with(&[0])), "invariant: text ends with a zero");
    let raw = streams.map(|stream| stream.map_or(ptr::null_mut(), |stream| stream.as_raw_handle()));
    let inherited: Vec<HANDLE> = raw.into_iter().filter(|handle| !handle.is_null()).collect();
    let jobs: Vec<HANDLE> = job.iter().map(AsRawHandle::as_raw_handle).collect();
    let mut attributes = Attributes::new([
        (PROC_THREAD_ATTRIBUTE_HANDLE_LIST, &inherited),
        (PROC_THREAD_ATTRIBUTE_JOB_LIST, &jobs),
    ])?;
    let mut info = STARTUPINFOEXW::default();
    info.StartupInfo.cb = size_of_val(&info) as u32;
    info.StartupInfo.dwFlags = STARTF_USESTDHANDLES;
    [info.StartupInfo.hStdInput, info.StartupInfo.hStdOutput, info.StartupInfo.hStdError] = raw;
    info.lpAttributeList = attributes.list();
    let mut made = PROCESS_INFORMATION::default();
    // In a group of its own, a worker does not hear the console's Ctrl-C: that is for the parent to decide on.
    let mut flags = CREATE_UNICODE_ENVIRONMENT | EXTENDED_STARTUPINFO_PRESENT | CREATE_NEW_PROCESS_GROUP;
    if !has_console() {
        // A console program would get a window of its own. (For others the flag means nothing.)
        flags |= CREATE_NO_WINDOW;
    }
    // SAFETY: all texts end as asserted and live through the call, the line is writable; `info` is the extended
    // form, as the flag says, with an initialised list; `made` is writable.
    check(unsafe {
        CreateProcessW(
            start.program.as_ptr(),
            start.line.as_mut_ptr(),
            ptr::null(),
            ptr::null(),
            1,
            flags,
            start.environment.as_ptr().cast(),
            start.folder.map_or(ptr::null(), <[u16]>::as_ptr),
            (&raw const info).cast(),
            &raw mut made,
        )
    })?;
    drop(own(made.hThread));
    Ok((made.dwProcessId, own(made.hProcess)))
}

/// Whether this process has a console, which its children share.
fn has_console() -> bool {
    let mut pid = 0;
    // SAFETY: `pid` is writable for one.
    unsafe { GetConsoleProcessList(&raw mut pid, 1) > 0 }
}

/// A list of what a process gets: handles of one kind for each attribute. One without any is left out.
struct Attributes<'a> {
    /// Words, so that it is aligned for whatever the system keeps in it.
    memory: Vec<usize>,
    /// The list refers to them.
    _handles: PhantomData<&'a [HANDLE]>,
}

impl<'a> Attributes<'a> {
    fn new<const N: usize>(attributes: [(u32, &'a [HANDLE]); N]) -> io::Result<Self> {
        let mut size = 0;
        // SAFETY: without a list it only tells the size; that it "fails" in doing so is documented.
        let _ = unsafe { InitializeProcThreadAttributeList(ptr::null_mut(), N as u32, 0, &raw mut size) };
        let mut memory = vec![0_usize; size.div_ceil(size_of::<usize>())];
        // SAFETY: the memory is writable for the size that was asked for.
        check(unsafe {
            InitializeProcThreadAttributeList(memory.as_mut_ptr().cast(), N as u32, 0, &raw mut size)
        })?;
        let mut this = Self { memory, _handles: PhantomData };
        for (which, handles) in attributes {
            if handles.is_empty() {
                continue;
            }
            let (which, value, len) = (which as usize, handles.as_ptr().cast(), size_of_val(handles));
            // SAFETY: the list is initialised and has room for as many; the handles live as long as it, by its lifetime.
            check(unsafe {
                UpdateProcThreadAttribute(this.list(), 0, which, value, len, ptr::null_mut(), ptr::null())
            })?;
        }
        Ok(this)
    }

    fn list(&mut self) -> *mut c_void {
        self.memory.as_mut_ptr().cast()
    }
}

impl Drop for Attributes<'_> {
    fn drop(&mut self) {
        // SAFETY: it was initialised when it was made.
        unsafe { DeleteProcThreadAttributeList(self.list()) }
    }
}

/// The exit code of a process that has ended.
pub(super) fn exit_code(process: BorrowedHandle<'_>) -> io::Result<u32> {
    let mut code = 0;
    // SAFETY: the handle is open, and `code` is writable.
    check(unsafe { GetExitCodeProcess(process.as_raw_handle(), &raw mut code) })?;
    Ok(code)
}

/// Puts a duplicate of `handle` into another process; returns its number there.
pub(super) fn put_into(process: BorrowedHandle<'_>, handle: BorrowedHandle<'_>) -> io::Result<u64> {
    duplicate(process, handle.as_raw_handle(), 0, DUPLICATE_SAME_ACCESS)
}

/// Puts a handle to this process into another one, good for waiting only.
pub(super) fn put_self_into(process: BorrowedHandle<'_>) -> io::Result<u64> {
    duplicate(process, this_process(), PROCESS_SYNCHRONIZE, 0)
}

fn duplicate(process: BorrowedHandle<'_>, handle: RawHandle, access: u32, options: u32) -> io::Result<u64> {
    let mut number: RawHandle = ptr::null_mut();
    // SAFETY: all three handles are open, or stand for this process; `number` is writable. The duplicate is
    // not inheritable.
    check(unsafe {
        let (from, to) = (this_process(), process.as_raw_handle());
        DuplicateHandle(from, handle, to, &raw mut number, access, 0, options)
    })?;
    Ok(number as usize as u64)
}

/// Takes over a handle that the parent has [put](put_into) into this process.
pub(super) fn adopt(number: u64) -> OwnedHandle {
    own(number as usize as RawHandle)
}

fn own(handle: RawHandle) -> OwnedHandle {
    // SAFETY: the callers have it from whoever made it for this process, as its only owner: the system just
    // now, or the parent, whose message says so and is read once.
    unsafe { OwnedHandle::from_raw_handle(handle) }
}

/// A job that ends the process in it when its last handle is closed, and what that has started, but for what was to
/// break away.
pub(super) fn create_job() -> io::Result<OwnedHandle> {
    // SAFETY: no attributes and no name are asked for.
    let job = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
    if job.is_null() {
        return Err(io::Error::last_os_error());
    }
    let job = own(job);
    let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | JOB_OBJECT_LIMIT_BREAKAWAY_OK;
    let len = size_of_val(&limits) as u32;
    // SAFETY: the job is open, and `limits` is of the type and length that go with the class.
    check(unsafe {
        let limits = (&raw const limits).cast::<c_void>();
        SetInformationJobObject(job.as_raw_handle(), JobObjectExtendedLimitInformation, limits, len)
    })?;
    Ok(job)
}

/// Waits for the end of `process`; false if `limit` comes first.
pub(super) fn wait(process: BorrowedHandle<'_>, limit: Option<Duration>) -> bool {
    let limit = limit.map_or(INFINITE, |limit| limit.as_millis() as u32);
    // SAFETY: the handle is open.
    let outcome = unsafe { WaitForSingleObject(process.as_raw_handle(), limit) };
    outcome == WAIT_OBJECT_0
}

/// Ends `process` at once.
pub(super) fn terminate(process: BorrowedHandle<'_>) -> io::Result<()> {
    // SAFETY: the handle is open.
    check(unsafe { TerminateProcess(process.as_raw_handle(), KILLED) })
}

/// Opens a process to wait for it, to end it and to put handles into it.
pub(super) fn open_process(pid: u32) -> io::Result<OwnedHandle> {
    let access = PROCESS_SYNCHRONIZE | PROCESS_TERMINATE | PROCESS_DUP_HANDLE;
    // SAFETY: the call takes any number; the handle is not to be inherited.
    let process = unsafe { OpenProcess(access, 0, pid) };
    if process.is_null() { Err(io::Error::last_os_error()) } else { Ok(own(process)) }
}

/// Takes a variable out of this process's environment.
pub(super) fn remove_variable(name: &str) {
    // SAFETY: on Windows this is sound at any time, says its documentation: the system guards the environment.
    unsafe { std::env::remove_var(name) };
}

/// Lets this process crash at once and without a window. Else Windows may show one first, and keep the process until
/// somebody has closed it.
pub(super) fn crash_silently() {
    // SAFETY: it has no preconditions.
    let mode = unsafe { GetErrorMode() };
    // SAFETY: the same; what is added are flags that are there for this.
    unsafe { SetErrorMode(mode | SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX) };
}

/// Keeps Ctrl-Break, which reaches every process at a console whatever its group, from ending this one. Handlers that are
/// set later are asked first.
pub(super) fn leave_ctrl_break_to_the_parent() -> io::Result<()> {
    unsafe extern "system" fn take(event: u32) -> BOOL {
        (event == CTRL_BREAK_EVENT).into()
    }

    // SAFETY: the function is there as long as the process, and any thread may call it: it touches nothing.
    check(unsafe { SetConsoleCtrlHandler(Some(take), 1) })
}

/// Ends this process at once.
pub(super) fn terminate_self() -> ! {
    // SAFETY: the handle stands for this process.
    unsafe { TerminateProcess(this_process(), KILLED) };
    std::process::abort()
}

fn this_process() -> RawHandle {
    // SAFETY: the call has no preconditions; what it returns is a constant and need not be closed.
    unsafe { GetCurrentProcess() }
}

fn check(ok: i32) -> io::Result<()> {
    if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The exit code of a process that was ended by us, which nobody else uses: of the form that the system leaves to
/// applications.
const KILLED: u32 = crate::KILLED.cast_unsigned();
