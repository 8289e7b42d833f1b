//! What one side says to the other.
//!
//! ```text
//! the rendezvous, once:  Greeting::Hello { secret, the end to write to the worker, the end to read from it }
//!            on Windows: Greeting::Hello { secret, the name of a server of the worker's }, which gets a Welcome
//! afterwards:            message = [flags u8] [taken u32] [a piece of the stream, or a request]
//!                        stream  = { [length u32] [frame] }
//!                        request = [seq u64]: the parent asks for the end of this call
//! ```
//! All numbers are little-endian. A piece ends anywhere: small frames share a message, a large frame takes many.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

cfg_if::cfg_if! {
    if #[cfg(windows)] {
        /// What is said to whoever waits for the worker.
        #[derive(serde::Serialize, serde::Deserialize)]
        pub(crate) enum Greeting {
            /// By the worker. What connection it comes over is the one that the worker sends by from now on.
            Hello {
                secret: Secret,
                /// The name of its own server, which waits for a [`Welcome`].
                back: String,
            },
            /// By ourselves, to end the wait.
            GiveUp,
        }

        /// A greeting as the parent takes it.
        pub(crate) type Received = Greeting;

        /// The answer: what the worker receives from. Serialising it cannot fail, as with the other systems' greeting.
        #[derive(serde::Serialize, serde::Deserialize)]
        pub(crate) struct Welcome(pub(crate) ipc_channel::ipc::IpcBytesReceiver);
    } else {
        use ipc_channel::ipc::{IpcBytesSender, IpcReceiver};

        /// What is said to whoever waits for the worker.
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(bound = "R: Serialize + serde::de::DeserializeOwned")]
        pub(crate) enum Greeting<R> {
            /// By the worker.
            Hello(Hello<R>),
            /// By ourselves, where it takes more than a connection to end the wait.
            GiveUp,
        }

        /// Serialising it cannot fail: a failure would leak the channels in it, and in the end make ipc-channel panic.
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(bound = "R: Serialize + serde::de::DeserializeOwned")]
        pub(crate) struct Hello<R> {
            pub(crate) secret: Secret,
            pub(crate) to_worker: IpcBytesSender,
            /// An `IpcBytesReceiver` as the worker has it, an `IpcReceiver<Envelope>` as the parent does: the two travel
            /// alike, and a set takes receivers of the one kind only, while the worker sends best in the other.
            pub(crate) from_worker: R,
        }

        /// A greeting as the parent takes it.
        pub(crate) type Received = Greeting<IpcReceiver<Envelope>>;
    }
}

/// Proves that whoever connects was given the ticket.
pub(crate) type Secret = [u8; 16];

/// What the worker sends, as a type that ipc-channel decodes. But on Windows it is made by [`seal`] and never serialised:
/// a typed `send` takes along what an earlier one, of somebody else's in the same thread, has failed to send.
pub(crate) struct Envelope(pub(crate) Vec<u8>);

/// What has to come before a message of `len` bytes to make it an [`Envelope`]: its length as postcard, the codec of
/// ipc-channel, has it. Appended to `message`.
#[cfg_attr(windows, allow(dead_code, reason = "envelopes are serialised there"))]
pub(crate) fn seal(len: usize, message: &mut Vec<u8>) {
    let mut rest = len;
    while rest > 0x7f {
        message.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    message.push(rest as u8);
}

impl Serialize for Envelope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Envelope;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Envelope, E> {
                // Copied out: what ipc-channel received into has 208 KiB, however little came.
                Ok(Envelope(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// What every message begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// How much the sender has taken out since it told last; see [`flow`](crate::flow).
    pub(crate) taken: u32,
    /// The sender wants to be told at once that this was taken out.
    pub(crate) tell_me: bool,
    /// The parent sends nothing after this. A dropped channel says the same, but not on Windows, where
    /// ipc-channel keeps a copy of each handle it receives.
    pub(crate) is_end: bool,
    /// What follows is a request, which only a parent has.
    pub(crate) is_request: bool,
}

impl Header {
    pub(crate) const BYTES: usize = 5;
    const TELL_ME: u8 = 1;
    const IS_END: u8 = 2;
    const IS_REQUEST: u8 = 4;

    pub(crate) fn encode(&self) -> [u8; Self::BYTES] {
        let tell_me = if self.tell_me { Self::TELL_ME } else { 0 };
        let is_end = if self.is_end { Self::IS_END } else { 0 };
        let is_request = if self.is_request { Self::IS_REQUEST } else { 0 };
        let [a, b, c, d] = self.taken.to_le_bytes();
        [tell_me | is_end | is_request, a, b, c, d]
    }

    pub(crate) fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let Some(&[flags, a, b, c, d]) = message.first_chunk() else {
            return Err(Malformed(format!("a message of {} bytes", message.len())));
        };
        if flags & !(Self::TELL_ME | Self::IS_END | Self::IS_REQUEST) != 0 {
            return Err(Malformed(format!("a message with flags {flags:#x}")));
        }
        let taken = u32::from_le_bytes([a, b, c, d]);
        let is = |flag| flags & flag != 0;
        Ok(Self { taken, tell_me: is(Self::TELL_ME), is_end: is(Self::IS_END), is_request: is(Self::IS_REQUEST) })
    }
}

/// What comes before each frame in the stream; `None` if the frame is longer than a link carries.
pub(crate) fn length(frame: usize, frame_max: usize) -> Option<[u8; 4]> {
    (frame <= frame_max).then_some((frame as u32).to_le_bytes())
}

pub(crate) fn too_long_to_send(frame: usize, frame_max: usize) -> String {
    format!("a frame of {frame} bytes is to be sent, but {frame_max} is the limit")
}

/// What arrived is not of our making; the text says why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) String);

#[cfg(test)]
mod tests {
    use ipc_channel::ipc::IpcReceiver;

    use super::*;

    #[test]
    fn a_header_survives_and_others_are_refused() {
        for flags in 0..8 {
            let [tell_me, is_end, is_request] = [1, 2, 4].map(|flag| flags & flag != 0);
            let header = Header { taken: 0x1234_5678, tell_me, is_end, is_request };
            assert_eq!(Header::decode(&header.encode()), Ok(header));
        }
        assert!(Header::decode(&[0; 4]).is_err());
        assert!(Header::decode(&[8, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn a_sealed_message_is_an_envelope() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 40_000] {
            let (sender, receiver) = ipc_channel::ipc::bytes_channel().unwrap();
            let receiver: IpcReceiver<Envelope> = as_typed(receiver);
            let mut message = Vec::new();
            seal(len, &mut message);
            message.resize(message.len() + len, 7);
            sender.send(&message).unwrap();
            assert_eq!(receiver.recv().unwrap().0, vec![7; len]);
        }
    }

    fn as_typed(receiver: ipc_channel::ipc::IpcBytesReceiver) -> IpcReceiver<Envelope> {
        let (sender, receivers) = ipc_channel::ipc::channel().unwrap();
        sender.send(receiver).unwrap();
        receivers.to_opaque().to::<IpcReceiver<Envelope>>().recv().unwrap()
    }

    #[test]
    fn a_length_is_refused_beyond_the_limit() {
        assert_eq!(length(3, 3), Some([3, 0, 0, 0]));
        assert_eq!(length(4, 3), None);
    }
}
