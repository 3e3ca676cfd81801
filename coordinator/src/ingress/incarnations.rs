//! Permanent names of the partitions of a root, which registrations with other services bear.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use satchel_clock::Backoff;

use crate::error::Failure;

type Read = dyn Fn(u32) -> BoxFuture<'static, Result<String, Failure>> + Send + Sync;

/// Names of the partition that reads, and of others.
#[derive(Clone)]
pub struct Incarnations {
    own: Arc<str>,
    read: Arc<Read>,
}

impl fmt::Debug for Incarnations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Incarnations").field(&self.own).finish()
    }
}

impl Incarnations {
    /// Creates the names of the partition `own`. `read` reads those of others.
    pub fn new(
        own: impl Into<Arc<str>>,
        read: impl Fn(u32) -> BoxFuture<'static, Result<String, Failure>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            own: own.into(),
            read: Arc::new(read),
        }
    }

    /// Name of the partition that reads.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// Name of another partition that had an owner. Waits until it can be read.
    pub async fn of(&self, partition: u32) -> String {
        let mut backoff = Backoff::default();
        loop {
            match (self.read)(partition).await {
                Ok(name) => return name,
                Err(error) => {
                    tracing::warn!(
                        partition,
                        %error,
                        "the name of a partition cannot be read; retrying"
                    );
                }
            }
            backoff.wait().await;
        }
    }
}
