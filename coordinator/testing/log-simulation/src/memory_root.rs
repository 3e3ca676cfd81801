//! A root in memory, with its log in objects or in a table, for suites that must hold for both.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use satchel_log::{
    Created, LogTable, MemoryStore, MemoryTable, ObjectMeta, ObjectRange, ObjectStore, StoreError,
    TableLocation, TabledStore,
};

/// Form of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogForm {
    /// Each log object is an object.
    Objects,
    /// Log objects are items, or bodies if their items would be larger than this many bytes.
    Table {
        /// Maximum size of an item in bytes.
        item_bytes_max: usize,
    },
}

/// Location of the table of a simulated root.
#[must_use]
pub fn simulated_table() -> TableLocation {
    TableLocation {
        kind: "simulated".to_owned(),
        table: "logs".to_owned(),
        key: "root".to_owned(),
    }
}

/// An [`ObjectStore`] in memory for a root of one partition under the prefix `root`.
pub struct MemoryRoot {
    store: Arc<dyn ObjectStore>,
    memory: Arc<MemoryStore>,
    table: Option<Arc<MemoryTable>>,
}

impl MemoryRoot {
    /// Creates an empty root.
    #[must_use]
    pub fn new(form: LogForm) -> Self {
        let memory = Arc::new(MemoryStore::new());
        match form {
            LogForm::Objects => Self {
                store: memory.clone(),
                memory,
                table: None,
            },
            LogForm::Table { item_bytes_max } => {
                let table = Arc::new(MemoryTable::new());
                let items: Arc<dyn LogTable> = table.clone();
                let store = TabledStore::new(memory.clone(), items, "root", 1, simulated_table());
                Self {
                    store: Arc::new(store.with_item_bytes_max(item_bytes_max)),
                    memory,
                    table: Some(table),
                }
            }
        }
    }

    /// Returns the keys of all objects of the root, in ascending order, wherever they lie.
    ///
    /// # Panics
    /// If the store fails, which memory does not.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let listed = self.store.list("", None, usize::MAX).now_or_never();
        let listed = listed.expect("memory answers at once").expect("no failure");
        listed.into_iter().map(|object| object.key).collect()
    }

    /// Sets an object whether or not the key exists, for tests that damage or plant one.
    pub fn plant(&self, key: &str, bytes: Bytes) {
        match (&self.table, item(key)) {
            (Some(table), Some(name)) => table.plant("root#0", name, bytes),
            _ => self.memory.plant(key, bytes),
        }
    }

    /// The objects, without those in the table.
    #[must_use]
    pub fn objects(&self) -> &Arc<MemoryStore> {
        &self.memory
    }

    /// The table, if the log lies in one.
    #[must_use]
    pub fn table(&self) -> Option<&Arc<MemoryTable>> {
        self.table.as_ref()
    }
}

/// Returns the name of the item of a log object or a claim.
fn item(key: &str) -> Option<&str> {
    let name = key.strip_prefix("root/partitions/0/")?;
    (name.starts_with("log/") || name.starts_with("epochs/")).then_some(name)
}

impl ObjectStore for MemoryRoot {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        self.store.create(key, bytes)
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

    fn table_location(&self) -> Option<&TableLocation> {
        self.store.table_location()
    }

    fn delete_max(&self) -> usize {
        self.store.delete_max()
    }

    fn read_range<'a>(
        &'a self,
        prefix: &'a str,
        start_after: &'a str,
    ) -> Option<BoxFuture<'a, Result<ObjectRange, StoreError>>> {
        self.store.read_range(prefix, start_after)
    }

    fn archive<'a>(
        &'a self,
        log_prefix: &'a str,
        below: u64,
    ) -> Option<BoxFuture<'a, Result<bool, StoreError>>> {
        self.store.archive(log_prefix, below)
    }
}
