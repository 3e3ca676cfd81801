//! The parts of a log in a table, used in a wrong order or without a condition: what
//! [`satchel_log::TabledStore`] would do if it made one of the mistakes in [`Mutant`].

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use satchel_log::{Created, ItemPage, LogTable, ObjectMeta, ObjectStore, StoreError};

use crate::mutants::Mutant;

/// The objects and the table of one process that makes a mistake.
#[derive(Clone)]
pub(crate) struct MistakenParts {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) table: Arc<dyn LogTable>,
    pub(crate) mutant: Mutant,
    /// Name of the log in the table.
    pub(crate) log: String,
    /// Objects that were reported as stored, and are stored after the next change of the table.
    pub(crate) postponed: Arc<Mutex<Vec<(String, Bytes)>>>,
}

impl MistakenParts {
    /// Returns true if the object under `key` is stored only after the item.
    fn postpones(&self, key: &str) -> bool {
        match self.mutant {
            Mutant::PointerBeforeBody => key.contains("/bodies/"),
            Mutant::ItemsDeletedBeforeArchived => key.contains("/archived/"),
            _ => false,
        }
    }

    async fn store_postponed(&self) -> Result<(), StoreError> {
        let postponed = {
            let mut postponed = self
                .postponed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *postponed)
        };
        for (key, bytes) in postponed {
            self.objects.create(&key, bytes).await?;
        }
        Ok(())
    }

    /// Deletes the bodies that no item points to, whether or not an item may come.
    async fn delete_pointless_bodies(&self) -> Result<(), StoreError> {
        let prefix = "root/partitions/0/bodies/";
        for body in self.objects.list(prefix, None, usize::MAX).await? {
            let number = &body.key[prefix.len()..prefix.len() + 20];
            let item = self.table.get(&self.log, &format!("log/{number}")).await?;
            if item.is_none() {
                self.objects.delete(&[body.key]).await?;
            }
        }
        Ok(())
    }

    /// Leaves out archived objects of whose numbers an item exists.
    async fn without_items(&self, spans: Vec<ObjectMeta>) -> Result<Vec<ObjectMeta>, StoreError> {
        let mut left = Vec::new();
        for span in spans {
            let numbers = span
                .key
                .rsplit('/')
                .next()
                .and_then(|it| it.split_once('-'));
            let (last, first) = numbers.unwrap_or_default();
            let (first, last) = (format!("log/{first}"), format!("log/{last}"));
            let page = self.table.query(&self.log, &first, &last, 1).await?;
            if page.items.is_empty() {
                left.push(span);
            }
        }
        Ok(left)
    }
}

impl ObjectStore for MistakenParts {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        if self.postpones(key) {
            let mut postponed = self
                .postponed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            postponed.push((key.to_owned(), bytes));
            return Box::pin(ready(Ok(Created::Stored)));
        }
        self.objects.create(key, bytes)
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.objects.get(key)
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.objects.get_range(key, range)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>> {
        Box::pin(async move {
            let listed = self.objects.list(prefix, start_after, max).await?;
            if self.mutant == Mutant::ItemBeatsArchived && prefix.ends_with("/archived/") {
                return self.without_items(listed).await;
            }
            Ok(listed)
        })
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.objects.delete(keys)
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.objects.delete_exactly(key, bytes)
    }
}

impl LogTable for MistakenParts {
    fn put<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
        content: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(async move {
            if self.mutant == Mutant::UnconditionalPut {
                self.table.delete(log, &[name.to_owned()]).await?;
            }
            let created = self.table.put(log, name, content).await?;
            self.store_postponed().await?;
            Ok(created)
        })
    }

    fn get<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.table.get(log, name)
    }

    fn query<'a>(
        &'a self,
        log: &'a str,
        first: &'a str,
        last: &'a str,
        max: usize,
    ) -> BoxFuture<'a, Result<ItemPage, StoreError>> {
        self.table.query(log, first, last, max)
    }

    fn delete<'a>(
        &'a self,
        log: &'a str,
        names: &'a [String],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.table.delete(log, names).await?;
            self.store_postponed().await?;
            if self.mutant == Mutant::BodyBeforeItsPointerCollected {
                self.delete_pointless_bodies().await?;
            }
            Ok(())
        })
    }

    fn delete_exactly<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
        content: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.table.delete_exactly(log, name, content)
    }
}
