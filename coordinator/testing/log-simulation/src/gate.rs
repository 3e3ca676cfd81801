//! A store whose requests a test can stop and let go, to build one interleaving exactly.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use satchel_log::{Created, ObjectMeta, ObjectStore, StoreError};

use crate::executor::give_way;

/// Another store with gates at the keys that a test names.
pub struct GatedStore {
    inner: Arc<dyn ObjectStore>,
    gates: Mutex<Gates>,
    requests: AtomicU64,
    reads: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Gates {
    held: BTreeSet<String>,
    held_reads: BTreeSet<String>,
    swallowed: BTreeSet<String>,
    late: Vec<(String, Bytes)>,
}

impl GatedStore {
    /// `inner` with all gates open.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            gates: Mutex::default(),
            requests: AtomicU64::new(0),
            reads: Mutex::default(),
        }
    }

    /// Creates of this key wait until [`GatedStore::release`].
    pub fn hold(&self, key: &str) {
        self.gates().held.insert(key.to_owned());
    }

    /// Lets creates of this key go on.
    pub fn release(&self, key: &str) {
        self.gates().held.remove(key);
    }

    /// Reads of parts of this object wait until [`GatedStore::release_reads`].
    pub fn hold_reads(&self, key: &str) {
        self.gates().held_reads.insert(key.to_owned());
    }

    /// Lets reads of parts of this object go on.
    pub fn release_reads(&self, key: &str) {
        self.gates().held_reads.remove(key);
    }

    /// The objects that were read, as a whole or in part, since this was asked last.
    pub fn take_reads(&self) -> Vec<String> {
        std::mem::take(&mut *self.reads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Creates of this key get no answer, and happen at [`GatedStore::land`].
    pub fn swallow(&self, key: &str) {
        self.gates().swallowed.insert(key.to_owned());
    }

    /// The swallowed creates of this key happen; from now on its gate is open.
    ///
    /// # Panics
    /// If none was swallowed, or the store fails.
    pub async fn land(&self, key: &str) -> Created {
        let late = {
            let mut gates = self.gates();
            gates.swallowed.remove(key);
            let at = gates.late.iter().position(|(late, _)| late == key);
            gates
                .late
                .remove(at.expect("a create of this key was swallowed"))
        };
        let (key, bytes) = late;
        let created = self.inner.create(&key, bytes).await;
        created.expect("the inner store does not fail")
    }

    /// Opens the gate of this key for others; what it swallowed stays swallowed.
    pub fn spare(&self, key: &str) {
        self.gates().swallowed.remove(key);
    }

    /// How many requests were made.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn note_read(&self, key: &str) {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        reads.push(key.to_owned());
    }

    fn gates(&self) -> MutexGuard<'_, Gates> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObjectStore for GatedStore {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        self.count();
        Box::pin(async move {
            let swallowed = {
                let mut gates = self.gates();
                let swallowed = gates.swallowed.contains(key);
                if swallowed {
                    gates.late.push((key.to_owned(), bytes.clone()));
                }
                swallowed
            };
            if swallowed {
                std::future::pending::<()>().await;
            }
            while self.gates().held.contains(key) {
                give_way(1).await;
            }
            self.inner.create(key, bytes).await
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.count();
        self.note_read(key);
        self.inner.get(key)
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.count();
        self.note_read(key);
        Box::pin(async move {
            while self.gates().held_reads.contains(key) {
                give_way(1).await;
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
}
