//! The interface to durable storage: the few operations that S3, a local directory and memory can
//! all provide.

use std::ops::Range;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::application::TableLocation;

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
    /// Size in bytes; 0 if the store does not know it without reading the object.
    pub size: u64,
}

/// Objects in the order of their keys, with their contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRange {
    /// Keys and contents; `None` for an object that was listed, and of which a part is gone: it was
    /// deleted meanwhile, or is lost.
    pub objects: Vec<(String, Option<Bytes>)>,
    /// True if no further objects follow. If not, there is at least one object.
    pub complete: bool,
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
    /// Another part of the store than the object itself, without which the object cannot be read,
    /// is damaged.
    #[error("{key} cannot be read: {reason}")]
    Damaged {
        /// The part.
        key: String,
        /// The damage.
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
        !matches!(self, StoreError::Fatal { .. } | StoreError::Damaged { .. })
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

    /// The table that holds the logs of the root, if it is not in the store itself. The record of
    /// an application names it.
    fn table_location(&self) -> Option<&TableLocation> {
        None
    }

    /// Maximum number of keys in one [`ObjectStore::delete`].
    fn delete_max(&self) -> usize {
        1000
    }

    /// Reads the objects whose keys begin with `prefix` and are greater than `start_after`, in
    /// ascending order: as many as one request returns. `None` if the store lists objects without
    /// their contents, as most do.
    fn read_range<'a>(
        &'a self,
        prefix: &'a str,
        start_after: &'a str,
    ) -> Option<BoxFuture<'a, Result<ObjectRange, StoreError>>> {
        let _ = (prefix, start_after);
        None
    }

    /// Moves some log objects below number `below` to where they cost less. They can still be read
    /// and listed. Returns true if there may be more to move. `None` if the store has no such
    /// place.
    ///
    /// Only for numbers that a former snapshot may need, and after the grace period.
    fn archive<'a>(
        &'a self,
        log_prefix: &'a str,
        below: u64,
    ) -> Option<BoxFuture<'a, Result<bool, StoreError>>> {
        let _ = (log_prefix, below);
        None
    }
}
