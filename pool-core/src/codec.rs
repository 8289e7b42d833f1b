//! How values become bytes and bytes values.
//!
//! The codec is a choice of the pool, told to each worker in the handshake. It knows nothing of frames.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::str::FromStr;

use crate::blob;
use crate::desk::{self, Beside, Came, Kind};

/// A way to encode arguments and results.
///
/// Chosen with [`Builder::codec`](crate::Builder::codec), also by name: `"messagepack".parse()`. Features bring
/// names, and change nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// postcard: small and fast. Not self-describing, so `#[serde(flatten)]`, untagged and internally tagged
    /// enums and `skip_serializing_if` do not work with it; the error of the one call that tries says so.
    #[default]
    Postcard,
    /// bincode 2, for those who have it in their types already. Its authors no longer maintain it. As little
    /// self-describing as postcard.
    #[cfg(feature = "bincode")]
    Bincode,
    /// MessagePack with named fields: larger and slower, and takes every serde type, with one loss: a
    /// `Some(None)` arrives as `None`.
    #[cfg(feature = "messagepack")]
    MessagePack,
}

/// A name that no codec has, or one that this program lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecNameError {
    /// No such name.
    #[error("unknown codec `{0}`: known are postcard, bincode, messagepack")]
    Unknown(String),
    /// The name is known, but what it names is not part of this program.
    #[error("the codec `{0}` is not compiled in: enable the feature `{0}` of process-pool")]
    NotCompiledIn(String),
}

/// What is said of a value that did not take all blobs that came with it.
pub(crate) const BLOBS_LEFT: &str = "blobs are left over: what is sent as `Bytes` has to be taken as `Bytes`";

impl Codec {
    /// The codecs of this program, the default first.
    pub fn available() -> &'static [Self] {
        &[
            Self::Postcard,
            #[cfg(feature = "bincode")]
            Self::Bincode,
            #[cfg(feature = "messagepack")]
            Self::MessagePack,
        ]
    }

    /// The name by which parent and worker agree.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postcard => "postcard",
            #[cfg(feature = "bincode")]
            Self::Bincode => "bincode",
            #[cfg(feature = "messagepack")]
            Self::MessagePack => "messagepack",
        }
    }

    /// Appends `value`, encoded, with its blobs inside, to `out`. On an error `out` may have grown.
    pub(crate) fn encode<T: Serialize + ?Sized>(self, value: &T, out: &mut Vec<u8>) -> Result<(), String> {
        desk::closed(|| self.write(value, out))
    }

    /// Appends `value`, encoded, to `out`, and returns the blobs that are to travel beside it. On an error `out` may
    /// have grown.
    pub(crate) fn encode_beside<T: Serialize + ?Sized>(
        self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<Beside, String> {
        desk::encoding(Kind::Blobs, || self.write(value, out))
    }

    /// The same for the argument of a call, which may refer to shared values.
    pub(crate) fn encode_argument<T: Serialize + ?Sized>(
        self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<Beside, String> {
        desk::encoding(Kind::Call(self), || self.write(value, out))
    }

    /// Decodes the whole of `bytes`, with its blobs inside.
    pub(crate) fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, String> {
        desk::closed(|| self.read(bytes))
    }

    /// Decodes the whole of `bytes`, beside which this has come.
    pub(crate) fn decode_beside<T: DeserializeOwned>(self, bytes: &[u8], came: Came) -> Result<T, String> {
        match desk::decoding(came, || self.read(bytes))? {
            // A codec that describes what it writes may have skipped it with the field it was in.
            (_, 1..) if !self.describes() => Err(BLOBS_LEFT.to_owned()),
            (value, _) => Ok(value),
        }
    }

    /// Decodes the whole of a body that has blobs.
    pub(crate) fn decode_with_blobs<T: DeserializeOwned>(self, body: &bytes::Bytes) -> Result<T, String> {
        let (value, blobs) = blob::take_apart(body)?;
        self.decode_beside(&value, Came::new(blobs, None))
    }

    /// Whether types are told from what is written.
    pub(crate) fn describes(self) -> bool {
        match self {
            Self::Postcard => false,
            #[cfg(feature = "bincode")]
            Self::Bincode => false,
            #[cfg(feature = "messagepack")]
            Self::MessagePack => true,
        }
    }

    /// As [`encode`](Self::encode), at the thread's desk.
    pub(crate) fn write<T: Serialize + ?Sized>(self, value: &T, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Postcard => postcard::serialize_with_flavor(value, Append(out)).map_err(|error| explain(&error)),
            #[cfg(feature = "bincode")]
            Self::Bincode => bincode::serde::encode_into_std_write(value, out, bincode::config::standard())
                .map(drop)
                .map_err(|error| explain_bincode(&error.to_string())),
            #[cfg(feature = "messagepack")]
            Self::MessagePack => {
                let mut serializer = rmp_serde::Serializer::new(out).with_struct_map();
                value.serialize(&mut serializer).map_err(|error| error.to_string())
            }
        }
    }

    /// As [`decode`](Self::decode), at the thread's desk.
    pub(crate) fn read<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, String> {
        let (value, rest) = match self {
            Self::Postcard => {
                let (value, rest) = postcard::take_from_bytes(bytes).map_err(|error| explain(&error))?;
                (value, rest.len())
            }
            #[cfg(feature = "bincode")]
            Self::Bincode => {
                let (value, used) = bincode::serde::decode_from_slice(bytes, bincode::config::standard())
                    .map_err(|error| explain_bincode(&error.to_string()))?;
                (value, bytes.len() - used)
            }
            #[cfg(feature = "messagepack")]
            Self::MessagePack => {
                let mut deserializer = rmp_serde::Deserializer::new(std::io::Cursor::new(bytes));
                let value = T::deserialize(&mut deserializer).map_err(|error| error.to_string())?;
                (value, bytes.len() - deserializer.position() as usize)
            }
        };
        if rest == 0 { Ok(value) } else { Err(format!("{rest} bytes are left over")) }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Codec {
    type Err = CodecNameError;

    fn from_str(name: &str) -> Result<Self, CodecNameError> {
        match Self::available().iter().find(|codec| codec.name() == name) {
            Some(codec) => Ok(*codec),
            None if ["bincode", "messagepack"].contains(&name) => {
                Err(CodecNameError::NotCompiledIn(name.to_owned()))
            }
            None => Err(CodecNameError::Unknown(name.to_owned())),
        }
    }
}

/// What to say of a type that needs a codec which writes down what it writes.
const SELF_DESCRIBING: &str = " (flattened, untagged and internally tagged types, skipped fields and sequences \
                               of unknown length need a self-describing codec: use messagepack)";

/// bincode's own text. Its serde errors are told apart by nothing else.
#[cfg(feature = "bincode")]
fn explain_bincode(text: &str) -> String {
    let described =
        ["SequenceMustHaveLength", "AnyNotSupported", "IdentifierNotSupported", "IgnoredAnyNotSupported"];
    let hint = if described.iter().any(|name| text.contains(name)) { SELF_DESCRIBING } else { "" };
    format!("{text}{hint}")
}

/// postcard's own text, and what to make of those that come from serde's self-describing features.
pub(crate) fn explain(error: &postcard::Error) -> String {
    match error {
        postcard::Error::WontImplement | postcard::Error::SerializeSeqLengthUnknown => {
            format!("{error}{SELF_DESCRIBING}")
        }
        postcard::Error::SerdeSerCustom | postcard::Error::SerdeDeCustom => {
            format!("{error} (the type's own `Serialize` or `Deserialize` refused)")
        }
        _ => error.to_string(),
    }
}

/// Appends to a buffer that is used again.
struct Append<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::Bytes;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    fn through<T: Serialize + DeserializeOwned>(codec: Codec, value: &T) -> Result<T, String> {
        let mut bytes = vec![7];
        codec.encode(value, &mut bytes)?;
        assert_eq!(bytes[0], 7, "what was there stays");
        codec.decode(&bytes[1..])
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Plain {
        Unit,
        Named { list: Vec<(u8, String)>, map: BTreeMap<String, f64>, option: Option<i64> },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        a: u32,
        #[serde(flatten)]
        rest: BTreeMap<String, u32>,
    }

    #[test]
    fn every_codec_carries_plain_types_and_blobs() {
        for codec in Codec::available() {
            let list = vec![(1, "a".to_owned()), (2, String::new())];
            let named = Plain::Named { list, map: BTreeMap::from([("x".to_owned(), 0.5)]), option: Some(-1) };
            assert_eq!(through(*codec, &named).as_ref(), Ok(&named), "{codec}");
            assert_eq!(through(*codec, &Plain::Unit), Ok(Plain::Unit), "{codec}");
            let blob: Bytes = (0..=255).cycle().take(100_000).collect();
            assert_eq!(through(*codec, &blob).as_ref(), Ok(&blob), "{codec}");
        }
    }

    #[test]
    fn a_flattened_type_is_refused_with_the_way_out_or_carried() {
        let flat = Flat { a: 1, rest: BTreeMap::from([("b".to_owned(), 2)]) };
        for codec in Codec::available() {
            match (codec.name(), through(*codec, &flat)) {
                ("messagepack", carried) => assert_eq!(carried.as_ref(), Ok(&flat)),
                (name, refused) => {
                    let why = refused.expect_err(name);
                    assert!(why.contains("use messagepack"), "{name}: {why}");
                }
            }
        }
    }

    #[test]
    fn bytes_that_are_left_over_are_an_error() {
        for codec in Codec::available() {
            let mut bytes = Vec::new();
            codec.encode(&1_u8, &mut bytes).expect("a number can be encoded");
            bytes.push(0);
            assert!(codec.decode::<u8>(&bytes).is_err(), "{codec}");
        }
    }

    #[test]
    fn names_are_told_from_typos() {
        assert_eq!("postcard".parse(), Ok(Codec::Postcard));
        assert_eq!("postcrd".parse::<Codec>(), Err(CodecNameError::Unknown("postcrd".to_owned())));
        #[cfg(not(feature = "bincode"))]
        assert_eq!("bincode".parse::<Codec>(), Err(CodecNameError::NotCompiledIn("bincode".to_owned())));
    }
}
