//! Requests that are repeated until they are answered. A repeated create sends the same bytes; a refused one is a question.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Clock;
use crate::codec::checksum;
use crate::error::LogError;
use crate::store::{Created, ObjectMeta, ObjectStore, StoreError};

/// How a request that got no answer is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The wait before the first repetition, in milliseconds; it doubles each time, and half of it varies.
    pub initial_ms: u64,
    /// The longest wait, in milliseconds.
    pub max_ms: u64,
    /// After how long to give up, in milliseconds; `None` for never.
    pub give_up_ms: Option<u64>,
}

/// A request got no answer and will be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What the store said.
    pub error: StoreError,
    /// How many times this request has failed so far.
    pub attempts: u32,
    /// When it is repeated, in milliseconds from now.
    pub wait_ms: u64,
}

/// Is told about every [`Trouble`].
pub type OnTrouble = Arc<dyn Fn(Trouble) + Send + Sync>;

/// How a conditional create ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// The object is there, byte for byte; this request or an earlier try stored it.
    Mine,
    /// Another object is there.
    Other(Bytes),
    /// Another object was there, and has been deleted since.
    Gone,
}

/// A store with patience: a request that gets no answer is repeated, unchanged, as [`Retry`] says.
#[derive(Clone)]
pub struct Io {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The clocks, for the waits.
    pub clock: Arc<dyn Clock>,
    /// How requests are repeated.
    pub retry: Retry,
    /// Is told about requests that are being repeated.
    pub on_trouble: OnTrouble,
}

/// How many objects a listing asks for at once, and a deletion names at once; S3 allows no more.
pub(crate) const PAGE: usize = 1000;

impl Io {
    /// [`ObjectStore::create`]. [`Created::Exists`] may mean an earlier try of this call.
    ///
    /// # Errors
    /// What the store said last when patience ended.
    pub async fn create(&self, key: &str, bytes: &Bytes) -> Result<Created, StoreError> {
        self.repeat(|| self.store.create(key, bytes.clone())).await
    }

    /// [`ObjectStore::get`].
    ///
    /// # Errors
    /// As of [`Io::create`].
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.repeat(|| self.store.get(key)).await
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
    /// As of [`Io::create`].
    pub async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        for page in keys.chunks(PAGE) {
            self.repeat(|| self.store.delete(page)).await?;
        }
        Ok(())
    }

    /// [`ObjectStore::delete_exactly`].
    ///
    /// # Errors
    /// As of [`Io::create`].
    pub(crate) async fn delete_exactly(&self, key: &str, bytes: &Bytes) -> Result<(), StoreError> {
        self.repeat(|| self.store.delete_exactly(key, bytes)).await
    }

    /// Creates an object, and answers the question that a refusal is.
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

    /// Up to a thousand objects under `prefix` after `start_after`.
    ///
    /// # Errors
    /// As of [`Io::create`].
    pub async fn list_page(
        &self,
        prefix: &str,
        start_after: Option<&str>,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        self.repeat(|| self.store.list(prefix, start_after, PAGE))
            .await
    }

    /// All objects under `prefix` after `start_after`.
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

    /// All objects under `prefix` after `start_after` whose keys are less than `end`.
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
            (self.on_trouble)(Trouble {
                error,
                attempts,
                wait_ms,
            });
            self.clock.sleep(wait_ms).await;
        }
    }

    /// Doubling, capped, half of it spread by what differs from process to process, so that many do not return at the same moment.
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
