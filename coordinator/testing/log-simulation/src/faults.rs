//! Faults of the requests to one store or table.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use futures::future::BoxFuture;
use satchel_log::{Created, StoreError};

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

/// Faults drawn for each request. `W` is a write that can take effect late.
pub(crate) struct FaultyRequests<W> {
    pub(crate) faults: Faults,
    pub(crate) random: Random,
    late: Mutex<Vec<W>>,
    healed: AtomicBool,
    requests: AtomicU64,
}

impl<W> FaultyRequests<W> {
    pub(crate) fn new(faults: Faults, random: Random) -> Self {
        Self {
            faults,
            random,
            late: Mutex::default(),
            healed: AtomicBool::new(false),
            requests: AtomicU64::new(0),
        }
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
    }

    /// Number of requests made.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Removes one delayed write, if there is any.
    pub(crate) fn take_late(&self) -> Option<W> {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        if late.is_empty() {
            return None;
        }
        let at = self.random.below(late.len() as u64) as usize;
        Some(late.swap_remove(at))
    }

    /// Draws whether a fault occurs.
    pub(crate) fn occurs(&self, per_mille: u64) -> bool {
        self.random.chance(per_mille) && !self.healed.load(Ordering::Relaxed)
    }

    /// Begins a request, or its answer.
    pub(crate) async fn delay(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        yield_turns(self.random.below(self.faults.turns_max + 1)).await;
    }

    /// Performs a read or a deletion. The request or its answer may be lost.
    pub(crate) async fn perform<T>(
        &self,
        name: &str,
        effect: BoxFuture<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.delay().await;
        if self.occurs(self.faults.lost) {
            return Err(lost(name));
        }
        self.answer(name, effect).await
    }

    /// Performs a conditional create, which `late` describes. It may also be refused because of
    /// another one, and take effect late, or once more.
    pub(crate) async fn create(
        &self,
        name: &str,
        late: impl Fn() -> W,
        effect: BoxFuture<'_, Result<Created, StoreError>>,
    ) -> Result<Created, StoreError> {
        self.delay().await;
        if self.occurs(self.faults.conflict) {
            return Err(StoreError::Conflict {
                key: name.to_owned(),
                reason: "simulated".to_owned(),
            });
        }
        if self.occurs(self.faults.lost) {
            return Err(lost(name));
        }
        if self.occurs(self.faults.delayed) {
            self.apply_later(late());
            return Err(lost(name));
        }
        if self.occurs(self.faults.repeated) {
            self.apply_later(late());
        }
        self.answer(name, effect).await
    }

    async fn answer<T>(
        &self,
        name: &str,
        effect: BoxFuture<'_, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let answer = effect.await;
        self.delay().await;
        if self.occurs(self.faults.answer_lost) {
            return Err(lost(name));
        }
        answer
    }

    fn apply_later(&self, write: W) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.push(write);
    }
}

/// Error of a request that got no answer.
pub(crate) fn lost(name: &str) -> StoreError {
    StoreError::Unavailable {
        key: name.to_owned(),
        reason: "simulated".to_owned(),
    }
}
