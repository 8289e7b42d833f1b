//! What a spawner's own tests need too: starting workers, and hearing from them.

use std::io::{PipeReader, Read};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use pool_core::spawner::{ExitReport, SpawnError, Spawner, Worker};
use pool_core::transport::{Handle, Ticket};

use super::jobs;

/// A started worker and the way its exit is reported.
pub struct Started {
    /// The worker.
    pub worker: Box<dyn Worker>,
    /// Takes the report.
    pub exit: Receiver<ExitReport>,
    patience: Duration,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").field("pid", &self.worker.pid()).finish_non_exhaustive()
    }
}

impl Started {
    /// Waits for the report.
    ///
    /// # Panics
    /// If it does not come.
    #[track_caller]
    pub fn report(&self) -> ExitReport {
        let report = self.exit.recv_timeout(self.patience).expect("the exit is reported");
        assert!(self.exit.recv_timeout(self.patience).is_err(), "and the callback is dropped then");
        report
    }
}

/// Starts a worker that does `job`.
///
/// # Errors
/// The spawner's.
pub fn start(
    spawner: &dyn Spawner,
    patience: Duration,
    job: &str,
    bytes: &[u8],
    handles: Vec<Handle>,
) -> Result<Started, SpawnError> {
    let (tell, exit) = mpsc::channel();
    let ticket = Ticket { transport: jobs::named(job), bytes: bytes.to_vec(), handles };
    // A case may have stopped to wait.
    let on_exit = Box::new(move |report| drop(tell.send(report)));
    spawner.spawn(ticket, on_exit).map(|worker| Started { worker, exit, patience })
}

/// Everything until the end.
///
/// # Panics
/// If that does not come.
#[track_caller]
pub fn read_all(patience: Duration, mut reader: impl Read + Send + 'static) -> String {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let result = reader.read_to_string(&mut text).map(|_| text);
        // The case may have stopped to wait.
        let _ = tell.send(result);
    });
    told.recv_timeout(patience).expect("the end comes").expect("it can be read")
}

/// The next `count` bytes.
///
/// # Panics
/// If the end comes first.
#[track_caller]
pub fn read_some(reader: &mut PipeReader, count: usize) -> String {
    let mut bytes = vec![0; count];
    reader.read_exact(&mut bytes).expect("so many bytes");
    String::from_utf8(bytes).expect("text")
}
