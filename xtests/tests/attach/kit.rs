//! What the cases share: a pool with a door, hands that start workers, and patience.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use process_pool::carry::Pipe;
use process_pool::spawn::{Attach, Invitation, Invitations};
use process_pool::transport::Transport;
use process_pool::{Builder, Context, Executor, RestartLimit, TaskError, TaskHandle};

/// Longer than anything here takes on a busy machine, and shorter than the watchdog's limit.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// So soon that nobody can have waited for a deadline of the pool's own.
pub(crate) const PROMPTLY: Duration = Duration::from_secs(4);

/// Looks often whether somebody has come, and waits long for that.
pub(crate) fn builder(attach: Attach) -> Builder {
    builder_over(attach, Pipe::new())
}

pub(crate) fn builder_over(attach: Attach, transport: impl Transport + 'static) -> Builder {
    let limit = RestartLimit { backoff_max: Duration::from_millis(20), ..RestartLimit::default() };
    let builder = Executor::builder().context(Context::new(attach, transport));
    builder.restart_limit(limit).start_deadline(PATIENCE)
}

pub(crate) fn attach() -> Attach {
    Attach::new().expect("a door")
}

/// A pool that so many may join.
pub(crate) fn pool(max_workers: usize) -> (Executor, Invitations) {
    pool_of(attach(), max_workers)
}

pub(crate) fn pool_of(attach: Attach, max_workers: usize) -> (Executor, Invitations) {
    let invitations = attach.invitations();
    (builder(attach).max_workers(max_workers).build().expect("a pool"), invitations)
}

/// This program, to be started by hand.
pub(crate) fn program() -> Command {
    Command::new(std::env::current_exe().expect("a path"))
}

/// A worker that was started by hand. Killed if the case forgets about it.
pub(crate) struct Hand(Child);

impl Hand {
    pub(crate) fn starts(invitation: &Invitation) -> Self {
        Self::of(program().env(Invitation::VARIABLE, invitation.to_string()))
    }

    pub(crate) fn of(command: &mut Command) -> Self {
        Self(command.spawn().expect("it starts"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("it can be killed");
    }

    /// Waits for its end, and says how it came.
    #[track_caller]
    pub(crate) fn ends_within(&mut self, limit: Duration) -> std::process::ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.0.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "the worker is there after {limit:?}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        // Mostly it has ended long ago.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program that is not taken says on its standard error. It exits with 1, and soon.
#[track_caller]
pub(crate) fn is_turned_away(command: &mut Command, invitation: &str) -> String {
    let start = Instant::now();
    command.env(Invitation::VARIABLE, invitation).stdin(Stdio::null());
    let Output { status, stderr, stdout } = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(stdout.is_empty(), "it did not get beyond `init()`");
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    text
}

/// The result, or a failure that says so instead of a hang.
#[track_caller]
pub(crate) fn settled<R>(handle: &TaskHandle<R>) -> Result<R, TaskError> {
    handle.result_timeout(PATIENCE).expect("the call is settled in time")
}

/// Who answers.
#[track_caller]
pub(crate) fn asks_for_pid(pool: &Executor) -> TaskHandle<u32> {
    pool.submit(|()| std::process::id(), ()).expect("taken")
}
