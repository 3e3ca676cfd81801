//! Beginning a new root for a restore or an import, and naming what went wrong. The writing itself
//! is [`satchel_storage::fork::RootWriter`].

use satchel_engine::placement::Placement;
use satchel_log::Io;
use satchel_storage::fork::{self, CreateError, RootWriter};

use super::root::{RETRY, failure, on_store_failure};
use crate::error::{Exit, Failure};
use crate::random;
use crate::store::StateStore;

/// Size at which a delta is closed, in bytes.
const DELTA_BYTES: usize = 4 << 20;

/// Settings of a new root.
pub(super) struct NewRoot<'a> {
    /// Place where the root is created.
    pub(super) opened: &'a StateStore,
    /// The place as the user wrote it.
    pub(super) place: &'a str,
    /// Application that will run on the root.
    pub(super) application: &'a str,
    /// Choice of the bucket of an address.
    pub(super) placement: Placement,
    /// Number of partitions.
    pub(super) partitions: u32,
    /// Description for people who find the root unfinished: "a restore of …".
    pub(super) making: String,
    /// Earliest partition time of the root, in ms since the epoch.
    pub(super) not_before_ms: u64,
}

/// Begins a root, or resumes one that was left unfinished.
///
/// # Errors
/// [`Exit::Damaged`] if the place holds a whole root; [`Exit::Environment`] if the store fails.
pub(super) async fn begin(new: NewRoot<'_>) -> Result<RootWriter, Failure> {
    let writer = RootWriter::begin(fork::NewRoot {
        io: Io {
            on_store_failure: on_store_failure(),
            ..new.opened.io(RETRY)
        },
        root: new.opened.prefix.clone(),
        application: new.application.to_owned(),
        placement: new.placement,
        partitions: new.partitions,
        nonce: random::bytes(),
        making: new.making,
        not_before_ms: new.not_before_ms,
        delta_bytes: DELTA_BYTES,
    });
    let writer = writer
        .await
        .map_err(|error| create_failure(new.place, error))?;
    // The check needs an object that exists, and there is one only now.
    let checked = new.opened.check_conditional_create().await;
    checked.map_err(|error| failure(error.into()))?;
    Ok(writer)
}

/// Returns how a command ends that could not create its root.
pub(super) fn create_failure(place: &str, error: CreateError) -> Failure {
    match error {
        CreateError::Occupied => {
            let message = format!(
                "{place} holds the state of an application already: \
                 a restore or an import needs an empty place"
            );
            Failure::new(Exit::Damaged, message)
        }
        CreateError::Ended => Failure::new(Exit::Environment, format!("{place}: {error}")),
        CreateError::Log(error) => failure(error),
    }
}
