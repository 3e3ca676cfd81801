//! The table of the simulated store. Its items are objects with keys of their own.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use satchel_log::{
    Created, ItemPage, LogTable, ObjectStore, StoreError, TableLocation, TabledStore,
};

use super::{Mailbox, Still, StoreOp, StoreReply};

/// Maximum size of an item in bytes, so that many commits have bodies.
const ITEM_BYTES_MAX: usize = 400;

/// Returns `store` with the log of `root` in its table.
pub(crate) fn in_table<S>(store: Arc<S>, root: &str) -> Arc<dyn ObjectStore>
where
    S: ObjectStore + LogTable + 'static,
{
    let location = TableLocation {
        kind: "simulated".to_owned(),
        table: "logs".to_owned(),
        key: root.to_owned(),
    };
    let tabled = TabledStore::new(store.clone(), store, root, 1, location);
    Arc::new(tabled.with_item_bytes_max(ITEM_BYTES_MAX))
}

/// Key of an item among all objects: within the root that its log belongs to.
pub(super) fn item_key(log: &str, name: &str) -> String {
    format!("{}/{name}", log.replacen('#', "/items/", 1))
}

/// Returns a page of items, whose keys lose the prefix that [`item_key`] gave them.
fn page(log: &str, items: Vec<(String, Bytes)>, more: bool) -> ItemPage {
    let prefix = item_key(log, "");
    let name = |key: &str| key.strip_prefix(&prefix).unwrap_or(key).to_owned();
    ItemPage {
        items: items
            .into_iter()
            .map(|(key, content)| (name(&key), content))
            .collect(),
        more,
    }
}

impl LogTable for Mailbox {
    fn put<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
        content: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(async move { self.create(&item_key(log, name), content).await })
    }

    fn get<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move { ObjectStore::get(self, &item_key(log, name)).await })
    }

    fn query<'a>(
        &'a self,
        log: &'a str,
        first: &'a str,
        last: &'a str,
        max: usize,
    ) -> BoxFuture<'a, Result<ItemPage, StoreError>> {
        Box::pin(async move {
            let op = StoreOp::Query(item_key(log, first), item_key(log, last), max);
            match self.send(op).await? {
                StoreReply::Items(items, more) => Ok(page(log, items, more)),
                reply => unreachable!("a query was answered {reply:?}"),
            }
        })
    }

    fn delete<'a>(
        &'a self,
        log: &'a str,
        names: &'a [String],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let keys: Vec<String> = names.iter().map(|name| item_key(log, name)).collect();
            ObjectStore::delete(self, &keys).await
        })
    }

    fn delete_exactly<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
        content: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(
            async move { ObjectStore::delete_exactly(self, &item_key(log, name), content).await },
        )
    }
}

impl LogTable for Still {
    fn put<'a>(
        &'a self,
        _log: &'a str,
        name: &'a str,
        _content: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        unreachable!("item {name} would be created by a reader")
    }

    fn get<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        match self.send(&StoreOp::Get(item_key(log, name))) {
            StoreReply::Object(object) => Box::pin(ready(Ok(object))),
            reply => unreachable!("a get was answered {reply:?}"),
        }
    }

    fn query<'a>(
        &'a self,
        log: &'a str,
        first: &'a str,
        last: &'a str,
        max: usize,
    ) -> BoxFuture<'a, Result<ItemPage, StoreError>> {
        let op = StoreOp::Query(item_key(log, first), item_key(log, last), max);
        match self.send(&op) {
            StoreReply::Items(items, more) => Box::pin(ready(Ok(page(log, items, more)))),
            reply => unreachable!("a query was answered {reply:?}"),
        }
    }

    fn delete<'a>(
        &'a self,
        _log: &'a str,
        names: &'a [String],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        unreachable!("items {names:?} would be deleted by a reader")
    }

    fn delete_exactly<'a>(
        &'a self,
        _log: &'a str,
        name: &'a str,
        _content: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        unreachable!("item {name} would be deleted by a reader")
    }
}
