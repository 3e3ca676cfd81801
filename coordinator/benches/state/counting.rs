//! A store that counts the bytes written to it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use satchel_log::{Created, ObjectMeta, ObjectStore, StoreError};

/// Forwards every request and counts the bytes of created objects.
pub(crate) struct Counting {
    inner: Arc<dyn ObjectStore>,
    written: Written,
}

/// Bytes written so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    log: Arc<AtomicU64>,
    all: Arc<AtomicU64>,
}

impl Written {
    /// Bytes of log objects.
    pub(crate) fn log(&self) -> u64 {
        self.log.load(Ordering::Relaxed)
    }

    /// Bytes of all objects.
    pub(crate) fn all(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }
}

impl Counting {
    /// Wraps `inner` and counts from now on.
    pub(crate) fn over(inner: Arc<dyn ObjectStore>) -> (Self, Written) {
        let written = Written::default();
        let counting = Self {
            inner,
            written: written.clone(),
        };
        (counting, written)
    }
}

impl ObjectStore for Counting {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        let length = bytes.len() as u64;
        self.written.all.fetch_add(length, Ordering::Relaxed);
        if key.contains("/log/") {
            self.written.log.fetch_add(length, Ordering::Relaxed);
        }
        self.inner.create(key, bytes)
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.inner.get(key)
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.inner.get_range(key, range)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>> {
        self.inner.list(prefix, start_after, max)
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.inner.delete(keys)
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.inner.delete_exactly(key, bytes)
    }
}
