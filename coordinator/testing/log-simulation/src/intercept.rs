//! A store whose requests a test can hold and release, to build one interleaving exactly.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use satchel_log::{Created, ObjectMeta, ObjectRange, ObjectStore, StoreError, TableLocation};

use crate::executor::yield_turns;

/// Another store that intercepts requests for the keys that a test names.
pub struct InterceptingStore {
    inner: Arc<dyn ObjectStore>,
    intercepts: Mutex<Intercepts>,
    requests: AtomicU64,
    reads: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Intercepts {
    held: BTreeSet<String>,
    held_reads: BTreeSet<String>,
    delayed: BTreeSet<String>,
    undelivered: Vec<(String, Bytes)>,
}

impl InterceptingStore {
    /// Creates a store that passes all requests on to `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            intercepts: Mutex::default(),
            requests: AtomicU64::new(0),
            reads: Mutex::default(),
        }
    }

    /// Holds creates of this key until [`InterceptingStore::release`].
    pub fn hold(&self, key: &str) {
        self.intercepts().held.insert(key.to_owned());
    }

    /// Releases creates of this key.
    pub fn release(&self, key: &str) {
        self.intercepts().held.remove(key);
    }

    /// Holds reads of parts of this object until [`InterceptingStore::release_reads`].
    pub fn hold_reads(&self, key: &str) {
        self.intercepts().held_reads.insert(key.to_owned());
    }

    /// Releases reads of parts of this object.
    pub fn release_reads(&self, key: &str) {
        self.intercepts().held_reads.remove(key);
    }

    /// Returns the objects that were read, as a whole or in part, since the last call.
    pub fn take_reads(&self) -> Vec<String> {
        std::mem::take(&mut *self.reads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Leaves creates of this key unanswered. They take effect at [`InterceptingStore::deliver`].
    pub fn delay(&self, key: &str) {
        self.intercepts().delayed.insert(key.to_owned());
    }

    /// Lets one delayed create of this key take effect, and stops delaying further ones.
    ///
    /// # Panics
    /// If none was delayed, or the store fails.
    pub async fn deliver(&self, key: &str) -> Created {
        let delayed = {
            let mut intercepts = self.intercepts();
            intercepts.delayed.remove(key);
            let at = intercepts
                .undelivered
                .iter()
                .position(|(delayed, _)| delayed == key);
            intercepts
                .undelivered
                .remove(at.expect("a create of this key was delayed"))
        };
        let (key, bytes) = delayed;
        let created = self.inner.create(&key, bytes).await;
        created.expect("the inner store does not fail")
    }

    /// Stops delaying creates of this key. Those already delayed stay delayed.
    pub fn stop_delaying(&self, key: &str) {
        self.intercepts().delayed.remove(key);
    }

    /// Number of requests made.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn record_read(&self, key: &str) {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        reads.push(key.to_owned());
    }

    fn intercepts(&self) -> MutexGuard<'_, Intercepts> {
        self.intercepts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObjectStore for InterceptingStore {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        self.count();
        Box::pin(async move {
            let delayed = {
                let mut intercepts = self.intercepts();
                let delayed = intercepts.delayed.contains(key);
                if delayed {
                    intercepts.undelivered.push((key.to_owned(), bytes.clone()));
                }
                delayed
            };
            if delayed {
                std::future::pending::<()>().await;
            }
            while self.intercepts().held.contains(key) {
                yield_turns(1).await;
            }
            self.inner.create(key, bytes).await
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.count();
        self.record_read(key);
        self.inner.get(key)
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.count();
        self.record_read(key);
        Box::pin(async move {
            while self.intercepts().held_reads.contains(key) {
                yield_turns(1).await;
            }
            self.inner.get_range(key, range).await
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>> {
        self.count();
        self.inner.list(prefix, start_after, max)
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.count();
        self.inner.delete(keys)
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.count();
        self.inner.delete_exactly(key, bytes)
    }

    fn table_location(&self) -> Option<&TableLocation> {
        self.inner.table_location()
    }

    fn delete_max(&self) -> usize {
        self.inner.delete_max()
    }

    fn read_range<'a>(
        &'a self,
        prefix: &'a str,
        start_after: &'a str,
    ) -> Option<BoxFuture<'a, Result<ObjectRange, StoreError>>> {
        let range = self.inner.read_range(prefix, start_after)?;
        self.count();
        self.record_read(prefix);
        Some(range)
    }

    fn archive<'a>(
        &'a self,
        log_prefix: &'a str,
        below: u64,
    ) -> Option<BoxFuture<'a, Result<bool, StoreError>>> {
        self.inner.archive(log_prefix, below)
    }
}
