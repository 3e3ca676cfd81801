//! A log in a table: commits of a few milliseconds, which cost less than objects.
//!
//! ```text
//!                       ┌─ small ─────────────────────────────┐
//! create log/<n> ───────┤                                     ├─► item <n>, if there is none
//!                       └─ large ─► bodies/<n>-<digest> ─► pointer
//!
//!                       ┌─ items ─────────────────────────────────────────────┐
//! get, list, read_range ┤                                                     ├─► log/<n>
//!                       └─ archived/<last>-<first>, which beats an item ─────┘
//!
//! archive:  items ─► archived/… durable ─► items deleted, bodies stay
//! delete:    items ─► archived/…, once all of it is deleted ─► bodies
//! ```
//!
//! [`TabledStore`] shows the log and the claims of epochs as objects under their usual keys, so all
//! rules of the log hold unchanged: the next number is one conditional write, and what is refused
//! is read. All other objects lie in the store below.
//!
//! - A body is durable before the item that points to it. Its name holds the digest of its
//!   content, and the content the epoch and the nonce of its writer: the body of a writer that
//!   loses is never taken for the winner's.
//! - A body without a pointer may get one later, as long as its number can be written. So bodies
//!   are only deleted for numbers that are collected.
//! - An item is deleted only once it is archived, or collected. Then its number can be created
//!   again, as any collected one: the claim of the next epoch keeps the writer from believing it.
//!   Readers look for the archived log *after* the item, so that they never take such an item for
//!   the one that was archived. Archiving looks for it after reading the items, for the same
//!   reason: what an archived object holds for a number is always the item that was there first.
//! - A pointer whose body is gone reads as no object: it was collected.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

pub use self::table::{ATTRIBUTE_NAMES_BYTES, ITEM_BYTES_MAX, ItemPage, LogTable, MemoryTable};

use self::names::{Names, Sequence, Series, first_after};
use self::pointer::Pointer;
use crate::application::TableLocation;
use crate::io::PAGE;
use crate::store::{Created, ObjectMeta, ObjectRange, ObjectStore, StoreError};

mod archived;
mod collecting;
mod names;
mod pointer;
mod reading;
mod table;

/// An [`ObjectStore`] whose logs and claims of epochs lie in a [`LogTable`].
pub struct TabledStore {
    objects: Arc<dyn ObjectStore>,
    table: Arc<dyn LogTable>,
    location: TableLocation,
    names: Names,
    item_bytes_max: usize,
}

impl TabledStore {
    /// Joins `objects`, which holds `root` of an application of `partitions` partitions, and the
    /// `table` at `location`.
    #[must_use]
    pub fn new(
        objects: Arc<dyn ObjectStore>,
        table: Arc<dyn LogTable>,
        root: &str,
        partitions: u32,
        location: TableLocation,
    ) -> Self {
        Self {
            names: Names::new(root, partitions, &location.key),
            objects,
            table,
            location,
            item_bytes_max: ITEM_BYTES_MAX,
        }
    }

    /// Sets the maximum size of an item in bytes, for tests: by default [`ITEM_BYTES_MAX`].
    #[must_use]
    pub fn with_item_bytes_max(self, item_bytes_max: usize) -> Self {
        Self {
            item_bytes_max,
            ..self
        }
    }

    async fn create_item(
        &self,
        (sequence, number): (Sequence, u64),
        bytes: Bytes,
    ) -> Result<Created, StoreError> {
        let (log, name) = (self.names.log(sequence.partition), sequence.item(number));
        let size = log.len() + name.len() + ATTRIBUTE_NAMES_BYTES + bytes.len();
        if size <= self.item_bytes_max || sequence.series == Series::Epochs {
            return self.table.put(&log, &name, bytes).await;
        }
        let pointer = Pointer::to(&bytes);
        let body = self.body_key(sequence.partition, number, &pointer);
        // A body of that name has this content, whoever stored it.
        self.objects.create(&body, bytes).await?;
        self.table.put(&log, &name, pointer.encode()).await
    }

    fn body_key(&self, partition: u32, number: u64, pointer: &Pointer) -> String {
        self.names.bodies_prefix(partition) + &pointer.name(number)
    }

    /// Lists what is not in the table and not a part of a log.
    async fn list_objects(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        max: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        let mut found = Vec::new();
        let mut after = start_after.map(str::to_owned);
        while found.len() < max {
            let asked = (max - found.len()).min(PAGE);
            let page = self.objects.list(prefix, after.as_deref(), asked).await?;
            let last = page.len() < asked;
            after = page.last().map(|object| object.key.clone());
            let mut skipped = false;
            for object in page {
                if let Some(parts) = self.names.part_prefix(&object.key) {
                    // Greater than every key of these parts: no key contains a tilde.
                    after = Some(parts + "~");
                    skipped = true;
                    break;
                }
                found.push(object);
            }
            if last && !skipped {
                break;
            }
        }
        Ok(found)
    }

    async fn list_sequence(
        &self,
        sequence: Sequence,
        start_after: Option<&str>,
        max: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        let prefix = self.names.prefix(sequence);
        let Some(first) = first_after(&prefix, start_after) else {
            return Ok(Vec::new());
        };
        let numbers = self.numbers(sequence, first, max).await?;
        let object = |(number, size): (u64, u64)| ObjectMeta {
            key: format!("{prefix}{number:020}"),
            size,
        };
        Ok(numbers.into_iter().map(object).collect())
    }

    async fn list_all(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        max: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        if let Some(sequence) = self.names.sequence(prefix) {
            return self.list_sequence(sequence, start_after, max).await;
        }
        let objects = self.list_objects(prefix, start_after, max).await?;
        let sizes = objects.into_iter().map(|object| (object.key, object.size));
        let mut all: BTreeMap<String, u64> = sizes.collect();
        for sequence in self.names.sequences_under(prefix) {
            let listed = self.list_sequence(sequence, start_after, max).await?;
            all.extend(listed.into_iter().map(|object| (object.key, object.size)));
        }
        let all = all.into_iter().take(max);
        Ok(all.map(|(key, size)| ObjectMeta { key, size }).collect())
    }

    async fn delete_all(&self, keys: &[String]) -> Result<(), StoreError> {
        let mut others = Vec::new();
        let mut numbers: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
        for key in keys {
            match self.names.parse(key) {
                None => others.push(key.clone()),
                Some((sequence, number)) if sequence.series == Series::Log => {
                    numbers
                        .entry(sequence.partition)
                        .or_default()
                        .insert(number);
                }
                Some((sequence, number)) => {
                    let log = self.names.log(sequence.partition);
                    self.table.delete(&log, &[sequence.item(number)]).await?;
                }
            }
        }
        for page in others.chunks(PAGE) {
            self.objects.delete(page).await?;
        }
        for (partition, numbers) in numbers {
            self.delete_numbers(partition, &numbers).await?;
        }
        Ok(())
    }

    async fn delete_item_exactly(
        &self,
        (sequence, number): (Sequence, u64),
        bytes: &Bytes,
    ) -> Result<(), StoreError> {
        let (log, name) = (self.names.log(sequence.partition), sequence.item(number));
        let Some(content) = self.table.get(&log, &name).await? else {
            return Ok(());
        };
        let pointer = Pointer::to(bytes).encode();
        if content == *bytes || content == pointer {
            self.table.delete_exactly(&log, &name, &content).await?;
        }
        Ok(())
    }
}

impl ObjectStore for TabledStore {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        match self.names.parse(key) {
            None => self.objects.create(key, bytes),
            Some(item) => Box::pin(self.create_item(item, bytes)),
        }
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        match self.names.parse(key) {
            None => self.objects.get(key),
            Some((sequence, number)) => Box::pin(self.read(sequence, number)),
        }
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        let Some((sequence, number)) = self.names.parse(key) else {
            return self.objects.get_range(key, range);
        };
        Box::pin(async move {
            let found = self.read(sequence, number).await?;
            Ok(found.map(|bytes| {
                let end = usize::try_from(range.end).map_or(bytes.len(), |e| e.min(bytes.len()));
                let start = usize::try_from(range.start).map_or(end, |start| start.min(end));
                bytes.slice(start..end)
            }))
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>> {
        Box::pin(self.list_all(prefix, start_after, max))
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.delete_all(keys))
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        match self.names.parse(key) {
            None => self.objects.delete_exactly(key, bytes),
            Some(item) => Box::pin(self.delete_item_exactly(item, bytes)),
        }
    }

    fn table_location(&self) -> Option<&TableLocation> {
        Some(&self.location)
    }

    fn delete_max(&self) -> usize {
        // An archived object is deleted by the call that names all of its numbers.
        usize::MAX
    }

    fn read_range<'a>(
        &'a self,
        prefix: &'a str,
        start_after: &'a str,
    ) -> Option<BoxFuture<'a, Result<ObjectRange, StoreError>>> {
        let sequence = self.names.sequence(prefix)?;
        Some(Box::pin(async move {
            match first_after(prefix, Some(start_after)) {
                Some(first) => self.range(sequence, first).await,
                None => Ok(ObjectRange {
                    objects: Vec::new(),
                    complete: true,
                }),
            }
        }))
    }

    fn archive<'a>(
        &'a self,
        log_prefix: &'a str,
        below: u64,
    ) -> Option<BoxFuture<'a, Result<bool, StoreError>>> {
        let sequence = self.names.sequence(log_prefix)?;
        Some(Box::pin(self.archive_some(sequence, below)))
    }
}

impl std::fmt::Debug for TabledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TabledStore")
            .field("location", &self.location)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}
