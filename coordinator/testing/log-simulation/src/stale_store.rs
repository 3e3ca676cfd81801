//! Views of a store that hide objects or act late, for mistakes made by not checking.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use satchel_log::{
    Clock, Created, ObjectMeta, ObjectRange, ObjectStore, StoreError, TableLocation,
};

use crate::clock::SimulatedClock;

/// The part of the store that the view hides.
pub(crate) enum Staleness {
    /// Nothing.
    Current,
    /// Savepoints are in no listing.
    NoSavepoints,
    /// Changes since the reads before the last create.
    Frozen(Mutex<Remembered>),
}

#[derive(Default)]
pub(crate) struct Remembered {
    /// True after a create, until a deletion: reads are answered from memory.
    frozen: bool,
    objects: BTreeMap<String, Option<Bytes>>,
    lists: BTreeMap<(String, Option<String>), Vec<ObjectMeta>>,
    ranges: BTreeMap<(String, String), ObjectRange>,
}

/// Another store, seen as it was before.
pub(crate) struct StaleStore {
    pub(crate) inner: Arc<dyn ObjectStore>,
    pub(crate) staleness: Staleness,
    /// Wait in milliseconds before each create.
    pub(crate) delay: Option<(SimulatedClock, u64)>,
}

impl StaleStore {
    /// Returns the remembered result of a read while the view is frozen.
    fn known<T>(&self, of: impl Fn(&Remembered) -> Option<T>) -> Option<T> {
        self.remembered()
            .filter(|memory| memory.frozen)
            .and_then(|memory| of(&memory))
    }

    fn set_frozen(&self, frozen: bool) {
        if let Some(mut memory) = self.remembered() {
            memory.frozen = frozen;
        }
    }

    fn remembered(&self) -> Option<std::sync::MutexGuard<'_, Remembered>> {
        match &self.staleness {
            Staleness::Current | Staleness::NoSavepoints => None,
            Staleness::Frozen(memory) => {
                Some(memory.lock().unwrap_or_else(PoisonError::into_inner))
            }
        }
    }
}

impl ObjectStore for StaleStore {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(async move {
            if let Some((clock, ms)) = &self.delay {
                clock.sleep(*ms).await;
            }
            let created = self.inner.create(key, bytes).await;
            self.set_frozen(true);
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
            if let Some(mut memory) = self.remembered() {
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
            if matches!(self.staleness, Staleness::NoSavepoints) && prefix.ends_with("/savepoints/")
            {
                return Ok(Vec::new());
            }
            let asked = (prefix.to_owned(), start_after.map(str::to_owned));
            let known = self.known(|memory| memory.lists.get(&asked).cloned());
            if let Some(known) = known {
                return Ok(known);
            }
            let found = self.inner.list(prefix, start_after, max).await?;
            if let Some(mut memory) = self.remembered() {
                memory.lists.insert(asked, found.clone());
            }
            Ok(found)
        })
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.set_frozen(false);
        self.inner.delete(keys)
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.set_frozen(false);
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
        let read = self.inner.read_range(prefix, start_after)?;
        Some(Box::pin(async move {
            let asked = (prefix.to_owned(), start_after.to_owned());
            let known = self.known(|memory| memory.ranges.get(&asked).cloned());
            if let Some(known) = known {
                return Ok(known);
            }
            let range = read.await?;
            if let Some(mut memory) = self.remembered() {
                memory.ranges.insert(asked, range.clone());
            }
            Ok(range)
        }))
    }

    fn archive<'a>(
        &'a self,
        log_prefix: &'a str,
        below: u64,
    ) -> Option<BoxFuture<'a, Result<bool, StoreError>>> {
        self.inner.archive(log_prefix, below)
    }
}
