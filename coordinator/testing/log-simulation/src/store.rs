//! A store that behaves as badly as a real one may.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use satchel_log::{Created, ObjectMeta, ObjectStore, StoreError};

use crate::executor::give_way;
use crate::random::Random;

/// How often what goes wrong, per mille of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The request is lost before it has an effect.
    pub lost: u64,
    /// The effect happens, the answer is lost.
    pub answer_lost: u64,
    /// The requester is told of a failure, and the effect happens much later.
    pub delayed: u64,
    /// The effect happens now and once more later.
    pub repeated: u64,
    /// `409`: refused because another request is under way.
    pub conflict: u64,
    /// At most this many turns pass before an effect, and again before its answer.
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
    /// `inner` with `faults` drawn from `random`.
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

    /// From now on nothing goes wrong.
    pub fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
    }

    /// How many requests were made.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// One of the delayed writes happens now, if there is any.
    pub async fn land_late_write(&self) {
        let late = {
            let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
            if late.is_empty() {
                return;
            }
            let at = self.random.below(late.len() as u64) as usize;
            late.swap_remove(at)
        };
        let (key, bytes) = late;
        // Nobody hears the answer.
        let _ = self.inner.create(&key, bytes).await;
    }

    fn strikes(&self, per_mille: u64) -> bool {
        self.random.chance(per_mille) && !self.healed.load(Ordering::Relaxed)
    }

    async fn dawdle(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        give_way(self.random.below(self.faults.turns_max + 1)).await;
    }

    fn keep_for_later(&self, key: &str, bytes: &Bytes) {
        self.late
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((key.to_owned(), bytes.clone()));
    }

    /// A read or a deletion: lost, or its answer is.
    async fn faultily<T>(
        &self,
        key: &str,
        effect: BoxFuture<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.dawdle().await;
        if self.strikes(self.faults.lost) {
            return Err(lost(key));
        }
        let answer = effect.await;
        self.dawdle().await;
        if self.strikes(self.faults.answer_lost) {
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
            self.dawdle().await;
            if self.strikes(self.faults.conflict) {
                return Err(StoreError::Conflict {
                    key: key.to_owned(),
                    reason: "simulated".to_owned(),
                });
            }
            if self.strikes(self.faults.lost) {
                return Err(lost(key));
            }
            if self.strikes(self.faults.delayed) {
                self.keep_for_later(key, &bytes);
                return Err(lost(key));
            }
            if self.strikes(self.faults.repeated) {
                self.keep_for_later(key, &bytes);
            }
            let answer = self.inner.create(key, bytes).await;
            self.dawdle().await;
            if self.strikes(self.faults.answer_lost) {
                return Err(lost(key));
            }
            answer
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move {
            self.faultily(key, Box::pin(async { self.inner.get(key).await }))
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
            self.faultily(key, effect).await
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
            self.faultily(prefix, effect).await
        })
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let first = keys.first().map_or("", String::as_str);
            self.faultily(first, Box::pin(async { self.inner.delete(keys).await }))
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
            self.faultily(key, effect).await
        })
    }
}
