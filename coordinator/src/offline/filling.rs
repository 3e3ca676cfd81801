//! Making a new root of what another root or a file holds: where it lies, and how what goes wrong is told. The making itself is
//! [`satchel_storage::Filling`].

use satchel_log::{DEFAULT_BUCKETS, Io};
use satchel_storage::{Filling, MakeError};

use super::place::{RETRY, failure, on_trouble};
use crate::cli::{Exit, Failure};
use crate::runtime::node::random;
use crate::store::Opened;

/// The size at which a delta is closed, in bytes.
const DELTA_BYTES: usize = 4 << 20;

/// What a new root is to be.
pub(super) struct NewRoot<'a> {
    /// Where it is made.
    pub(super) opened: &'a Opened,
    /// How people call that place.
    pub(super) place: &'a str,
    /// The application that will run on it.
    pub(super) application: &'a str,
    /// What is made, for whoever finds it unfinished: "a restore of …".
    pub(super) making: String,
    /// Partition time is not to be earlier, in ms since the epoch.
    pub(super) not_before_ms: u64,
}

/// Begins to make a root, or goes on with one that was left unfinished.
///
/// # Errors
/// [`Exit::Damaged`] if something lies there that is whole; [`Exit::Environment`] if the store fails.
pub(super) async fn begin(new: NewRoot<'_>) -> Result<Filling, Failure> {
    let filling = Filling::begin(satchel_storage::NewRoot {
        io: Io {
            on_trouble: on_trouble(),
            ..new.opened.io(RETRY)
        },
        root: new.opened.prefix.clone(),
        application: new.application.to_owned(),
        buckets: DEFAULT_BUCKETS,
        nonce: random(),
        making: new.making,
        not_before_ms: new.not_before_ms,
        delta_bytes: DELTA_BYTES,
    });
    let filling = filling.await.map_err(|error| unmade(new.place, error))?;
    // Only now is there something to try it on.
    let checked = new.opened.check_conditional_create().await;
    checked.map_err(|error| failure(error.into()))?;
    Ok(filling)
}

/// Why a root was not made.
pub(super) fn unmade(place: &str, error: MakeError) -> Failure {
    match error {
        MakeError::Occupied => {
            let message = format!(
                "{place} holds the state of an application already: a restore or an import makes a new one"
            );
            Failure::new(Exit::Damaged, message)
        }
        MakeError::Ended => Failure::new(Exit::Environment, format!("{place}: {error}")),
        MakeError::Log(error) => failure(error),
    }
}
