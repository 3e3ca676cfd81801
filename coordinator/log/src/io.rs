//! Store requests that are retried until they are answered. A retried create sends the same bytes.
//! A refused create requires a read, because an earlier try may have stored the object.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::application::RECORD_BYTES_MAX;
use crate::clock::Clock;
use crate::codec::checksum;
use crate::error::LogError;
use crate::store::{Created, ObjectMeta, ObjectRange, ObjectStore, StoreError};

/// Retries of a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Wait before the first retry, in milliseconds. It doubles each time, and half of it is
    /// jitter.
    pub initial_ms: u64,
    /// Maximum wait, in milliseconds.
    pub max_ms: u64,
    /// Time after which the request fails, in milliseconds; `None` to retry without limit.
    pub give_up_ms: Option<u64>,
}

/// A failed request that will be retried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFailure {
    /// Error of the store.
    pub error: StoreError,
    /// Number of failures of this request so far.
    pub attempts: u32,
    /// Wait before the retry, in milliseconds.
    pub wait_ms: u64,
}

/// Called for each [`StoreFailure`].
pub type OnStoreFailure = Arc<dyn Fn(StoreFailure) + Send + Sync>;

/// Result of a conditional create, after reading the object on a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// The object exists with exactly these bytes. This request or an earlier try stored it.
    Mine,
    /// Another object exists.
    Other(Bytes),
    /// Another object existed, and has been deleted since.
    Gone,
}

/// A store with retries: a failed request is repeated, unchanged, according to [`Retry`].
#[derive(Clone)]
pub struct Io {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// Clocks for the waits between retries.
    pub clock: Arc<dyn Clock>,
    /// Retries of failed requests.
    pub retry: Retry,
    /// Called for each failed request that will be retried.
    pub on_store_failure: OnStoreFailure,
}

/// Maximum number of objects in one page of a listing. S3 allows no more.
pub(crate) const PAGE: usize = 1000;

impl Io {
    /// [`ObjectStore::create`]. [`Created::Exists`] may refer to an object stored by an earlier try
    /// of this call.
    ///
    /// # Errors
    /// The last error of the store when retries ended.
    pub async fn create(&self, key: &str, bytes: &Bytes) -> Result<Created, StoreError> {
        self.repeat(|| self.store.create(key, bytes.clone())).await
    }

    /// [`ObjectStore::get`].
    ///
    /// # Errors
    /// Same as [`Io::create`].
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.repeat(|| self.store.get(key)).await
    }

    /// Reads the record of an application under `key`. Of an object that is larger than any record,
    /// only the beginning is read, which [`Application::decode`] rejects.
    ///
    /// [`Application::decode`]: crate::Application::decode
    ///
    /// # Errors
    /// Same as [`Io::create`].
    pub async fn get_record(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.get_range(key, 0..RECORD_BYTES_MAX + 1).await
    }

    pub(crate) async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<Option<Bytes>, StoreError> {
        self.repeat(|| self.store.get_range(key, range.clone()))
            .await
    }

    /// [`ObjectStore::delete`], of any number of objects.
    ///
    /// # Errors
    /// Same as [`Io::create`].
    pub async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        for page in keys.chunks(self.store.delete_max()) {
            self.repeat(|| self.store.delete(page)).await?;
        }
        Ok(())
    }

    /// [`ObjectStore::delete_exactly`].
    ///
    /// # Errors
    /// Same as [`Io::create`].
    pub(crate) async fn delete_exactly(&self, key: &str, bytes: &Bytes) -> Result<(), StoreError> {
        self.repeat(|| self.store.delete_exactly(key, bytes)).await
    }

    /// Creates an object. On a refusal it reads the object to tell whose it is.
    pub(crate) async fn put(&self, key: &str, bytes: &Bytes) -> Result<Put, LogError> {
        if self.create(key, bytes).await? == Created::Stored {
            return Ok(Put::Mine);
        }
        Ok(match self.get(key).await? {
            None => Put::Gone,
            Some(found) if found == *bytes => Put::Mine,
            Some(found) => Put::Other(found),
        })
    }

    /// Lists up to 1,000 objects under `prefix` after `start_after`.
    ///
    /// # Errors
    /// Same as [`Io::create`].
    pub async fn list_page(
        &self,
        prefix: &str,
        start_after: Option<&str>,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        self.repeat(|| self.store.list(prefix, start_after, PAGE))
            .await
    }

    /// [`ObjectStore::read_range`]; `None` if the store cannot do that.
    pub(crate) async fn read_range(
        &self,
        prefix: &str,
        start_after: &str,
    ) -> Result<Option<ObjectRange>, StoreError> {
        let request = async || match self.store.read_range(prefix, start_after) {
            Some(range) => range.await.map(Some),
            None => Ok(None),
        };
        self.repeat(request).await
    }

    /// [`ObjectStore::archive`], until nothing is left to move.
    pub(crate) async fn archive(&self, log_prefix: &str, below: u64) -> Result<(), StoreError> {
        let request = async || match self.store.archive(log_prefix, below) {
            Some(archiving) => archiving.await,
            None => Ok(false),
        };
        while self.repeat(request).await? {}
        Ok(())
    }

    /// Lists all objects under `prefix` after `start_after`.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        start_after: Option<String>,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        let mut all: Vec<ObjectMeta> = Vec::new();
        let mut after = start_after;
        loop {
            let page = self.list_page(prefix, after.as_deref()).await?;
            let last = page.len() < PAGE;
            after = page.last().map(|object| object.key.clone());
            all.extend(page);
            if last {
                return Ok(all);
            }
        }
    }

    /// Lists all objects under `prefix` after `start_after` whose keys are less than `end`.
    pub(crate) async fn list_between(
        &self,
        prefix: &str,
        start_after: Option<String>,
        end: &str,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        let mut all: Vec<ObjectMeta> = Vec::new();
        let mut after = start_after;
        loop {
            let page = self.list_page(prefix, after.as_deref()).await?;
            let before = all.len();
            let below = page
                .into_iter()
                .take_while(|object| object.key.as_str() < end);
            all.extend(below);
            if all.len() - before < PAGE {
                return Ok(all);
            }
            after = all.last().map(|object| object.key.clone());
        }
    }

    async fn repeat<T, F, R>(&self, request: F) -> Result<T, StoreError>
    where
        F: Fn() -> R,
        R: Future<Output = Result<T, StoreError>>,
    {
        let begun = self.clock.now();
        let mut attempts = 0;
        loop {
            let error = match request().await {
                Err(error) if error.is_retryable() => error,
                answer => return answer,
            };
            let waited_ms = self.clock.now().elapsed_at_least_ms(&begun);
            if self.retry.give_up_ms.is_some_and(|ms| waited_ms >= ms) {
                return Err(error);
            }
            attempts += 1;
            let wait_ms = self.wait_ms(attempts, waited_ms);
            (self.on_store_failure)(StoreFailure {
                error,
                attempts,
                wait_ms,
            });
            self.clock.sleep(wait_ms).await;
        }
    }

    /// Returns the wait before a retry: doubling, capped, with half of it spread by values that
    /// differ between processes, so that they do not all retry at the same moment.
    fn wait_ms(&self, attempts: u32, waited_ms: u64) -> u64 {
        let full = self
            .retry
            .initial_ms
            .saturating_mul(1 << (attempts - 1).min(20))
            .min(self.retry.max_ms);
        let half = full / 2;
        let seed = [
            self.clock.now().boot_ms.to_le_bytes(),
            waited_ms.to_le_bytes(),
        ]
        .concat();
        half + checksum(&seed) % (full - half + 1)
    }
}
