//! How a process ends that finds a root which is not whole: somebody makes it of something else (a restore, an import), or died over it
//! ([`satchel_storage`]).

use std::sync::Arc;

use satchel_log::{Io, Retry};
use satchel_storage::Refusal;

use super::SystemClock;
use super::place::Opened;
use crate::cli::{Exit, Failure};
use crate::runtime::node::log_failure;

impl Opened {
    /// Its store, with patience.
    pub(crate) fn io(&self, retry: Retry) -> Io {
        Io {
            store: Arc::clone(&self.store),
            clock: Arc::new(SystemClock),
            retry,
            on_trouble: Arc::new(|trouble| {
                tracing::warn!(error = %trouble.error, "the store did not answer well; the request is repeated");
            }),
        }
    }
}

/// Why nobody serves or reads a root.
pub(crate) fn refused(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Log(error) => log_failure(error),
        Refusal::Unfinished { .. } | Refusal::Filling { .. } => Failure::new(
            Exit::Damaged,
            format!(
                "the durable state is not whole: {refusal}; run the restore or import once more, which goes on with it, or remove the root"
            ),
        ),
    }
}
