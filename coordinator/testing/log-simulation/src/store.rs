//! A store with every fault that a real one may have.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use satchel_log::{Created, ObjectMeta, ObjectStore, StoreError};

use crate::executor::yield_turns;
use crate::random::Random;

/// Frequency of each fault, per mille of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The request is lost before it has an effect.
    pub lost: u64,
    /// The effect happens, the answer is lost.
    pub answer_lost: u64,
    /// The request is reported as failed, and the effect happens much later.
    pub delayed: u64,
    /// The effect happens now and once more later.
    pub repeated: u64,
    /// `409`: refused because another request is in progress.
    pub conflict: u64,
    /// Maximum number of turns before an effect, and again before its answer.
    pub turns_max: u64,
}

/// Another store, with faults.
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    faults: Faults,
    random: Random,
    late: Mutex<Vec<(String, Bytes)>>,
    healed: AtomicBool,
    /// Requests so far.
    requests: AtomicU64,
}

impl FaultyStore {
    /// Creates a store over `inner` with `faults` drawn from `random`.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, faults: Faults, random: Random) -> Self {
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

    /// Lets one delayed write take effect, if there is any.
    pub async fn apply_late_write(&self) {
        let late = {
            let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
            if late.is_empty() {
                return;
            }
            let at = self.random.below(late.len() as u64) as usize;
            late.swap_remove(at)
        };
        let (key, bytes) = late;
        // The answer of a late write reaches no caller.
        let _ = self.inner.create(&key, bytes).await;
    }

    fn occurs(&self, per_mille: u64) -> bool {
        self.random.chance(per_mille) && !self.healed.load(Ordering::Relaxed)
    }

    async fn delay(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        yield_turns(self.random.below(self.faults.turns_max + 1)).await;
    }

    fn apply_later(&self, key: &str, bytes: &Bytes) {
        self.late
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((key.to_owned(), bytes.clone()));
    }

    /// Performs a read or a deletion. The request or its answer may be lost.
    async fn with_faults<T>(
        &self,
        key: &str,
        effect: BoxFuture<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.delay().await;
        if self.occurs(self.faults.lost) {
            return Err(lost(key));
        }
        let answer = effect.await;
        self.delay().await;
        if self.occurs(self.faults.answer_lost) {
            return Err(lost(key));
        }
        answer
    }
}

fn lost(key: &str) -> StoreError {
    StoreError::Unavailable {
        key: key.to_owned(),
        reason: "simulated".to_owned(),
    }
}

impl ObjectStore for FaultyStore {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(async move {
            self.delay().await;
            if self.occurs(self.faults.conflict) {
                return Err(StoreError::Conflict {
                    key: key.to_owned(),
                    reason: "simulated".to_owned(),
                });
            }
            if self.occurs(self.faults.lost) {
                return Err(lost(key));
            }
            if self.occurs(self.faults.delayed) {
                self.apply_later(key, &bytes);
                return Err(lost(key));
            }
            if self.occurs(self.faults.repeated) {
                self.apply_later(key, &bytes);
            }
            let answer = self.inner.create(key, bytes).await;
            self.delay().await;
            if self.occurs(self.faults.answer_lost) {
                return Err(lost(key));
            }
            answer
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move {
            self.with_faults(key, Box::pin(async { self.inner.get(key).await }))
                .await
        })
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move {
            let effect = Box::pin(async { self.inner.get_range(key, range).await });
            self.with_faults(key, effect).await
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>> {
        Box::pin(async move {
            let effect = Box::pin(async { self.inner.list(prefix, start_after, max).await });
            self.with_faults(prefix, effect).await
        })
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let first = keys.first().map_or("", String::as_str);
            self.with_faults(first, Box::pin(async { self.inner.delete(keys).await }))
                .await
        })
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let effect = Box::pin(async { self.inner.delete_exactly(key, bytes).await });
            self.with_faults(key, effect).await
        })
    }
}
