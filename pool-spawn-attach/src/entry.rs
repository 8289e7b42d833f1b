//! The worker's half: joins the pool that the environment names.

use std::env;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use interprocess::ConnectWaitMode;
use interprocess::local_socket::{ConnectOptions, Stream};
use pool_core::spawner::{Arrival, Entry};
use pool_core::transport::Ticket;

use crate::greeting::{Greeting, why_refused};
use crate::invitation::Invitation;
use crate::name::Name;
use crate::{NAME, platform};

/// Makes a process a worker of the pool whose [`Invitation`] is in its environment.
///
/// It waits until the pool needs it, and ends with the pool. Its standard input becomes empty. A program with rights
/// that its starter does not have (set-user-id) never joins.
///
/// On Linux the invitation is taken out of the environment if this process has no threads yet, and on Windows always;
/// else a program that this one starts finds it there too, and if it calls `init()`, fails to join with it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttachEntry;

/// Set when this process has asked once.
static ARRIVED: AtomicBool = AtomicBool::new(false);

impl Entry for AttachEntry {
    fn name(&self) -> &str {
        NAME
    }

    fn is_worker(&self) -> bool {
        let is_invited = env::var_os(Invitation::VARIABLE).is_some();
        is_invited && !ARRIVED.load(Ordering::Acquire) && !pool_os::is_elevated()
    }

    fn arrive(&self) -> Arrival {
        let is_worker = self.is_worker();
        ARRIVED.store(true, Ordering::Release);
        if !is_worker {
            return Arrival::NotAWorker;
        }
        let text = env::var_os(Invitation::VARIABLE).unwrap_or_default();
        pool_os::forget_variable(Invitation::VARIABLE);
        match text.to_string_lossy().parse() {
            Ok(invitation) => join(&invitation).unwrap_or_else(Arrival::Unusable),
            Err(why) => Arrival::Unusable(format!("{} is not an invitation: {why}", Invitation::VARIABLE)),
        }
    }
}

fn join(invitation: &Invitation) -> Result<Arrival, String> {
    let name = &invitation.name;
    let stream = connect(name).map_err(|error| format!("cannot join the pool `{name}`: {error}"))?;
    platform::check_host(&stream).map_err(|why| format!("this is not our pool, `{name}`: {why}"))?;
    // A worker that cannot say what it runs may be welcome all the same.
    let image = pool_image::identity().map(|image| image.bytes.clone()).unwrap_or_default();
    let greeting = Greeting { token: invitation.token.clone(), image };
    // If this fails, it was refused before it could say anything; the answer is there.
    let _ = (&stream).write_all(&greeting.encode());
    let arrival = match platform::arrive(&stream) {
        Ok(Some(arrival)) => arrival,
        Ok(None) => {
            let why = why_refused(&stream).unwrap_or_else(|_| "it does not say why".to_owned());
            return Err(format!("the pool `{name}` does not take this process: {why}"));
        }
        Err(error) => return Err(format!("the pool `{name}` ended before it needed this worker ({error})")),
    };
    Ok(match arrival {
        pool_os::Arrival::NotOurs => Arrival::Unusable(format!("the pool `{name}` admitted it without a ticket")),
        pool_os::Arrival::Unusable(why) => Arrival::Unusable(why),
        pool_os::Arrival::Parcel { parcel, last_words } => {
            Arrival::with(Ticket::unpack(&parcel.bytes, parcel.handles), |why| last_words.say(why))
        }
    })
}

fn connect(name: &Name) -> std::io::Result<Stream> {
    let options = ConnectOptions::new().name(name.to_socket_name()?);
    options.wait_mode(ConnectWaitMode::Timeout(KNOCKING)).connect_sync()
}

/// A pool answers the door much sooner.
const KNOCKING: Duration = Duration::from_secs(10);
