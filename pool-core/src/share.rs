//! Values that many calls read, and that travel once to each worker.
//!
//! ```text
//!  parent                                             worker
//!  Shared ── encoded once, with the first call ─► Share ══ frame, before the first call that refers to it ══► shelf
//!  call (id) ═══════════════════════════════════════════════════════════════════════════════► decoded once ─► Shared
//!  the last one is dropped ═══════════════════════════════════════════════════════════════► off the shelf
//! ```

use std::any::{Any, type_name};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes as Blob;
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::call::{Argument, lock};
use crate::codec::Codec;
use crate::desk;
use crate::slot::{Letter, Slot};
use crate::wire;

/// A value that many calls read: it travels once to each worker, not once with each call.
///
/// Like an `Arc`: cheap to clone, and a `&T` wherever it is. It may stand anywhere inside the argument of a call, or of
/// an item of [`map`](crate::Executor::map), of any pool. The first such call encodes it, and it is kept encoded besides;
/// the first one at each worker brings it there and decodes it; a worker that takes another's place gets it anew. Once
/// the last clone is dropped, and the calls that refer to it have ended, the workers let go of it too.
///
/// Everywhere else, in results, arguments of initializers and other formats, it travels as the value it holds, each time.
///
/// # Errors
/// A value that cannot be encoded or is too large fails `submit`, and one that cannot be decoded fails the call, as if it
/// stood in the argument itself.
pub struct Shared<T>(Arc<Inner<T>>);

struct Inner<T> {
    value: T,
    /// The value, encoded: once for each codec that was needed, which is one in most programs.
    shares: Mutex<Vec<Arc<Share>>>,
}

impl<T> Shared<T> {
    /// Shares `value`.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Inner { value, shares: Mutex::default() }))
    }
}

impl<T: Serialize> Shared<T> {
    fn share(&self, codec: Codec) -> Result<Arc<Share>, String> {
        let find = |shares: &[Arc<Share>]| shares.iter().find(|share| share.codec == codec).cloned();
        if let Some(share) = find(&lock(&self.0.shares)) {
            return Ok(share);
        }
        // Not under the lock: to encode it runs the user's code. Who is second throws his own away.
        let fresh = Arc::new(Share::encode(codec, &self.0.value)?);
        let mut shares = lock(&self.0.shares);
        Ok(find(&shares).unwrap_or_else(|| {
            shares.push(Arc::clone(&fresh));
            fresh
        }))
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> AsRef<T> for Shared<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.0.value).finish()
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(codec) = desk::shares_in() else { return self.0.value.serialize(serializer) };
        let share = self
            .share(codec)
            .map_err(|why| S::Error::custom(desk::trouble(format!("the shared value: {why}"))))?;
        let id = share.id;
        desk::refer(share);
        serializer.serialize_u64(id)
    }
}

impl<'de, T: DeserializeOwned + Send + Sync + 'static> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match desk::shelf() {
            None => T::deserialize(deserializer).map(Self::new),
            Some(shelf) => {
                shelf.get(u64::deserialize(deserializer)?).map_err(|why| D::Error::custom(desk::trouble(why)))
            }
        }
    }
}

/// A shared value in one codec, at the parent.
#[derive(Debug)]
pub(crate) struct Share {
    /// Unique in this process for ever.
    pub(crate) id: u64,
    codec: Codec,
    pub(crate) value: Argument,
    /// The workers that have it.
    holders: Mutex<Vec<Weak<Slot>>>,
}

impl Share {
    fn encode<T: Serialize>(codec: Codec, value: &T) -> Result<Self, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut encoded = Vec::new();
        let beside = codec.encode_beside(value, &mut encoded)?;
        let value = Argument::of(encoded, beside);
        Ok(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), codec, value, holders: Mutex::default() })
    }

    /// Notes that a worker has it.
    pub(crate) fn given(&self, slot: Weak<Slot>) {
        let mut holders = lock(&self.holders);
        if holders.len() == holders.capacity() {
            // Workers that are gone leave nothing but a dead reference.
            holders.retain(|held| held.strong_count() > 0);
        }
        holders.push(slot);
    }
}

impl Drop for Share {
    /// Nobody can refer to it any more.
    fn drop(&mut self) {
        let holders = std::mem::take(&mut *lock(&self.holders));
        for slot in holders.iter().filter_map(Weak::upgrade) {
            slot.forget_share(self.id);
            slot.post(Letter::Frame(wire::forget(self.id)));
            slot.flush();
        }
    }
}

/// Where a worker keeps shared values.
#[derive(Debug)]
pub(crate) struct Shelf {
    codec: Codec,
    values: RefCell<HashMap<u64, Shelved>>,
}

enum Shelved {
    /// As it came, with its blobs beside it or without any.
    Encoded { body: Blob, has_blobs: bool },
    /// An `Inner` of its type.
    Decoded(Arc<dyn Any + Send + Sync>),
}

impl fmt::Debug for Shelved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoded { .. } => "Encoded",
            Self::Decoded(_) => "Decoded",
        })
    }
}

impl Shelf {
    pub(crate) fn new(codec: Codec) -> Self {
        Self { codec, values: RefCell::default() }
    }

    pub(crate) fn put(&self, id: u64, body: Blob, has_blobs: bool) {
        let before = self.values.borrow_mut().insert(id, Shelved::Encoded { body, has_blobs });
        // Not while it is borrowed: a value's own drop may do anything.
        drop(before);
    }

    pub(crate) fn forget(&self, id: u64) {
        let gone = self.values.borrow_mut().remove(&id);
        drop(gone);
    }

    fn get<T: DeserializeOwned + Send + Sync + 'static>(&self, id: u64) -> Result<Shared<T>, String> {
        let (body, has_blobs) = match self.values.borrow().get(&id) {
            None => return Err(format!("there is no shared value number {id}")),
            Some(Shelved::Decoded(value)) => {
                let value = Arc::clone(value).downcast().map(Shared);
                return value.map_err(|_| format!("this shared value is no {}", type_name::<T>()));
            }
            Some(Shelved::Encoded { body, has_blobs }) => (body.clone(), *has_blobs),
        };
        // Not while it is borrowed: to decode it runs the user's code.
        let value: T = self.decode(&body, has_blobs).map_err(|why| format!("the shared value: {why}"))?;
        let value = Shared::new(value);
        let before = self.values.borrow_mut().insert(id, Shelved::Decoded(Arc::clone(&value.0) as _));
        drop(before);
        Ok(value)
    }

    fn decode<T: DeserializeOwned>(&self, body: &Blob, has_blobs: bool) -> Result<T, String> {
        if has_blobs { self.codec.decode_with_blobs(body) } else { self.codec.decode(body) }
    }
}
