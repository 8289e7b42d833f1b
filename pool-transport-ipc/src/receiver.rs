//! The thread of a link: waits for the worker, then for what it sends, and delivers.

use std::fmt;
use std::io;
use std::sync::Arc;

use ipc_channel::IpcError;
use ipc_channel::ipc::{IpcMessage, IpcReceiver, IpcReceiverSet, IpcSelectionResult};
use pool_core::transport::Closed;

use crate::decoder::Decoder;
use crate::link::{Line, lock};
use crate::rendezvous::{self, Met, Server, contained};
use crate::wire::{Envelope, Header, Malformed};

/// The whole life of the thread.
pub(crate) fn run(line: Arc<Line>, woken: IpcReceiver<()>, server: Server) {
    let accepted = server.accept();
    rendezvous::remove(&line.address.name);
    if !line.take_over() {
        return;
    }
    let why = match Receiver::greet(&line, woken, accepted) {
        Ok(receiver) => receiver.run(),
        Err(why) => why,
    };
    line.finish(why);
}

/// What receives once the worker has connected.
struct Receiver {
    line: Arc<Line>,
    /// Holds what comes from the worker, and what wakes the thread. Made here, because it cannot be sent to
    /// another thread on Windows.
    set: IpcReceiverSet,
    /// The number of the worker's channel in the set.
    worker: u64,
    /// The worker's end is gone, and everything before that was taken out.
    has_ended: bool,
    /// Somebody wants the link to end.
    is_woken: bool,
    /// One of the two in the set is closed, and so no longer in it.
    is_one_closed: bool,
    decoder: Decoder,
}

impl Receiver {
    /// Takes the worker in. Whoever else has connected has used up the server: there will be no worker.
    fn greet(
        line: &Arc<Line>,
        woken: IpcReceiver<()>,
        accepted: io::Result<Result<Met, IpcError>>,
    ) -> Result<Self, Closed> {
        let stranger =
            |what: &str| Closed::Malformed(format!("a stranger has connected instead of the worker, {what}"));
        let caller = match accepted {
            Ok(Ok(Met::Caller(caller))) => caller,
            Ok(Ok(Met::Knock)) => return Err(stranger("to give up")),
            Ok(Err(IpcError::Disconnected)) => return Err(Closed::Eof),
            Ok(Err(IpcError::SerializationError(_))) => return Err(stranger("with words of its own")),
            Ok(Err(IpcError::Io(error))) | Err(error) => {
                return Err(Closed::Io(format!("cannot take the worker in: {}", shortage_or(error))));
            }
        };
        if caller.secret != line.address.secret {
            return Err(stranger("without the secret"));
        }
        let (to_worker, from_worker) = caller
            .into_ends()
            .map_err(|error| Closed::Io(format!("cannot take the worker in: {}", shortage_or(error))))?;
        let listening = contained(|| {
            let mut set = IpcReceiverSet::new()?;
            set.add(woken)?;
            let worker = set.add(from_worker)?;
            Ok((set, worker))
        });
        let (set, worker) = listening
            .flatten()
            .map_err(|error| Closed::Io(format!("cannot listen to the worker: {}", shortage_or(error))))?;
        let sent = lock(&line.out).connect(to_worker);
        line.judge(sent);
        let decoder = Decoder::new(line.address.frame_max);
        Ok(Self {
            line: Arc::clone(line),
            set,
            worker,
            has_ended: false,
            is_woken: false,
            is_one_closed: false,
            decoder,
        })
    }

    /// Works until the link ends.
    fn run(mut self) -> Closed {
        let why = match self.receive_all() {
            Ok(why) | Err(why) => why,
        };
        // On Windows a set of two aborts the process when it is dropped, if there is news of one of them. The call to
        // wake up is followed by the end of its channel: there are no forked copies there that could keep it open.
        self.line.wake();
        while cfg!(windows) && !self.is_one_closed {
            let Ok(results) = self.select() else { break };
            self.note(&results);
        }
        // Before the end is told: the worker sees it too by then. What closing may panic about is no news.
        let _ = contained(|| drop(self.set));
        why
    }

    /// Delivers what comes, until the end.
    fn receive_all(&mut self) -> Result<Closed, Closed> {
        // Whoever wanted the end before the worker had connected has left no wake-up call.
        while !self.has_ended && !self.is_woken && self.line.ending().is_none() {
            let results = self.select()?;
            self.take(results)?;
        }
        // What had arrived before the end was wanted may not have been seen yet. On Linux one look sees it all, on
        // Windows it takes as many as there are messages.
        for _ in 0..LAST_LOOKS {
            if self.has_ended {
                return Ok(if self.decoder.is_between_frames() { Closed::Eof } else { Closed::Truncated });
            }
            let Ok(Ok(results)) = contained(|| self.set.try_select()) else { break };
            self.take(results)?;
        }
        Ok(Closed::Ours)
    }

    fn select(&mut self) -> Result<Vec<IpcSelectionResult>, Closed> {
        let results = contained(|| self.set.select()).flatten();
        results.map_err(|error| Closed::Io(format!("cannot receive from the worker: {error}")))
    }

    fn take(&mut self, results: Vec<IpcSelectionResult>) -> Result<(), Closed> {
        self.note(&results);
        let mut delivered = 0;
        let mut failure = None;
        for result in results {
            let IpcSelectionResult::MessageReceived(from, message) = result else { continue };
            if from != self.worker {
                continue;
            }
            match self.deliver(message) {
                Ok(frames) => delivered += frames,
                Err(Malformed(why)) => {
                    failure = Some(Closed::Malformed(why));
                    break;
                }
            }
        }
        if delivered > 0 && !self.line.is_dropped() {
            self.line.events.drained();
        }
        failure.map_or(Ok(()), Err)
    }

    /// Looks for the worker's end and for the wake-up call, each of which comes once.
    fn note(&mut self, results: &[IpcSelectionResult]) {
        for result in results {
            self.is_one_closed |= matches!(result, IpcSelectionResult::ChannelClosed(_));
            match result {
                IpcSelectionResult::ChannelClosed(of) if *of == self.worker => self.has_ended = true,
                IpcSelectionResult::MessageReceived(of, _) if *of == self.worker => {}
                IpcSelectionResult::MessageReceived(..) | IpcSelectionResult::ChannelClosed(_) => {
                    self.is_woken = true;
                }
            }
        }
    }

    /// Delivers the frames that `message` completes, and says how many.
    fn deliver(&mut self, message: IpcMessage) -> Result<u64, Malformed> {
        let message = match contained(|| message.to::<Envelope>()) {
            Ok(Ok(Envelope(message))) => message,
            Ok(Err(error)) => return Err(Malformed(format!("a message that is none: {error}"))),
            Err(panic) => return Err(Malformed(panic.to_string())),
        };
        // First, so that the worker can go on while we deliver.
        let sent = lock(&self.line.out).received(&message)?;
        self.line.judge(sent);
        self.decoder.push(message, Header::BYTES);
        let mut frames = 0;
        // A callback may drop the link; it gets no more of what has already arrived then.
        while !self.line.is_dropped()
            && let Some(frame) = self.decoder.next()?
        {
            frames += 1;
            self.line.events.frame(frame);
        }
        Ok(frames)
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("line", &self.line).finish_non_exhaustive()
    }
}

/// The cause of `error`, if that is that descriptors have run out: those that come to a process without room are
/// lost on the way, which ipc-channel notices by finding fewer than it was told of.
fn shortage_or(error: io::Error) -> io::Error {
    match io::pipe() {
        Ok(_) => error,
        Err(shortage) => shortage,
    }
}

/// More messages than the credit allows a worker to have under way.
const LAST_LOOKS: usize = 200;
