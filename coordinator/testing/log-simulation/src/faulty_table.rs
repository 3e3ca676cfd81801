//! A table with every fault that a real one may have.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use satchel_log::{Created, ItemPage, LogTable, StoreError};

use crate::executor::yield_turns;
use crate::random::Random;
use crate::store::Faults;

/// Another table, with faults: a throttled request, a lost answer, a put that lands much later, a
/// deletion of which a part takes effect, short pages.
pub struct FaultyTable {
    inner: Arc<dyn LogTable>,
    faults: Faults,
    random: Random,
    late: Mutex<Vec<(String, String, Bytes)>>,
    healed: AtomicBool,
    /// Requests so far.
    requests: AtomicU64,
}

impl FaultyTable {
    /// Creates a table over `inner` with `faults` drawn from `random`.
    #[must_use]
    pub fn new(inner: Arc<dyn LogTable>, faults: Faults, random: Random) -> Self {
        Self {
            inner,
            faults,
            random,
            late: Mutex::default(),
            healed: AtomicBool::new(false),
            requests: AtomicU64::new(0),
        }
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
    }

    /// Number of requests made.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Lets one delayed put take effect, if there is any.
    pub async fn apply_late_put(&self) {
        let late = {
            let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
            if late.is_empty() {
                return;
            }
            let at = self.random.below(late.len() as u64) as usize;
            late.swap_remove(at)
        };
        let (log, name, content) = late;
        // The answer of a late put reaches no caller.
        let _ = self.inner.put(&log, &name, content).await;
    }

    fn occurs(&self, per_mille: u64) -> bool {
        self.random.chance(per_mille) && !self.healed.load(Ordering::Relaxed)
    }

    async fn delay(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        yield_turns(self.random.below(self.faults.turns_max + 1)).await;
    }

    fn apply_later(&self, log: &str, name: &str, content: &Bytes) {
        let put = (log.to_owned(), name.to_owned(), content.clone());
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.push(put);
    }

    /// Performs a request. It or its answer may be lost.
    async fn with_faults<T>(
        &self,
        name: &str,
        effect: BoxFuture<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.delay().await;
        if self.occurs(self.faults.lost) {
            return Err(throttled(name));
        }
        let answer = effect.await;
        self.delay().await;
        if self.occurs(self.faults.answer_lost) {
            return Err(throttled(name));
        }
        answer
    }
}

fn throttled(name: &str) -> StoreError {
    StoreError::Unavailable {
        key: name.to_owned(),
        reason: "simulated".to_owned(),
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
            self.delay().await;
            if self.occurs(self.faults.conflict) {
                return Err(StoreError::Conflict {
                    key: name.to_owned(),
                    reason: "simulated".to_owned(),
                });
            }
            if self.occurs(self.faults.lost) {
                return Err(throttled(name));
            }
            if self.occurs(self.faults.delayed) {
                self.apply_later(log, name, &content);
                return Err(throttled(name));
            }
            if self.occurs(self.faults.repeated) {
                self.apply_later(log, name, &content);
            }
            let answer = self.inner.put(log, name, content).await;
            self.delay().await;
            if self.occurs(self.faults.answer_lost) {
                return Err(throttled(name));
            }
            answer
        })
    }

    fn get<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move {
            let effect = Box::pin(async { self.inner.get(log, name).await });
            self.with_faults(name, effect).await
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
            let short = 1 + self.random.below(40) as usize;
            let effect = Box::pin(async move {
                let query = self.inner.query(log, first, last, max.min(short));
                query.await
            });
            self.with_faults(first, effect).await
        })
    }

    fn delete<'a>(
        &'a self,
        log: &'a str,
        names: &'a [String],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let first = names.first().map_or("", String::as_str);
            if self.occurs(self.faults.lost) {
                self.delay().await;
                let some = self.random.below(names.len() as u64 + 1) as usize;
                self.inner.delete(log, &names[..some]).await?;
                return Err(throttled(first));
            }
            let effect = Box::pin(async { self.inner.delete(log, names).await });
            self.with_faults(first, effect).await
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
            self.with_faults(name, effect).await
        })
    }
}
