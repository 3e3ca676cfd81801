//! Views of a store in which somebody does not see all, or acts late: for mistakes that are made by not looking.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use satchel_log::{Clock, Created, ObjectMeta, ObjectStore, StoreError};

use crate::clock::SimulatedClock;

/// What is not seen.
pub(crate) enum Blinkers {
    /// Everything is.
    Off,
    /// Savepoints are in no listing.
    Savepoints,
    /// What has changed since the reads before the last create.
    Changes(Mutex<Memory>),
}

#[derive(Default)]
pub(crate) struct Memory {
    /// Something was created and not deleted: what was read before is not read again.
    closed: bool,
    objects: BTreeMap<String, Option<Bytes>>,
    lists: BTreeMap<(String, Option<String>), Vec<ObjectMeta>>,
}

/// Another store, seen through blinkers.
pub(crate) struct Blinkered {
    pub(crate) inner: Arc<dyn ObjectStore>,
    pub(crate) blinkers: Blinkers,
    /// For so long, in milliseconds, whoever looks sleeps before each create.
    pub(crate) sleep: Option<(SimulatedClock, u64)>,
}

impl Blinkered {
    /// What is remembered of a read, if nothing is looked at any more.
    fn known<T>(&self, of: impl Fn(&Memory) -> Option<T>) -> Option<T> {
        self.memory()
            .filter(|memory| memory.closed)
            .and_then(|memory| of(&memory))
    }

    fn close(&self, closed: bool) {
        if let Some(mut memory) = self.memory() {
            memory.closed = closed;
        }
    }

    fn memory(&self) -> Option<std::sync::MutexGuard<'_, Memory>> {
        match &self.blinkers {
            Blinkers::Off | Blinkers::Savepoints => None,
            Blinkers::Changes(memory) => {
                Some(memory.lock().unwrap_or_else(PoisonError::into_inner))
            }
        }
    }
}

impl ObjectStore for Blinkered {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(async move {
            if let Some((clock, ms)) = &self.sleep {
                clock.sleep(*ms).await;
            }
            let created = self.inner.create(key, bytes).await;
            self.close(true);
            created
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move {
            let known = self.known(|memory| memory.objects.get(key).cloned());
            if let Some(known) = known {
                return Ok(known);
            }
            let found = self.inner.get(key).await?;
            if let Some(mut memory) = self.memory() {
                memory.objects.insert(key.to_owned(), found.clone());
            }
            Ok(found)
        })
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
        Box::pin(async move {
            if matches!(self.blinkers, Blinkers::Savepoints) && prefix.ends_with("/savepoints/") {
                return Ok(Vec::new());
            }
            let asked = (prefix.to_owned(), start_after.map(str::to_owned));
            let known = self.known(|memory| memory.lists.get(&asked).cloned());
            if let Some(known) = known {
                return Ok(known);
            }
            let found = self.inner.list(prefix, start_after, max).await?;
            if let Some(mut memory) = self.memory() {
                memory.lists.insert(asked, found.clone());
            }
            Ok(found)
        })
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.close(false);
        self.inner.delete(keys)
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.close(false);
        self.inner.delete_exactly(key, bytes)
    }
}
