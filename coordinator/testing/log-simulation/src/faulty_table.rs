//! A table with every fault that a real one may have.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use satchel_log::{Created, ItemPage, LogTable, StoreError};

use crate::faults::{Faults, FaultyRequests, lost};
use crate::random::Random;

/// Another table, with faults: a throttled request, a lost answer, a put that lands much later, a
/// deletion of which a part takes effect, short pages.
pub struct FaultyTable {
    inner: Arc<dyn LogTable>,
    requests: FaultyRequests<(String, String, Bytes)>,
}

impl FaultyTable {
    /// Creates a table over `inner` with `faults` drawn from `random`.
    #[must_use]
    pub fn new(inner: Arc<dyn LogTable>, faults: Faults, random: Random) -> Self {
        Self {
            inner,
            requests: FaultyRequests::new(faults, random),
        }
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.requests.heal();
    }

    /// Number of requests made.
    pub fn requests(&self) -> u64 {
        self.requests.requests()
    }

    /// Lets one delayed put take effect, if there is any.
    pub async fn apply_late_put(&self) {
        if let Some((log, name, content)) = self.requests.take_late() {
            // The answer of a late put reaches no caller.
            let _ = self.inner.put(&log, &name, content).await;
        }
    }
}

impl LogTable for FaultyTable {
    fn put<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
        content: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(async move {
            let late = || (log.to_owned(), name.to_owned(), content.clone());
            let effect = self.inner.put(log, name, content.clone());
            self.requests.create(name, late, effect).await
        })
    }

    fn get<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move {
            let effect = Box::pin(async { self.inner.get(log, name).await });
            self.requests.perform(name, effect).await
        })
    }

    fn query<'a>(
        &'a self,
        log: &'a str,
        first: &'a str,
        last: &'a str,
        max: usize,
    ) -> BoxFuture<'a, Result<ItemPage, StoreError>> {
        Box::pin(async move {
            let short = 1 + self.requests.random.below(40) as usize;
            let effect = Box::pin(async move {
                let query = self.inner.query(log, first, last, max.min(short));
                query.await
            });
            self.requests.perform(first, effect).await
        })
    }

    fn delete<'a>(
        &'a self,
        log: &'a str,
        names: &'a [String],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let first = names.first().map_or("", String::as_str);
            if self.requests.occurs(self.requests.faults.lost) {
                self.requests.delay().await;
                let some = self.requests.random.below(names.len() as u64 + 1) as usize;
                self.inner.delete(log, &names[..some]).await?;
                return Err(lost(first));
            }
            let effect = Box::pin(async { self.inner.delete(log, names).await });
            self.requests.perform(first, effect).await
        })
    }

    fn delete_exactly<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
        content: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let effect = Box::pin(async { self.inner.delete_exactly(log, name, content).await });
            self.requests.perform(name, effect).await
        })
    }
}
