//! What a worker says when it has connected, and how it is refused.
//!
//! ```text
//! worker: magic, version | token | length, image        pool: 1, what admits it (see `pool-os`)
//!                                                             2 | length, why not
//! ```
//!
//! Magic and version stay the same in all versions, so that another one can be told what it is.

use std::io::{self, Read};

use crate::invitation::Token;

/// What stands first.
const MAGIC: [u8; 8] = *b"\x89pjoin\r\n";

/// Goes up with every change of what follows, and of what a worker is handed when it is admitted.
const VERSION: u32 = 1;

/// The byte that refuses a worker.
const REFUSED: u8 = 2;

/// More than any identity of a program takes.
const IMAGE_MAX: usize = 1024;

/// More than any greeting takes.
pub(crate) const GREETING_MAX: usize = IMAGE + IMAGE_MAX + 1;

const START: usize = MAGIC.len() + 4;
const IMAGE: usize = START + Token::LEN + 2;

/// Who comes.
pub(crate) struct Greeting {
    pub(crate) token: Token,
    /// What program it runs; empty if it cannot tell.
    pub(crate) image: Vec<u8>,
}

/// What the bytes that have come so far amount to.
pub(crate) enum Heard {
    /// The beginning of a greeting.
    Part,
    /// A greeting.
    Whole(Greeting),
    /// Nothing that could become one, for this reason.
    Nonsense(String),
}

impl Greeting {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let image = &self.image[..self.image.len().min(IMAGE_MAX)];
        let length = (image.len() as u16).to_le_bytes();
        [MAGIC.as_slice(), &VERSION.to_le_bytes(), &self.token.0, &length, image].concat()
    }

    pub(crate) fn hear(bytes: &[u8]) -> Heard {
        let known = bytes.len().min(MAGIC.len());
        if bytes[..known] != MAGIC[..known] {
            return Heard::Nonsense("this is not how a worker introduces itself".to_owned());
        }
        let Some(rest) = bytes.get(MAGIC.len()..) else { return Heard::Part };
        let Some((version, rest)) = rest.split_first_chunk::<4>() else { return Heard::Part };
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Heard::Nonsense(format!(
                "it speaks version {version} of the greeting, and the pool version {VERSION}: both must be built with \
                 the same process-pool"
            ));
        }
        let Some((token, rest)) = rest.split_first_chunk::<{ Token::LEN }>() else { return Heard::Part };
        let Some((length, image)) = rest.split_first_chunk::<2>() else { return Heard::Part };
        let length = usize::from(u16::from_le_bytes(*length));
        match image.len() {
            _ if length > IMAGE_MAX => Heard::Nonsense("its greeting is too long".to_owned()),
            len if len < length => Heard::Part,
            len if len == length => Heard::Whole(Self { token: Token(*token), image: image.to_vec() }),
            _ => Heard::Nonsense("it goes on talking before it was answered".to_owned()),
        }
    }
}

/// What to send to a process that may not join.
pub(crate) fn refusal(why: &str) -> Vec<u8> {
    let why = &why[..why.floor_char_boundary(WHY_MAX)];
    [[REFUSED].as_slice(), &(why.len() as u16).to_le_bytes(), why.as_bytes()].concat()
}

/// Reads what follows the first byte of a refusal.
pub(crate) fn why_refused(mut from: impl Read) -> io::Result<String> {
    let mut length = [0; 2];
    from.read_exact(&mut length)?;
    let mut why = Vec::new();
    from.take(u64::from(u16::from_le_bytes(length)).min(WHY_MAX as u64)).read_to_end(&mut why)?;
    Ok(String::from_utf8_lossy(&why).into_owned())
}

/// It fits into whatever room a connection has from the start: Windows gives 512 bytes.
const WHY_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> Greeting {
        Greeting { token: Token([3; Token::LEN]), image: b"image".to_vec() }
    }

    #[test]
    fn a_greeting_is_heard_when_its_last_byte_has_come_and_not_before() {
        let all = greeting().encode();
        for len in 0..all.len() {
            assert!(matches!(Greeting::hear(&all[..len]), Heard::Part), "{len}");
        }
        match Greeting::hear(&all) {
            Heard::Whole(heard) => assert!(heard.token.is(&greeting().token) && heard.image == b"image"),
            _ => panic!("it is whole"),
        }
        assert!(matches!(Greeting::hear(&[all.as_slice(), b"x"].concat()), Heard::Nonsense(_)));
    }

    #[test]
    fn nonsense_is_known_by_its_first_wrong_byte() {
        assert!(matches!(Greeting::hear(b"G"), Heard::Nonsense(_)));
        assert!(matches!(Greeting::hear(b"\x89pool"), Heard::Nonsense(_)));
    }

    #[test]
    fn another_version_is_told_of_both() {
        let mut all = greeting().encode();
        all[8] = 9;
        match Greeting::hear(&all[..START]) {
            Heard::Nonsense(why) => {
                assert!(why.contains("version 9") && why.contains(&format!("version {VERSION}")))
            }
            _ => panic!("another version"),
        }
    }

    #[test]
    fn the_longest_greeting_fits_and_a_longer_one_is_refused_by_its_length() {
        let mut long = greeting();
        long.image = vec![1; IMAGE_MAX];
        let mut all = long.encode();
        assert!(all.len() < GREETING_MAX && matches!(Greeting::hear(&all), Heard::Whole(_)));
        all[IMAGE - 2..IMAGE].copy_from_slice(&(IMAGE_MAX as u16 + 1).to_le_bytes());
        assert!(matches!(Greeting::hear(&all[..IMAGE]), Heard::Nonsense(_)));
    }

    #[test]
    fn a_refusal_says_why() {
        let bytes = refusal("because");
        assert_eq!((bytes[0], why_refused(&bytes[1..]).expect("read")), (REFUSED, "because".to_owned()));
        assert!(why_refused(&bytes[1..2]).is_err());
        assert_eq!(why_refused(&refusal(&"é".repeat(1000))[1..]).expect("read").len(), WHY_MAX);
    }
}
