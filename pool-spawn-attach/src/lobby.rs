//! Who may come in, and who has: tokens that are good, and workers that wait for the pool to need them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pool_os::Peer;

use crate::greeting::Greeting;
use crate::invitation::Token;
use crate::platform::Connection;

/// Shared by the start method, the porter and, weakly, whoever invites.
#[derive(Default)]
pub(crate) struct Lobby(Mutex<State>);

struct State {
    /// Not after the pool has ended.
    is_open: bool,
    is_any_program_welcome: bool,
    greeting_deadline: Duration,
    /// Given out and unused.
    tokens: Vec<Token>,
    waiting: VecDeque<Joined>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            is_open: true,
            is_any_program_welcome: false,
            greeting_deadline: Duration::from_secs(5),
            tokens: Vec::new(),
            waiting: VecDeque::new(),
        }
    }
}

/// A worker that has shown its token.
pub(crate) struct Joined {
    pub(crate) connection: Arc<Connection>,
    pub(crate) peer: Peer,
}

impl Lobby {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn welcome_any_program(&self) {
        self.lock().is_any_program_welcome = true;
    }

    pub(crate) fn is_any_program_welcome(&self) -> bool {
        self.lock().is_any_program_welcome
    }

    pub(crate) fn set_greeting_deadline(&self, deadline: Duration) {
        self.lock().greeting_deadline = deadline;
    }

    pub(crate) fn greeting_deadline(&self) -> Duration {
        self.lock().greeting_deadline
    }

    /// Makes a token good. False if it is too late for that.
    pub(crate) fn expect(&self, token: Token) -> bool {
        let mut state = self.lock();
        if state.is_open {
            state.tokens.push(token);
        }
        state.is_open
    }

    /// Lets a worker in, and takes its token.
    ///
    /// # Errors
    /// Why it may not come in. The token, if it is a good one, stays good: its owner may have taken the wrong program.
    pub(crate) fn enter(&self, greeting: &Greeting, joined: Joined) -> Result<(), (&'static str, Joined)> {
        let mut state = self.lock();
        // All of them, so that the time it takes tells nothing.
        let found = state
            .tokens
            .iter()
            .enumerate()
            .fold(None, |found, (index, token)| if token.is(&greeting.token) { Some(index) } else { found });
        let Some(index) = found else {
            return Err(("its token is not known here: it is wrong, or was used before", joined));
        };
        if !state.is_any_program_welcome
            && let Some(why) = is_another_program(&greeting.image)
        {
            return Err((why, joined));
        }
        state.tokens.swap_remove(index);
        state.waiting.push_back(joined);
        Ok(())
    }

    /// The worker that has waited longest.
    pub(crate) fn take(&self) -> Option<Joined> {
        self.lock().waiting.pop_front()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// The connections of those who wait.
    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        self.lock().waiting.iter().map(|joined| Arc::clone(&joined.connection)).collect()
    }

    /// Sends away whoever has hung up, or says something unasked.
    pub(crate) fn tidy(&self) {
        self.lock().waiting.retain(|joined| joined.connection.is_quiet());
    }

    /// Lets nobody in any more, and sends away those who wait.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_open = false;
        state.tokens.clear();
        state.waiting.clear();
    }
}

/// Why a worker that runs this image is none of ours, if it is none.
fn is_another_program(image: &[u8]) -> Option<&'static str> {
    match pool_image::identity() {
        Ok(ours) if ours.bytes == image => None,
        Ok(_) => Some(
            "it runs another program than the pool, or another build of it; both must be the same file \
             (`Attach::any_program` takes others, for named tasks)",
        ),
        Err(_) => Some("the pool cannot tell just now what program it runs itself"),
    }
}
