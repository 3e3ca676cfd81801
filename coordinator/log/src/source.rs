//! A root to read from.

use std::sync::Arc;

use crate::application::Application;
use crate::clock::Clock;
use crate::error::LogError;
use crate::io::{Io, OnStoreFailure, Retry};
use crate::keys::Layout;
use crate::loading::inline;
use crate::options::PARALLEL_READS;
use crate::reader::PartitionReader;
use crate::store::ObjectStore;

/// A root to read from, and the settings of its requests.
#[derive(Clone)]
pub struct Source {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// Prefix of the root in the store.
    pub root: String,
    /// Clocks for the waits between retries.
    pub clock: Arc<dyn Clock>,
    /// Retries of failed requests.
    pub retry: Retry,
    /// Called for each failed request that will be retried.
    pub on_store_failure: OnStoreFailure,
}

impl Source {
    /// Returns the store with retries.
    #[must_use]
    pub fn io(&self) -> Io {
        Io {
            store: self.store.clone(),
            clock: self.clock.clone(),
            retry: self.retry,
            on_store_failure: self.on_store_failure.clone(),
        }
    }

    /// Returns a reader of one partition of the root that `application` describes.
    ///
    /// # Errors
    /// [`LogError::Foreign`] if the logs of the application lie elsewhere, [`LogError::Misuse`] if
    /// it has no such partition.
    pub(crate) fn reader(
        &self,
        application: &Application,
        partition: u32,
    ) -> Result<PartitionReader, LogError> {
        let layout = Layout::new(&self.root, partition);
        application.check_log(layout.application(), self.store.table_location())?;
        let reader = PartitionReader {
            layout,
            io: self.io(),
            identity: application.identity(partition),
            parallel_reads: PARALLEL_READS,
            offload: inline(),
        };
        reader.identity.validate()?;
        Ok(reader)
    }
}
