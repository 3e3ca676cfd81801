//! Store that reports its writes.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use satchel_log::{Created, ObjectMeta, ObjectStore, StoreError};

/// Hook called with the size, in bytes, of every object that was stored.
pub type OnWritten = Arc<dyn Fn(u64) + Send + Sync>;

/// Wraps a store and reports its writes.
pub(super) struct Counted<S> {
    store: S,
    on_written: OnWritten,
}

impl<S> Counted<S> {
    pub(super) fn new(store: S, on_written: OnWritten) -> Self {
        Self { store, on_written }
    }
}

impl<S: ObjectStore> ObjectStore for Counted<S> {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(async move {
            let size = bytes.len() as u64;
            let created = self.store.create(key, bytes).await?;
            if created == Created::Stored {
                (self.on_written)(size);
            }
            Ok(created)
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.store.get(key)
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.store.get_range(key, range)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>> {
        self.store.list(prefix, start_after, max)
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.delete(keys)
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.delete_exactly(key, bytes)
    }
}

impl<S: fmt::Debug> fmt::Debug for Counted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counted").field(&self.store).finish()
    }
}
