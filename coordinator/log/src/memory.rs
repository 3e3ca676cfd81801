//! Objects in memory, for ephemeral state and for tests.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, ready};

use crate::store::{Created, ObjectMeta, ObjectStore, StoreError};

/// An [`ObjectStore`] that forgets everything when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an object whether or not the key exists, for tests that damage or plant one.
    pub fn plant(&self, key: &str, bytes: Bytes) {
        self.lock().insert(key.to_owned(), bytes);
    }

    /// Returns all keys, in ascending order.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        // A panic elsewhere cannot leave the map half changed: every change is one call.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObjectStore for MemoryStore {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        let mut objects = self.lock();
        let answer = if objects.contains_key(key) {
            Created::Exists
        } else {
            objects.insert(key.to_owned(), bytes);
            Created::Stored
        };
        Box::pin(ready(Ok(answer)))
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(ready(Ok(self.lock().get(key).cloned())))
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        let part = self.lock().get(key).map(|bytes| {
            let end = usize::try_from(range.end).map_or(bytes.len(), |end| end.min(bytes.len()));
            let start = usize::try_from(range.start).map_or(end, |start| start.min(end));
            bytes.slice(start..end)
        });
        Box::pin(ready(Ok(part)))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>> {
        let from = match start_after {
            Some(key) if key >= prefix => Bound::Excluded(key),
            _ => Bound::Included(prefix),
        };
        let found = self
            .lock()
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(max)
            .map(|(key, bytes)| ObjectMeta {
                key: key.clone(),
                size: bytes.len() as u64,
            })
            .collect();
        Box::pin(ready(Ok(found)))
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        let mut objects = self.lock();
        for key in keys {
            objects.remove(key);
        }
        Box::pin(ready(Ok(())))
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let mut objects = self.lock();
        if objects.get(key) == Some(bytes) {
            objects.remove(key);
        }
        Box::pin(ready(Ok(())))
    }
}
