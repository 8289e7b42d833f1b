//! How values become bytes and bytes values.
//!
//! The codec is a choice of the pool, told to each worker in the handshake. It knows nothing of frames.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// A way to encode arguments and results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// postcard: small and fast. Not self-describing, so `#[serde(flatten)]`, untagged enums and
    /// `skip_serializing_if` do not work with it; its error says so for the one call that tries.
    #[default]
    Postcard,
}

impl Codec {
    /// The name by which parent and worker agree.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postcard => "postcard",
        }
    }

    /// Appends `value`, encoded, to `out`. On an error `out` may have grown.
    pub(crate) fn encode<T: Serialize + ?Sized>(self, value: &T, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Postcard => postcard::serialize_with_flavor(value, Append(out)).map_err(|error| explain(&error)),
        }
    }

    /// Decodes the whole of `bytes`.
    pub(crate) fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, String> {
        match self {
            Self::Postcard => {
                let (value, rest) = postcard::take_from_bytes(bytes).map_err(|error| explain(&error))?;
                if rest.is_empty() { Ok(value) } else { Err(format!("{} bytes are left over", rest.len())) }
            }
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// postcard's own text, and what to make of those that come from serde's self-describing features.
fn explain(error: &postcard::Error) -> String {
    match error {
        postcard::Error::WontImplement | postcard::Error::SerializeSeqLengthUnknown => format!(
            "{error} (postcard is not self-describing: untagged and flattened types and sequences of unknown \
             length do not work with it)"
        ),
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

/// A blob: bytes that are copied as a whole, where a `Vec<u8>` would be encoded one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }
        // Borrowed bytes are copied once; asking for an owned buffer would let some formats copy twice.
        deserializer.deserialize_bytes(Visitor)
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl std::ops::Deref for Bytes {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl std::ops::DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}
