//! What somebody needs to know to join a pool, and whoever gives that out.

use std::fmt::{self, Write};
use std::io;
use std::str::FromStr;
use std::sync::Weak;

use crate::lobby::Lobby;
use crate::name::Name;

/// A way into a pool for one worker: the pool's name, and a token that is good once.
///
/// Its text is what the worker program wants to find in the environment variable [`VARIABLE`](Self::VARIABLE). Whoever
/// reads it may use it, if that is a process of the same user: treat it like a password for as long as it is unused.
#[derive(Clone)]
pub struct Invitation {
    pub(crate) name: Name,
    pub(crate) token: Token,
}

impl Invitation {
    /// The environment variable that makes a program's `init()` join a pool.
    pub const VARIABLE: &str = "PROCESS_POOL_JOIN";
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.name)?;
        self.token.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Without the token: what is printed for debugging ends up in places that others read.
impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation").field("name", &self.name.to_string()).finish_non_exhaustive()
    }
}

/// A text that is not an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it should be a pool's name, a colon and {} hexadecimal digits", 2 * Token::LEN)]
pub struct NoInvitation(());

impl FromStr for Invitation {
    type Err = NoInvitation;

    fn from_str(text: &str) -> Result<Self, NoInvitation> {
        // A path may have colons in it, a token has none.
        let (name, token) = text.trim().rsplit_once(':').ok_or(NoInvitation(()))?;
        let token = Token::parse(token).filter(|_| !name.is_empty()).ok_or(NoInvitation(()))?;
        Ok(Self { name: Name::parse(name), token })
    }
}

/// What an invitation is checked by.
#[derive(Clone)]
pub(crate) struct Token(pub(crate) [u8; Self::LEN]);

impl Token {
    pub(crate) const LEN: usize = 32;

    fn random() -> io::Result<Self> {
        let mut token = [0; Self::LEN];
        getrandom::fill(&mut token).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self(token))
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let mut token = [0; Self::LEN];
        if digits.len() != 2 * Self::LEN || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in token.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(token))
    }

    /// Takes as long for a token that is nearly right as for any other.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let differences = self.0.iter().zip(&other.0).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
        std::hint::black_box(differences) == 0
    }
}

/// Why there is no invitation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InviteError {
    /// The pool has ended.
    #[error("the pool has ended")]
    Ended,
    /// The operating system gave no random numbers for a token.
    #[error("no random numbers for a token: {0}")]
    Random(io::Error),
}

/// Gives out invitations to one pool, for as long as that exists.
///
/// It is got from an [`Attach`](crate::Attach) before that goes into its pool. Clones are the same.
#[derive(Clone)]
pub struct Invitations {
    pub(crate) name: Name,
    pub(crate) lobby: Weak<Lobby>,
}

impl Invitations {
    /// An invitation for one more worker. There may be any number; what is not used costs nothing.
    ///
    /// # Errors
    /// If the pool has ended.
    pub fn issue(&self) -> Result<Invitation, InviteError> {
        let lobby = self.lobby.upgrade().ok_or(InviteError::Ended)?;
        let token = Token::random().map_err(InviteError::Random)?;
        if !lobby.expect(token.clone()) {
            return Err(InviteError::Ended);
        }
        Ok(Invitation { name: self.name.clone(), token })
    }

    /// How many workers have joined and wait for the pool to need them.
    pub fn waiting(&self) -> usize {
        self.lobby.upgrade().map_or(0, |lobby| lobby.waiting())
    }
}

impl fmt::Debug for Invitations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write!(text, "{}", self.name)?;
        f.debug_struct("Invitations").field("name", &text).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invitation(name: &str) -> Invitation {
        Invitation { name: Name::parse(name), token: Token::random().expect("random") }
    }

    #[test]
    fn an_invitation_survives_being_text() {
        for name in ["@process-pool-1-2", "/tmp/a b/door", "/tmp/a:b/door", "C:\\x"] {
            let invitation = invitation(name);
            let back: Invitation = format!(" {invitation}\n").parse().expect("an invitation");
            assert_eq!(back.name, invitation.name);
            assert!(back.token.is(&invitation.token));
        }
    }

    #[test]
    fn what_is_no_invitation_is_refused() {
        let good = invitation("@x").to_string();
        let foreign = good.replace(&good[good.len() - 2..], "+1");
        for text in ["", ":", "@x", "@x:", "@x:12", &good[1 + 1..], &good[..good.len() - 1], &foreign] {
            assert!(text.parse::<Invitation>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn tokens_that_differ_in_one_bit_differ() {
        let token = Token([7; Token::LEN]);
        assert!(token.is(&token));
        for at in [0, 1, Token::LEN - 1] {
            let mut other = token.clone();
            other.0[at] ^= 0x80;
            assert!(!token.is(&other) && !other.is(&token));
        }
    }

    #[test]
    fn a_token_is_not_told_by_debug() {
        let invitation = invitation("@x");
        let (_, token) =
            invitation.to_string().rsplit_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert!(!format!("{invitation:?}").contains(&token));
    }
}
