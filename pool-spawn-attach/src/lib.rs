//! The Attach start method of process-pool: workers that somebody else starts, by hand, under a debugger or from
//! another terminal, and that join a pool by its name and a token.
//!
//! ```text
//!  pool                                                              worker, PROCESS_POOL_JOIN=name:token
//!  Attach: a named local socket; Invitations::issue ── by hand ───►  init(): AttachEntry
//!  Porter (a thread): accept ◄═══════════ connect ═════════════════  are you my user?
//!    your user? ── greeting: magic, version, token, image ◄════════
//!    known, unused, same program? ─► Lobby: waits for its turn, or refuse with the reason
//!  Attach::spawn: first of the Lobby ═══ admit: ticket, lifeline ══►  a worker like any other
//! ```
//!
//! [`Attach`] is a [`Spawner`](pool_core::spawner::Spawner) that starts nothing: it hands the ticket to a process that
//! has joined, or says that there is [none](pool_core::spawner::SpawnError::Vacant), and the pool asks again a little
//! later. So it goes with every transport. Who may join is settled before the pool hears of a process: a
//! stranger, of whatever kind, costs the pool nothing.
//!
//! This crate knows nothing of links and calls. Read on in `attach`, `porter` (the door), `lobby` (who is in),
//! `greeting` (the wire), `entry` (the worker's side), and in the file of your system.

mod attach;
mod entry;
mod greeting;
mod invitation;
mod lobby;
mod name;
mod porter;

#[cfg(unix)]
#[path = "unix.rs"]
mod platform;
#[cfg(windows)]
#[path = "windows.rs"]
mod platform;

pub use attach::Attach;
pub use entry::AttachEntry;
pub use invitation::{Invitation, Invitations, InviteError, NoInvitation};

/// The name of the start method.
const NAME: &str = "attach";
