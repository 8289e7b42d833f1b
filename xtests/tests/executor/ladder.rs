//! The end of a pool that does not wait for ever: finish, terminate, a grace, kill.

use std::sync::{Arc, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use process_pool::error::{Stopped, StoppedBy};
use process_pool::{CallOptions, Executor, Shutdown, ShutdownReport, SubmitError, TaskError, TaskHandle};
use xtests::calls::{run, same, submit};
use xtests::gate::{Gate, PATIENCE, Visitor, wait_at};
use xtests::processes::is_there;
use xtests::runner::Subject;

use crate::tools::all_there;

/// Short for people, long for a machine.
const SHORT: Duration = Duration::from_millis(50);

/// No case waits for that.
const LONG: Duration = Duration::from_secs(3600);

const WITHIN: Shutdown =
    Shutdown { wait: true, cancel_futures: false, timeout: Some(SHORT), grace: Some(Duration::from_millis(100)) };

/// For calls: arrives at the gate as one that `SIGTERM` does not end.
pub(crate) fn wait_deaf_at(port: u16) {
    #[cfg(unix)]
    // SAFETY: no handler is installed.
    unsafe {
        libc::signal(libc::SIGTERM, libc::SIG_IGN)
    };
    wait_at(port);
}

#[track_caller]
fn stopped<R: std::fmt::Debug>(handle: TaskHandle<R>) -> Stopped {
    match handle.result() {
        Err(TaskError::Stopped(stopped)) => *stopped,
        other => panic!("{other:?}"),
    }
}

fn pids(ends: &[process_pool::WorkerEnd]) -> Vec<Option<u32>> {
    ends.iter().map(|end| end.pid).collect()
}

/// Two busy workers, one of them deaf to `SIGTERM`, and ten calls that wait.
struct Stuck {
    pool: Executor,
    running: TaskHandle<()>,
    deaf: TaskHandle<()>,
    visitors: [Visitor; 2],
    waiting: Vec<TaskHandle<u64>>,
}

fn stuck(subject: &Subject) -> Stuck {
    let (pool, gate) = (subject.pool(2), Gate::new());
    let running = submit(&pool, wait_at, gate.port());
    let first = gate.arrival();
    let deaf = submit(&pool, wait_deaf_at, gate.port());
    let visitors = [first, gate.arrival()];
    let waiting = (0..10).map(|n| submit(&pool, same, n)).collect();
    Stuck { pool, running, deaf, visitors, waiting }
}

pub(crate) fn a_shutdown_finishes_then_terminates_then_kills(subject: &Subject) {
    let Stuck { pool, running, deaf, visitors, waiting } = stuck(subject);
    let start = Instant::now();
    // Enough for the one that is not deaf, on a busy machine too.
    let grace = Duration::from_secs(1);
    let report = pool.shutdown(Shutdown { grace: Some(grace), ..WITHIN });
    assert!(start.elapsed() >= SHORT && report.complete);
    assert!(visitors.iter().all(|visitor| !is_there(visitor.pid)));
    let [first, second] = visitors.each_ref().map(|visitor| Some(visitor.pid));
    if cfg!(unix) {
        assert!(start.elapsed() >= SHORT + grace);
        assert_eq!((pids(&report.terminated), pids(&report.killed)), (vec![first], vec![second]), "{report:?}");
    }
    assert_eq!((report.finished, report.cancelled, report.lost), (0, 10, 2));
    assert!(report.ended.is_empty());
    for (handle, pid) in [(running, first), (deaf, second)] {
        let text = handle.error().expect("it has failed").to_string();
        assert!(text.contains("wait_") && text.contains("took longer than 50ms"), "{text}");
        let stopped = stopped(handle);
        assert_eq!((stopped.by, stopped.pid), (StoppedBy::Shutdown(SHORT), pid));
    }
    assert!(waiting.into_iter().all(|handle| matches!(handle.result(), Err(TaskError::Cancelled))));
}

/// What the clock cannot count to never comes.
pub(crate) fn the_longest_times_do_no_harm(subject: &Subject) {
    let builder = || {
        let long = subject.builder().max_workers(2).start_deadline(Duration::MAX).stop_grace(Duration::MAX);
        long.exit_grace(Duration::MAX).idle_timeout(Duration::MAX)
    };
    let options =
        || CallOptions::new().total_limit(Duration::MAX).time_limit(Duration::MAX).soft_limit(Duration::MAX);
    let pool = builder().call_options(options()).build().expect("a pool");
    assert_eq!(run(&pool, same, 7), 7);
    let report = pool.shutdown(Shutdown {
        timeout: Some(Duration::MAX),
        grace: Some(Duration::MAX),
        ..Shutdown::default()
    });
    assert!(report.complete);
    let (pool, gate) = (builder().build().expect("a pool"), Gate::new());
    let running = submit(&pool, wait_at, gate.port());
    let _visitor = gate.arrival();
    let report = pool.shutdown(Shutdown {
        wait: false,
        timeout: Some(SHORT),
        grace: Some(Duration::MAX),
        ..Shutdown::default()
    });
    assert!(!report.complete);
    pool.interrupt();
    pool.interrupt();
    assert!(running.result().is_err());
}

pub(crate) fn a_shutdown_that_is_done_in_time_says_so(subject: &Subject) {
    let pool = subject.pool(2);
    let mut pids = all_there(&pool);
    let handles: Vec<_> = (0..50).map(|n| submit(&pool, same, n)).collect();
    let report = pool.shutdown(Shutdown { timeout: Some(LONG), ..Shutdown::default() });
    assert!(report.complete && report.finished <= 50);
    assert_eq!((report.cancelled, report.lost), (0, 0));
    assert!(report.terminated.is_empty() && report.killed.is_empty(), "{report:?}");
    let mut ended: Vec<_> = report.ended.iter().filter_map(|end| end.pid).collect();
    ended.sort_unstable();
    pids.sort_unstable();
    assert_eq!(ended, pids);
    assert!(handles.into_iter().all(|handle| handle.result().is_ok()));
    assert_eq!(pool.shutdown(Shutdown::default()), report, "nothing has changed since");
}

pub(crate) fn a_shutdown_goes_on_behind_the_callers_back(subject: &Subject) {
    let Stuck { pool, running, deaf, visitors, .. } = stuck(subject);
    let report = pool.shutdown(Shutdown { wait: false, ..WITHIN });
    assert!(!report.complete);
    assert_eq!(stopped(running).by, StoppedBy::Shutdown(SHORT));
    assert_eq!(stopped(deaf).by, StoppedBy::Shutdown(SHORT));
    assert!(visitors.iter().all(|visitor| visitor.is_gone_within(PATIENCE)));
    let report = pool.shutdown(Shutdown::default());
    assert!(report.complete);
    assert_eq!(report.terminated.len() + report.killed.len(), 2);
}

/// Who waits without a timeout is freed by one who has one.
pub(crate) fn of_several_shutdowns_the_strictest_holds_for_all(subject: &Subject) {
    let Stuck { pool, running, deaf, visitors: _visitors, .. } = stuck(subject);
    let timeouts = [None, Some(LONG), Some(SHORT), Some(LONG), None];
    let reports: Vec<ShutdownReport> = std::thread::scope(|scope| {
        let pool = &pool;
        let ask = |timeout| scope.spawn(move || pool.shutdown(Shutdown { timeout, ..WITHIN }));
        let asked: Vec<_> = timeouts.into_iter().map(ask).collect();
        asked.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
    });
    assert!(reports.iter().all(|report| report.complete && *report == reports[0]), "{reports:?}");
    assert_eq!(reports[0].lost, 2);
    assert_eq!(stopped(running).by, StoppedBy::Shutdown(SHORT));
    assert_eq!(stopped(deaf).by, StoppedBy::Shutdown(SHORT));
}

pub(crate) fn a_callback_can_shut_down_within_a_time(subject: &Subject) {
    let (pool, gate) = (Arc::new(subject.pool(2)), Gate::new());
    let stuck = submit(&pool, wait_deaf_at, gate.port());
    let _visitor = gate.arrival();
    let (handle, (sender, said)) = (submit(&pool, wait_at, gate.port()), mpsc::channel());
    let visitor = gate.arrival();
    let inner = Arc::clone(&pool);
    handle.add_done_callback(move |_| sender.send(inner.shutdown(WITHIN)).expect("the case listens"));
    visitor.pass();
    let report = said.recv_timeout(PATIENCE).expect("it returns");
    assert!(report.complete && report.lost == 1, "{report:?}");
    assert_eq!(stopped(stuck).by, StoppedBy::Shutdown(SHORT));
}

struct ShutsDown(Executor, mpsc::Sender<ShutdownReport>);

impl Wake for ShutsDown {
    fn wake(self: Arc<Self>) {
        self.1.send(self.0.shutdown(Shutdown::default())).expect("the case listens");
    }
}

/// It may run on the very thread that has to learn of the workers' ends.
pub(crate) fn a_waker_can_shut_the_pool_down(subject: &Subject) {
    let (pool, gate) = (subject.pool(2), Gate::new());
    let mut handle = submit(&pool, wait_at, gate.port());
    let (visitor, last) = (gate.arrival(), submit(&pool, same, 5));
    let (sender, said) = mpsc::channel();
    let shuts_down = Arc::new(ShutsDown(pool, sender));
    let waker = Waker::from(Arc::clone(&shuts_down));
    assert!(std::pin::pin!(&mut handle).poll(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    visitor.pass();
    said.recv_timeout(PATIENCE).expect("it returns");
    assert_eq!(last.result().expect("it was submitted before"), 5);
    assert!(shuts_down.0.shutdown(Shutdown::default()).complete);
}

/// What does not run hears nothing, but for the last signal.
#[cfg(target_os = "linux")]
pub(crate) fn a_stopped_worker_is_killed(subject: &Subject) {
    use rustix::process::{Pid, Signal, kill_process};

    let (pool, gate) = (subject.pool(1), Gate::new());
    let handle = submit(&pool, wait_at, gate.port());
    let visitor = gate.arrival();
    kill_process(Pid::from_raw(visitor.pid.cast_signed()).expect("a process id"), Signal::STOP).expect("sent");
    let report = pool.shutdown(WITHIN);
    assert_eq!(pids(&report.killed), [Some(visitor.pid)], "{report:?}");
    let stopped = stopped(handle);
    assert_eq!((stopped.by, stopped.exit), (StoppedBy::Shutdown(SHORT), process_pool::error::Exit::Signal(9)));
}

/// For calls: arrives at the gate, and waits for `SIGTERM`.
#[cfg(unix)]
fn wait_for_the_signal_at(port: u16) -> bool {
    use std::sync::atomic::{AtomicBool, Ordering};

    static HEARD: AtomicBool = AtomicBool::new(false);

    extern "C" fn hear(_: libc::c_int) {
        HEARD.store(true, Ordering::Release);
    }

    // SAFETY: the handler stores to an atomic, which is allowed in one, and is of the right type.
    unsafe { libc::signal(libc::SIGTERM, hear as *const () as libc::sighandler_t) };
    // A read there would begin anew after the signal.
    std::thread::spawn(move || wait_at(port));
    while !HEARD.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// The grace is for calls that know what they are asked for.
#[cfg(unix)]
pub(crate) fn a_call_that_hears_the_signal_can_end_in_time(subject: &Subject) {
    let (pool, gate) = (subject.pool(1), Gate::new());
    let handle = submit(&pool, wait_for_the_signal_at, gate.port());
    let visitor = gate.arrival();
    let report = pool.shutdown(Shutdown { grace: Some(LONG), ..WITHIN });
    assert!(handle.result().expect("it was given the time"));
    assert_eq!((report.finished, report.lost), (1, 0));
    assert_eq!(pids(&report.terminated), [Some(visitor.pid)], "{report:?}");
}

pub(crate) fn an_interruption_ends_everything_at_once(subject: &Subject) {
    let Stuck { pool, running, deaf, visitors, waiting } = stuck(subject);
    pool.interrupt();
    assert!(waiting.into_iter().all(|handle| matches!(handle.result(), Err(TaskError::Cancelled))));
    assert!(matches!(pool.submit(same, 1), Err(SubmitError::ShutDown)));
    let text = stopped(running).to_string();
    assert!(text.contains("the pool was interrupted"), "{text}");
    if cfg!(unix) {
        assert!(!deaf.done(), "it has the pool's grace");
    }
    pool.interrupt();
    let second = stopped(deaf);
    assert_eq!((second.by, second.pid), (StoppedBy::Interrupt, Some(visitors[1].pid)));
    let report = pool.shutdown(Shutdown::default());
    assert_eq!((report.cancelled, report.lost), (10, 2));
    pool.interrupt();
}

/// Whoever waits is told, wherever the pool is just then.
pub(crate) fn an_interruption_amid_submits_settles_all(subject: &Subject) {
    for n in 0..10 {
        let pool = subject.pool(2);
        let handles = std::thread::scope(|scope| {
            let submits = scope.spawn(|| (0..500).map_while(|n| pool.submit(same, n).ok()).collect::<Vec<_>>());
            if n % 2 == 0 {
                drop(pool.submit(same, 1).map(TaskHandle::result));
            }
            pool.interrupt();
            submits.join().expect("it does not panic")
        });
        assert!(pool.shutdown(Shutdown::default()).complete);
        for handle in handles {
            let result = handle.result();
            assert!(
                matches!(result, Ok(_) | Err(TaskError::Cancelled | TaskError::Stopped(_))),
                "a short call is done, or was not begun, or went down: {result:?}"
            );
        }
    }
}
