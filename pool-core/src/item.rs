//! An item of a chunk: how it lies there, and how it becomes bytes and a value again.
//!
//! ```text
//!  [length u8] [bytes]                     up to 127 bytes
//!  [128] [length u32] [bytes]              any number
//!  [129] [length u32] [bytes]              a failure
//! ```
//!
//! The length is there so that what one item's type makes of its bytes cannot shift the next one.
//!
//! Items come by the million, and may take less than it takes to look at one: so this is inlined into the loops
//! that run over them, and what is rare is kept out of line.

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{Codec, explain};

/// In an item's first byte: its length follows.
const LONG: u8 = 1 << 7;
/// In the first byte of a long item: it is a failure.
const FAILED: u8 = 1;
const LONG_HEAD: usize = 5;

/// An item, and what follows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item<'a> {
    pub(crate) failed: bool,
    pub(crate) bytes: &'a [u8],
    pub(crate) rest: &'a [u8],
}

/// The first item; `None` if it is cut short.
#[inline(always)]
pub(crate) fn split(items: &[u8]) -> Option<Item<'_>> {
    let (first, rest) = items.split_first()?;
    if *first >= LONG {
        return split_long(*first, rest);
    }
    let (bytes, rest) = rest.split_at_checked(usize::from(*first))?;
    Some(Item { failed: false, bytes, rest })
}

fn split_long(first: u8, rest: &[u8]) -> Option<Item<'_>> {
    let failed = match first ^ LONG {
        0 => false,
        FAILED => true,
        _ => return None,
    };
    let (length, rest) = rest.split_first_chunk()?;
    let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some(Item { failed, bytes, rest })
}

/// Which place an item's length is given before it is known: that of a long one, if the item before it was long,
/// and for the first. So a large item is hardly ever moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guess {
    long: bool,
}

impl Guess {
    pub(crate) const FIRST: Self = Self { long: true };
}

/// Appends an item. On an error the bytes are as before; if the value panics, what it has written is left.
///
/// # Errors
/// What the codec said.
#[inline(always)]
pub(crate) fn put<T: Serialize>(
    codec: Codec,
    value: &T,
    bytes: &mut Vec<u8>,
    guess: &mut Guess,
) -> Result<(), String> {
    let start = bytes.len();
    if guess.long {
        bytes.extend_from_slice(&[0; LONG_HEAD]);
        let encoded = codec.write(value, bytes);
        return close_long(bytes, start, encoded, guess);
    }
    bytes.push(0);
    let encoded = encode(codec, value, bytes);
    let length = bytes.len() - start - 1;
    if encoded.is_err() || length >= usize::from(LONG) {
        return lengthen(bytes, start, encoded, guess);
    }
    bytes[start] = length as u8;
    Ok(())
}

/// Appends a failure.
pub(crate) fn put_failure(failure: &[u8], bytes: &mut Vec<u8>) {
    let length = u32::try_from(failure.len()).expect("invariant: failures are cut to what a frame may take");
    bytes.push(LONG | FAILED);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(failure);
}

/// Makes room for the length of an item that is longer than was guessed.
#[cold]
fn lengthen(
    bytes: &mut Vec<u8>,
    start: usize,
    encoded: Result<(), String>,
    guess: &mut Guess,
) -> Result<(), String> {
    if encoded.is_ok() {
        let end = bytes.len();
        bytes.extend_from_slice(&[0; LONG_HEAD - 1]);
        bytes.copy_within(start + 1..end, start + LONG_HEAD);
    }
    close_long(bytes, start, encoded, guess)
}

fn close_long(
    bytes: &mut Vec<u8>,
    start: usize,
    encoded: Result<(), String>,
    guess: &mut Guess,
) -> Result<(), String> {
    let length = encoded.and_then(|()| {
        let length = bytes.len() - start - LONG_HEAD;
        u32::try_from(length).map_err(|_| "an item of a chunk takes 4 GiB or more".to_owned())
    });
    match length {
        Ok(length) => {
            bytes[start] = LONG;
            bytes[start + 1..start + LONG_HEAD].copy_from_slice(&length.to_le_bytes());
            guess.long = length >= u32::from(LONG);
            Ok(())
        }
        Err(message) => {
            bytes.truncate(start);
            Err(message)
        }
    }
}

/// As [`Codec::write`], inlined as far as that pays off: the default codec's part.
#[inline(always)]
fn encode<T: Serialize>(codec: Codec, value: &T, bytes: &mut Vec<u8>) -> Result<(), String> {
    match codec {
        Codec::Postcard => {
            let mut serializer = postcard::Serializer { output: Short(bytes) };
            value.serialize(&mut serializer).map_err(|error| told(&error))
        }
        #[cfg(any(feature = "bincode", feature = "messagepack"))]
        _ => codec.write(value, bytes),
    }
}

/// As [`Codec::read`], inlined as far as that pays off: the default codec's part.
#[inline(always)]
pub(crate) fn decode<T: DeserializeOwned>(codec: Codec, bytes: &[u8]) -> Result<T, String> {
    match codec {
        Codec::Postcard => {
            let mut deserializer = postcard::Deserializer::from_bytes(bytes);
            let value = T::deserialize(&mut deserializer).map_err(|error| told(&error))?;
            match deserializer.finalize() {
                Ok([]) => Ok(value),
                Ok(rest) => Err(left_over(rest)),
                Err(error) => Err(told(&error)),
            }
        }
        #[cfg(any(feature = "bincode", feature = "messagepack"))]
        _ => codec.read(bytes),
    }
}

#[cold]
fn told(error: &postcard::Error) -> String {
    explain(error)
}

#[cold]
fn left_over(rest: &[u8]) -> String {
    format!("{} bytes are left over", rest.len())
}

/// Appends to a buffer. A number is at most a few bytes, and to call a function that copies so few would take
/// longer than all the rest.
struct Short<'a>(&'a mut Vec<u8>);

impl Flavor for Short<'_> {
    type Output = ();

    #[inline(always)]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline(always)]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        match *bytes {
            [a] => self.0.push(a),
            [a, b] => self.0.extend_from_slice(&[a, b]),
            [a, b, c] => self.0.extend_from_slice(&[a, b, c]),
            [a, b, c, d] => self.0.extend_from_slice(&[a, b, c, d]),
            [a, b, c, d, e] => self.0.extend_from_slice(&[a, b, c, d, e]),
            _ => self.0.extend_from_slice(bytes),
        }
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bytes;
    use serde::Deserialize;

    /// As many bytes as its first number says, none of them short in the sense of `Short`.
    fn blob(length: usize) -> Bytes {
        (0..=255).cycle().take(length).collect()
    }

    fn all(mut rest: &[u8]) -> Vec<(bool, &[u8])> {
        let mut found = Vec::new();
        while !rest.is_empty() {
            let item = split(rest).expect("whole items");
            found.push((item.failed, item.bytes));
            rest = item.rest;
        }
        found
    }

    #[test]
    fn items_of_all_lengths_in_any_sequence_keep_apart() {
        let lengths = [0, 1, 120, 126, 127, 128, 129, 300, 5, 100_000, 3, 3, 130, 1];
        for codec in Codec::available() {
            let (mut bytes, mut guess) = (Vec::new(), Guess::FIRST);
            for length in lengths {
                put(*codec, &blob(length), &mut bytes, &mut guess).expect("can be encoded");
            }
            let found = all(&bytes);
            assert_eq!(found.len(), lengths.len(), "{codec}");
            for (length, (failed, bytes)) in lengths.into_iter().zip(found) {
                assert!(!failed);
                assert_eq!(decode::<Bytes>(*codec, bytes), Ok(blob(length)), "{codec}");
                let mut plain = Vec::new();
                codec.encode(&blob(length), &mut plain).expect("can be encoded");
                assert_eq!(bytes, plain, "{codec}: as a value that is no item");
            }
        }
    }

    #[test]
    fn numbers_and_texts_are_encoded_as_everywhere() {
        let texts = ["", "a", "ab", "abc", "abcd", "abcde", "abcdef", "a longer one"];
        for codec in Codec::available() {
            for shift in 0..64 {
                for text in texts {
                    let value =
                        (1_u64 << shift, -(i64::MAX >> shift), 1.5_f64, text.to_owned(), Some(shift as u8));
                    let (mut bytes, mut guess) = (Vec::new(), Guess { long: false });
                    put(*codec, &value, &mut bytes, &mut guess).expect("can be encoded");
                    let item = split(&bytes).expect("an item");
                    assert!(!guess.long && item.rest.is_empty());
                    let mut plain = Vec::new();
                    codec.encode(&value, &mut plain).expect("can be encoded");
                    assert_eq!(item.bytes, plain, "{codec}");
                    assert_eq!(decode(*codec, item.bytes), Ok(value), "{codec}");
                }
            }
        }
    }

    #[test]
    fn few_bytes_are_spent_on_short_items() {
        let (mut bytes, mut guess) = (Vec::new(), Guess::FIRST);
        for n in 0..100_u64 {
            put(Codec::Postcard, &n, &mut bytes, &mut guess).expect("can be encoded");
        }
        assert_eq!(bytes.len(), LONG_HEAD + 1 + 99 * 2);
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        a: u32,
        #[serde(flatten)]
        rest: std::collections::BTreeMap<String, u32>,
    }

    #[test]
    fn a_value_that_is_refused_leaves_no_trace_and_the_codec_s_own_words() {
        let flat = Flat { a: 1, rest: [("b".to_owned(), 2)].into() };
        for long in [false, true] {
            let (mut bytes, mut guess) = (vec![7], Guess { long });
            let refused = put(Codec::Postcard, &flat, &mut bytes, &mut guess);
            assert_eq!(bytes, [7]);
            assert_eq!(refused, Codec::Postcard.encode(&flat, &mut Vec::new()));
            assert!(refused.is_err_and(|why| why.contains("use messagepack")));
        }
    }

    #[test]
    fn what_is_decoded_and_is_not_whole_is_refused_in_the_codec_s_own_words() {
        for codec in Codec::available() {
            let mut bytes = Vec::new();
            codec.encode(&(300_u64, "text"), &mut bytes).expect("can be encoded");
            let refused = decode::<(u64, String)>(*codec, &bytes[..bytes.len() - 1]);
            assert!(refused.is_err(), "{codec}");
            assert_eq!(refused, codec.decode(&bytes[..bytes.len() - 1]), "{codec}");
            bytes.push(0);
            let refused = decode::<(u64, String)>(*codec, &bytes);
            assert!(refused.as_ref().is_err_and(|why| why == "1 bytes are left over"), "{codec}");
            assert_eq!(refused, codec.decode(&bytes), "{codec}");
        }
    }

    #[test]
    fn a_failure_is_told_from_a_result() {
        let (mut bytes, mut guess) = (Vec::new(), Guess::FIRST);
        put(Codec::Postcard, &1_u64, &mut bytes, &mut guess).expect("can be encoded");
        put_failure(b"failure", &mut bytes);
        put(Codec::Postcard, &2_u64, &mut bytes, &mut guess).expect("can be encoded");
        assert_eq!(all(&bytes), [(false, [1].as_slice()), (true, b"failure"), (false, &[2])]);
    }

    #[test]
    fn what_is_cut_short_or_has_no_meaning_is_no_item() {
        let (mut short, mut long) = (Vec::new(), Vec::new());
        put(Codec::Postcard, &"text", &mut short, &mut Guess { long: false }).expect("can be encoded");
        put(Codec::Postcard, &blob(200), &mut long, &mut Guess::FIRST.clone()).expect("can be encoded");
        for whole in [short, long] {
            for cut in 0..whole.len() {
                assert_eq!(split(&whole[..cut]), None, "{cut}");
            }
            assert!(split(&whole).is_some());
        }
        assert_eq!(split(&[LONG | 2, 0, 0, 0, 0]), None);
        assert_eq!(split(&[LONG, 255, 255, 255, 255, 0]), None);
    }
}
