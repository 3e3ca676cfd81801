//! The interface to the table that holds a log: single items with a conditional put, and queries of
//! their order.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, ready};

use crate::store::{Created, StoreError};

/// Maximum size in bytes of an item that the log writes: the names of the log and of the item, its
/// content, and [`ATTRIBUTE_NAMES_BYTES`]. What is larger becomes an object, and the item points to
/// it. At list prices an item of five units costs as much as a PUT.
pub const ITEM_BYTES_MAX: usize = 4 << 10;

/// Bytes of the names of an item's attributes, which count towards its size.
pub const ATTRIBUTE_NAMES_BYTES: usize = 16;

/// A page of items, in ascending order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemPage {
    /// Names and contents.
    pub items: Vec<(String, Bytes)>,
    /// True if further items follow in the range that was asked for.
    pub more: bool,
}

/// A table of items under the name of their log and their own name: all items of a log lie in one
/// place, in the order of their names. Reads are strongly consistent. Items are never changed in
/// place.
///
/// Implementations do not retry. An error says [`StoreError::Unavailable`] or
/// [`StoreError::Conflict`] if the outcome is unknown or a retry may succeed.
pub trait LogTable: Send + Sync {
    /// Stores an item if and only if there is none of that name (DynamoDB: `PutItem` with
    /// `attribute_not_exists`). [`Created::Stored`] means durable.
    fn put<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
        content: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>>;

    /// Reads an item; `None` if it does not exist.
    fn get<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;

    /// Reads up to `max` items whose names lie from `first` to `last`, both included. A page may be
    /// shorter (DynamoDB: 1 MB) but is not empty while [`ItemPage::more`] is set.
    fn query<'a>(
        &'a self,
        log: &'a str,
        first: &'a str,
        last: &'a str,
        max: usize,
    ) -> BoxFuture<'a, Result<ItemPage, StoreError>>;

    /// Deletes items. An item that does not exist is not an error.
    fn delete<'a>(
        &'a self,
        log: &'a str,
        names: &'a [String],
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Deletes the item if its content is `content`. Another item is left alone. Neither that nor a
    /// missing item is an error.
    fn delete_exactly<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
        content: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// A [`LogTable`] in memory, for tests.
#[derive(Debug, Default)]
pub struct MemoryTable {
    items: Mutex<BTreeMap<(String, String), Bytes>>,
}

impl MemoryTable {
    /// Creates an empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an item whether or not there is one of that name, for tests that damage or plant one.
    pub fn plant(&self, log: &str, name: &str, content: Bytes) {
        self.lock()
            .insert((log.to_owned(), name.to_owned()), content);
    }

    /// Returns the names of all items with those of their logs, in order.
    #[must_use]
    pub fn names(&self) -> Vec<(String, String)> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Bytes>> {
        // A panic elsewhere cannot leave the map half changed: every change is one call.
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogTable for MemoryTable {
    fn put<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
        content: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        let key = (log.to_owned(), name.to_owned());
        let mut items = self.lock();
        let created = match items.entry(key) {
            Entry::Occupied(_) => Created::Exists,
            Entry::Vacant(free) => {
                free.insert(content);
                Created::Stored
            }
        };
        Box::pin(ready(Ok(created)))
    }

    fn get<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        let key = (log.to_owned(), name.to_owned());
        Box::pin(ready(Ok(self.lock().get(&key).cloned())))
    }

    fn query<'a>(
        &'a self,
        log: &'a str,
        first: &'a str,
        last: &'a str,
        max: usize,
    ) -> BoxFuture<'a, Result<ItemPage, StoreError>> {
        let key = |name: &str| (log.to_owned(), name.to_owned());
        if first > last {
            return Box::pin(ready(Ok(ItemPage::default())));
        }
        let range = (Bound::Included(key(first)), Bound::Included(key(last)));
        let items = self.lock();
        let mut found = items.range(range);
        let page = ItemPage {
            items: found
                .by_ref()
                .take(max)
                .map(|((_, name), content)| (name.clone(), content.clone()))
                .collect(),
            more: found.next().is_some(),
        };
        Box::pin(ready(Ok(page)))
    }

    fn delete<'a>(
        &'a self,
        log: &'a str,
        names: &'a [String],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let mut items = self.lock();
        for name in names {
            items.remove(&(log.to_owned(), name.clone()));
        }
        Box::pin(ready(Ok(())))
    }

    fn delete_exactly<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
        content: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let key = (log.to_owned(), name.to_owned());
        let mut items = self.lock();
        if items.get(&key) == Some(content) {
            items.remove(&key);
        }
        Box::pin(ready(Ok(())))
    }
}
