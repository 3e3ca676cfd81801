//! Ownership freshness, checked before side effects that the log cannot fence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[cfg(feature = "aws")]
use satchel_aws::egress::kinesis::exactly_once::Ownership;
use satchel_log::ObjectStore;
use tokio::sync::Notify;

use crate::clock::boot_ms;

/// Maximum age of a confirmation. An older one is renewed when it is asked for.
const FRESH: Duration = Duration::from_secs(1);

/// Pause after a failed request to the store.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Confirmation of ownership by the log: no other process has taken over while the next epoch is
/// unclaimed. The watch reads the store only on demand, so that an idle partition reads nothing.
#[derive(Debug, Default)]
pub struct EpochWatch {
    /// Boot time, in ms, at which the last request began that found the next epoch unclaimed; 0 if
    /// there was none.
    confirmed_ms: AtomicU64,
    wanted: Notify,
}

impl EpochWatch {
    /// Reads `next_epoch`, the key of the next owner's claim, whenever a confirmation is asked for.
    /// Returns when the epoch is claimed.
    pub async fn run(self: Arc<Self>, store: Arc<dyn ObjectStore>, next_epoch: String) {
        loop {
            self.wanted.notified().await;
            if self.confirmed_ago() < FRESH {
                continue;
            }
            let begun_ms = boot_ms();
            match store.get(&next_epoch).await {
                Ok(None) => self.confirmed_ms.store(begun_ms, Ordering::Release),
                // The log will find it out too, and end this process.
                Ok(Some(_)) => return,
                Err(error) => {
                    tracing::warn!(%error, "ownership not confirmed; egress waits");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    /// Returns the age of the last confirmation, and asks for a new one if it is too old.
    pub fn confirmed_ago(&self) -> Duration {
        let confirmed_ms = self.confirmed_ms.load(Ordering::Acquire);
        let ago = match confirmed_ms {
            0 => Duration::MAX,
            _ => Duration::from_millis(boot_ms().saturating_sub(confirmed_ms)),
        };
        if ago >= FRESH {
            self.wanted.notify_one();
        }
        ago
    }
}

#[cfg(feature = "aws")]
impl Ownership for EpochWatch {
    fn confirmed_ago(&self) -> Duration {
        self.confirmed_ago()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use satchel_log::MemoryStore;

    use super::*;

    async fn is_confirmed(watch: &EpochWatch) -> bool {
        for _ in 0..200 {
            if watch.confirmed_ago() < FRESH {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }

    #[tokio::test]
    async fn ownership_is_confirmed_while_the_next_epoch_is_unclaimed_and_not_after() {
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
        let watch = Arc::new(EpochWatch::default());
        let looking = tokio::spawn(Arc::clone(&watch).run(Arc::clone(&store), "epochs/2".into()));
        assert!(is_confirmed(&watch).await);
        store
            .create("epochs/2", Bytes::from_static(b"taken"))
            .await
            .unwrap();
        tokio::time::sleep(FRESH).await;
        watch.confirmed_ago();
        looking.await.unwrap();
        assert!(watch.confirmed_ago() >= FRESH);
    }
}
