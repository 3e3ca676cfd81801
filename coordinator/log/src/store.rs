//! The interface to durable storage: the few operations that S3, a local directory and memory can
//! all provide.

use std::ops::Range;

use bytes::Bytes;
use futures::future::BoxFuture;

/// Maximum size of an object, in bytes. A larger one was not written by this software, and reading
/// it would fill the memory.
pub const OBJECT_BYTES_MAX: u64 = 8 << 30;

/// Result of a conditional create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object did not exist. It is now durable with exactly these bytes.
    Stored,
    /// An object of that key exists. Reading it tells whose it is.
    Exists,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The whole key.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
}

/// A failed store request.
///
/// After [`StoreError::Conflict`] and [`StoreError::Unavailable`] the outcome is unknown: the
/// request may have taken effect, or may still do so later. The log retries it with unchanged
/// bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another request for the same key was in progress (S3: `409 ConditionalRequestConflict`).
    #[error("{key}: another request for this object was under way: {reason}")]
    Conflict {
        /// The object, or the prefix of a listing.
        key: String,
        /// Reason given by the store.
        reason: String,
    },
    /// The store did not answer, throttled the request, or has no room now.
    #[error("{key}: the store is not available: {reason}")]
    Unavailable {
        /// The object, or the prefix of a listing.
        key: String,
        /// Reason given by the store.
        reason: String,
    },
    /// The store rejects the request permanently: no permission, no bucket, or an invalid key.
    #[error("{key}: the store refuses: {reason}")]
    Fatal {
        /// The object, or the prefix of a listing.
        key: String,
        /// Reason given by the store.
        reason: String,
    },
}

impl StoreError {
    /// Returns true if a retry may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !matches!(self, StoreError::Fatal { .. })
    }
}

/// Flat, strongly consistent object storage with conditional create.
///
/// Keys are `/`-separated names of ASCII letters, digits, `.`, `_`, `-`. No name is empty or begins
/// with a dot. Objects are never changed in place. Implementations do not retry: only the log knows
/// the meaning of a refused create.
pub trait ObjectStore: Send + Sync {
    /// Stores `bytes` under `key` if and only if no object has that key (S3: `PutObject` with
    /// `If-None-Match: *`). [`Created::Stored`] means durable.
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>>;

    /// Reads a whole object; `None` if it does not exist. An object of more than
    /// [`OBJECT_BYTES_MAX`] is refused before it is read.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;

    /// Reads a byte range of an object; `None` if it does not exist. A range beyond the end is cut
    /// to the end of the object.
    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;

    /// Lists up to `max` objects whose keys begin with `prefix` and are greater than `start_after`,
    /// in ascending order of keys. `prefix` ends with `/`. Fewer than `max` means that there are no
    /// more.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>>;

    /// Deletes objects. An object that does not exist is not an error.
    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Deletes the object under `key` if its content is `bytes` (S3: `DeleteObject` with
    /// `If-Match`). Another object is left alone. Neither that nor a missing object is an error. A
    /// retried or late request therefore never deletes an object that a later user of the key
    /// stored.
    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}
