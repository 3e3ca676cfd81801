//! The one door to durable storage: a few operations that S3, a local directory and memory can all offer.

use std::ops::Range;

use bytes::Bytes;
use futures::future::BoxFuture;

/// What a conditional create found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object did not exist; it does now, durably, with exactly these bytes.
    Stored,
    /// An object of that key exists. Whose it is, is a question that only reading it answers.
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

/// Why a store did not answer.
///
/// After [`StoreError::Conflict`] and [`StoreError::Unavailable`] the outcome is unknown: the effect may have happened, or may
/// still happen later. The log repeats such a request with unchanged bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another request for the same key was under way (S3: `409 ConditionalRequestConflict`).
    #[error("{key}: another request for this object was under way: {reason}")]
    Conflict {
        /// The object, or the prefix of a listing.
        key: String,
        /// What the store said.
        reason: String,
    },
    /// The store did not answer, throttled, or has no room now.
    #[error("{key}: the store is not available: {reason}")]
    Unavailable {
        /// The object, or the prefix of a listing.
        key: String,
        /// What the store said.
        reason: String,
    },
    /// The store refuses for good (no permission, no such bucket, a key it cannot hold).
    #[error("{key}: the store refuses: {reason}")]
    Fatal {
        /// The object, or the prefix of a listing.
        key: String,
        /// What the store said.
        reason: String,
    },
}

impl StoreError {
    /// Whether asking again can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !matches!(self, StoreError::Fatal { .. })
    }
}

/// Flat, strongly consistent object storage with conditional create.
///
/// Keys are `/`-separated names of ASCII letters, digits, `.`, `_`, `-`; no name is empty or begins with a dot. Objects are never changed in
/// place. Implementations do not retry: that is the log's business, because only it knows what a refusal means.
pub trait ObjectStore: Send + Sync {
    /// Stores `bytes` under `key` if and only if nothing is there (S3: `PutObject` with `If-None-Match: *`).
    /// [`Created::Stored`] means durable.
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>>;

    /// The whole object, or `None` if there is none.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;

    /// A part of an object, in bytes, or `None` if there is no such object. A range beyond the end is cut to the object's end.
    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;

    /// Up to `max` objects whose keys begin with `prefix` and are greater than `start_after`, in ascending order of their keys.
    /// `prefix` ends with `/`. Fewer than `max` means that there are no more.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>>;

    /// Removes objects; one that does not exist is no error.
    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes the object under `key` if it is `bytes` (S3: `DeleteObject` with `If-Match`). Another one stays, and is no error, and neither is none: who
    /// asks again, or whose request arrives late, takes nothing from whoever uses the key next.
    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}
