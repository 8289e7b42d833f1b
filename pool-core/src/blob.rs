//! Blobs: bytes that go through a codec without being copied by it.
//!
//! A large [`Bytes`] inside an argument or a result is not written into the encoded value. A mark stands there, and the
//! blob follows behind the value:
//!
//! ```text
//!  number of the first (u32) · count (u32) · length of each (u64) ┃ the encoded value ┃ the blobs, one after the other
//! ```
//!
//! So it is copied into the link by the side that sends, and out of it by the side that receives, and nowhere else: what
//! is decoded is a part of the frame. Python's pickle does the same since protocol 5.
//!
//! How `Bytes`, deep inside a value, gets to know the others: they lie on the thread's [desk](crate::desk) meanwhile. It
//! works with every codec, since all they see is a short byte string.

use std::fmt;
use std::ops::{Deref, RangeBounds};

use bytes::Bytes as Shared;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::desk::{self, Blobs};
use crate::transport::Payload;

/// A blob from this length on travels beside the value it belongs to. Copying a smaller one costs less than that.
pub(crate) const BLOB_MIN: usize = 16 * 1024;

/// Begins a mark. Any bytes that do not occur by accident; a blob that begins with them travels beside its value,
/// however short it is.
const MARK: [u8; 8] = *b"\x9bblob\xe7\x02\xd5";
/// How long a mark is: its beginning, and the blob's number.
const MARK_LEN: usize = MARK.len() + 4;

/// A blob: bytes that are carried as a whole, where a `Vec<u8>` would be encoded one by one.
///
/// Cheap to clone and to cut, since clones and parts share the bytes, which do not change. A large one inside an
/// argument or a result is copied into the link and out of it, and nowhere else: what arrives is a part of what came
/// through the link, and keeps all of that as long as it lives. (Is there more than one in the same argument or result,
/// they are joined first; so are those of the items that [`map`](crate::Executor::map) sends together.)
///
/// It is a [`bytes::Bytes`] that serde takes for a byte string, and can be made from one and into one without a copy.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(Shared);

impl Bytes {
    /// No bytes.
    pub const fn new() -> Self {
        Self(Shared::new())
    }

    /// Bytes of the program itself, which are not copied.
    pub const fn from_static(bytes: &'static [u8]) -> Self {
        Self(Shared::from_static(bytes))
    }

    /// A part of the bytes, which are shared.
    ///
    /// # Panics
    /// If the range is not within them.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        Self(self.0.slice(range))
    }

    /// Leaves a blob that is to travel beside its value. Returns what goes into the value instead.
    fn leave(&self) -> Option<[u8; MARK_LEN]> {
        if self.len() < BLOB_MIN && !self.starts_with(&MARK) {
            return None;
        }
        let number = desk::leave_blob(&self.0)?;
        let mut mark = [0; MARK_LEN];
        mark[..MARK.len()].copy_from_slice(&MARK);
        mark[MARK.len()..].copy_from_slice(&number.to_le_bytes());
        Some(mark)
    }

    /// Fetches the blob that was left under this mark. `None`: it is no mark.
    fn fetch(mark: &[u8]) -> Result<Option<Self>, String> {
        let Some(number) = mark.strip_prefix(&MARK).and_then(|number| <[u8; 4]>::try_from(number).ok()) else {
            return Ok(None);
        };
        desk::fetch_blob(u32::from_le_bytes(number)).map(|blob| blob.map(Self))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Bytes {
    /// How many, and the first of them: a blob may be huge.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 16;
        let more = if self.len() > SHOWN { "…" } else { "" };
        write!(f, "Bytes({} bytes: {:02x?}{more})", self.len(), &self[..self.len().min(SHOWN)])
    }
}

impl From<Vec<u8>> for Bytes {
    /// Without a copy.
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&'static [u8]> for Bytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self::from_static(bytes)
    }
}

impl From<Shared> for Bytes {
    fn from(bytes: Shared) -> Self {
        Self(bytes)
    }
}

impl From<Bytes> for Shared {
    fn from(Bytes(bytes): Bytes) -> Self {
        bytes
    }
}

impl From<Bytes> for Vec<u8> {
    /// Without fresh memory if nobody else shares them, as with a result that was just taken; in a worker they are
    /// copied.
    fn from(Bytes(bytes): Bytes) -> Self {
        bytes.into()
    }
}

impl FromIterator<u8> for Bytes {
    fn from_iter<T: IntoIterator<Item = u8>>(bytes: T) -> Self {
        Self(bytes.into_iter().collect())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.leave() {
            Some(mark) => serializer.serialize_bytes(&mark),
            None => serializer.serialize_bytes(self),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                let found = Bytes::fetch(bytes).map_err(|why| E::custom(desk::trouble(why)))?;
                Ok(found.unwrap_or_else(|| Bytes(Shared::copy_from_slice(bytes))))
            }

            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                let found = Bytes::fetch(&bytes).map_err(|why| E::custom(desk::trouble(why)))?;
                Ok(found.unwrap_or_else(|| bytes.into()))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Bytes, A::Error> {
                // Of formats that have no byte strings.
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                self.visit_byte_buf(bytes)
            }
        }
        // Borrowed bytes are copied once; asking for an owned buffer would let some formats copy twice.
        deserializer.deserialize_bytes(Visitor)
    }
}

/// A value as it travels together with its blobs: what comes first, and what follows it, as one blob or several.
#[derive(Debug)]
pub(crate) struct Split {
    /// The table and the encoded value.
    pub(crate) first: Vec<u8>,
    pub(crate) blobs: Payload,
}

impl Split {
    /// Puts `encoded` and its blobs together. There is one at least.
    pub(crate) fn new(encoded: &[u8], base: u32, mut blobs: Vec<Shared>) -> Self {
        let count = u32::try_from(blobs.len()).expect("invariant: a mark's number has as many bytes");
        let mut first = Vec::with_capacity(8 + 8 * blobs.len() + encoded.len());
        first.extend(base.to_le_bytes());
        first.extend(count.to_le_bytes());
        for blob in &blobs {
            first.extend((blob.len() as u64).to_le_bytes());
        }
        first.extend_from_slice(encoded);
        let blobs = match blobs.pop() {
            Some(only) if blobs.is_empty() => Payload::from(only),
            last => Payload::from(blobs.into_iter().chain(last).collect::<Vec<_>>().concat()),
        };
        Self { first, blobs }
    }

    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.blobs.len()
    }
}

/// Where the encoded value lies in a body that has blobs, and where they lie.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) value: std::ops::Range<usize>,
    /// The number of the first blob.
    pub(crate) base: u32,
    pub(crate) blobs: Vec<std::ops::Range<usize>>,
}

/// The encoded value of a body that has blobs, and these, as parts of it.
///
/// # Errors
/// If it makes no sense.
pub(crate) fn take_apart(body: &Shared) -> Result<(Shared, Blobs), String> {
    let table = Table::read(body).ok_or("the table of its blobs is malformed")?;
    let blobs = table.blobs.into_iter().map(|blob| body.slice(blob));
    Ok((body.slice(table.value), Blobs::new(table.base, blobs)))
}

impl Table {
    /// Reads what a body begins with. `None` if it cannot be.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let (base, rest) = body.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let count = u32::from_le_bytes(*count) as usize;
        // Looked at first: no memory is taken on the word of a number.
        let (lengths, _) = rest.split_at_checked(count.checked_mul(8)?)?;
        let mut end = body.len();
        let mut blobs = Vec::with_capacity(count);
        for length in lengths.rchunks_exact(8) {
            let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
            let start = end.checked_sub(length)?;
            blobs.push(start..end);
            end = start;
        }
        blobs.reverse();
        let start = 8 + lengths.len();
        (start <= end).then_some(Self { value: start..end, base: u32::from_le_bytes(*base), blobs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::desk::{Beside, Came};

    fn blob(len: usize, seed: u8) -> Bytes {
        (0..len).map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed)).collect()
    }

    /// Encodes, lays out, takes apart and decodes.
    fn travel<T: Serialize + serde::de::DeserializeOwned>(codec: Codec, value: &T) -> (T, usize) {
        let mut encoded = Vec::new();
        let Beside { base, blobs, .. } = codec.encode_beside(value, &mut encoded).unwrap();
        let count = blobs.len();
        if blobs.is_empty() {
            return (codec.decode(&encoded).unwrap(), 0);
        }
        let split = Split::new(&encoded, base, blobs);
        let body = Shared::from([&split.first, split.blobs.as_slice()].concat());
        assert_eq!(body.len(), split.len());
        (codec.decode_with_blobs(&body).unwrap(), count)
    }

    #[test]
    fn blobs_travel_beside_their_value_whatever_the_codec() {
        type Value = (u8, Bytes, Vec<(Option<Bytes>, String)>, Bytes);
        for codec in Codec::available() {
            let value: Value = (
                7,
                blob(BLOB_MIN, 1),
                vec![
                    (Some(blob(100_000, 2)), "a".to_owned()),
                    (None, String::new()),
                    (Some(blob(5, 3)), String::new()),
                ],
                blob(BLOB_MIN - 1, 4),
            );
            let (found, count) = travel(*codec, &value);
            assert_eq!(found, value, "{codec}");
            assert_eq!(count, 2, "{codec}: small ones stay");
            assert_eq!(travel(*codec, &blob(BLOB_MIN, 9)), (blob(BLOB_MIN, 9), 1), "{codec}");
            assert_eq!(travel(*codec, &blob(10, 9)), (blob(10, 9), 0), "{codec}");
        }
    }

    #[test]
    fn a_blob_that_looks_like_a_mark_arrives_as_it_is() {
        let like: Bytes = MARK.into_iter().chain([0, 0, 0, 0]).collect();
        for codec in Codec::available() {
            let value = (like.clone(), blob(BLOB_MIN, 1), like.clone());
            assert_eq!(travel(*codec, &value), (value, 3), "{codec}");
            // Where blobs stay inside, nothing is taken for a mark.
            let mut encoded = Vec::new();
            codec.encode(&like, &mut encoded).unwrap();
            assert_eq!(codec.decode::<Bytes>(&encoded).as_ref(), Ok(&like), "{codec}");
        }
    }

    #[test]
    fn a_type_that_does_not_take_the_blob_is_told_so() {
        let codec = Codec::default();
        let mut encoded = Vec::new();
        let beside = codec.encode_beside(&blob(BLOB_MIN, 1), &mut encoded).unwrap();
        let blobs = Blobs::new(0, beside.blobs.into_iter());
        // To postcard the mark could as well be a `Vec<u8>`.
        let why = codec.decode_beside::<Vec<u8>>(&encoded, Came::new(blobs, None)).unwrap_err();
        assert!(why.contains("Bytes"), "{why}");
    }

    #[test]
    fn what_is_encoded_inside_of_a_value_has_a_desk_of_its_own() {
        struct Outer(Bytes);
        impl Serialize for Outer {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut inner = Vec::new();
                let blobs =
                    Codec::default().encode_beside(&self.0, &mut inner).map_err(serde::ser::Error::custom)?;
                assert_eq!(blobs.blobs.len(), 1);
                (&inner, &self.0).serialize(serializer)
            }
        }
        let blobs = Codec::default().encode_beside(&Outer(blob(BLOB_MIN, 1)), &mut Vec::new()).unwrap();
        assert_eq!(blobs.blobs.len(), 1, "its own, not the inner one's too");
    }

    #[test]
    fn tables_that_cannot_be_are_none() {
        let lengths = [1_u64.to_le_bytes(), 3_u64.to_le_bytes()].concat();
        let head = |count: u32| [7_u32.to_le_bytes(), count.to_le_bytes()].concat();
        let good = [head(2), lengths, b"valueabcd".to_vec()].concat();
        assert_eq!(Table::read(&good), Some(Table { value: 24..29, base: 7, blobs: vec![29..30, 30..33] }));
        for cut in 0..24 {
            assert_eq!(Table::read(&good[..cut]), None, "{cut}");
        }
        for length in [9_u64, u64::MAX, 1 << 63] {
            let bad = [head(1), length.to_le_bytes().to_vec(), b"valueabc".to_vec()].concat();
            assert_eq!(Table::read(&bad), None, "{length}");
        }
        assert_eq!(Table::read(&head(u32::MAX)), None);
        assert_eq!(Table::read(&[head(0), vec![7]].concat()), Some(Table { value: 8..9, base: 7, blobs: vec![] }));
    }

    #[test]
    fn bytes_are_shared_and_can_be_had_back() {
        let vec = vec![1_u8, 2, 3];
        let at = vec.as_ptr();
        let bytes = Bytes::from(vec);
        assert_eq!(bytes.clone().as_ptr(), at);
        assert_eq!(bytes.slice(1..).as_ptr(), at.wrapping_add(1));
        let back = Vec::from(bytes);
        assert_eq!(back.as_ptr(), at);
        assert_eq!(format!("{:?}", Bytes::from_static(b"ab")), "Bytes(2 bytes: [61, 62])");
    }
}
