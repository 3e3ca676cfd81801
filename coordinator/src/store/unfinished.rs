//! Errors of a process that finds an unfinished root ([`satchel_storage::fork`]).

use std::sync::Arc;

use satchel_log::{Io, Retry};
use satchel_storage::fork::Refusal;

use super::location::StateStore;
use crate::clock::SystemClock;
use crate::error::{Exit, Failure};

impl StateStore {
    /// Store access with retries.
    pub(crate) fn io(&self, retry: Retry) -> Io {
        Io {
            store: Arc::clone(&self.store),
            clock: Arc::new(SystemClock),
            retry,
            on_store_failure: Arc::new(|trouble| {
                tracing::warn!(error = %trouble.error, "store request failed; retrying");
            }),
        }
    }
}

/// Returns how a process ends that may not serve or read a root.
pub(crate) fn refused(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Log(error) => error.into(),
        Refusal::Unfinished { .. } | Refusal::Filling { .. } => Failure::new(
            Exit::Damaged,
            format!(
                "the durable state is not whole: {refusal}; run the restore or import again to \
                 complete it, or remove the root"
            ),
        ),
    }
}
