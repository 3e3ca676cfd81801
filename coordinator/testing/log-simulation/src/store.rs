//! A store with every fault that a real one may have.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use satchel_log::{Created, ObjectMeta, ObjectStore, StoreError};

use crate::faults::{Faults, FaultyRequests};
use crate::random::Random;

/// Another store, with faults.
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    requests: FaultyRequests<(String, Bytes)>,
}

impl FaultyStore {
    /// Creates a store over `inner` with `faults` drawn from `random`.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, faults: Faults, random: Random) -> Self {
        Self {
            inner,
            requests: FaultyRequests::new(faults, random),
        }
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.requests.heal();
    }

    /// Number of requests made.
    pub fn requests(&self) -> u64 {
        self.requests.requests()
    }

    /// Lets one delayed write take effect, if there is any.
    pub async fn apply_late_write(&self) {
        if let Some((key, bytes)) = self.requests.take_late() {
            // The answer of a late write reaches no caller.
            let _ = self.inner.create(&key, bytes).await;
        }
    }
}

impl ObjectStore for FaultyStore {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(async move {
            let late = || (key.to_owned(), bytes.clone());
            let effect = self.inner.create(key, bytes.clone());
            self.requests.create(key, late, effect).await
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move {
            self.requests
                .perform(key, Box::pin(async { self.inner.get(key).await }))
                .await
        })
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move {
            let effect = Box::pin(async { self.inner.get_range(key, range).await });
            self.requests.perform(key, effect).await
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>> {
        Box::pin(async move {
            let effect = Box::pin(async { self.inner.list(prefix, start_after, max).await });
            self.requests.perform(prefix, effect).await
        })
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let first = keys.first().map_or("", String::as_str);
            self.requests
                .perform(first, Box::pin(async { self.inner.delete(keys).await }))
                .await
        })
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let effect = Box::pin(async { self.inner.delete_exactly(key, bytes).await });
            self.requests.perform(key, effect).await
        })
    }
}
