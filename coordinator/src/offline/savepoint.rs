//! Savepoints: states that a person named and that are kept.

use std::sync::Arc;

use satchel_log::savepoints::{self, NewSavepoint, SavepointError};
use satchel_log::{Application, Savepoint, SavepointName, Source};

use super::place::{RETRY, Root, failure, on_trouble};
use crate::cli::{Exit, Failure};
use crate::runtime::node::random;
use crate::store::SystemClock;

/// Keeps what is durable now, in every partition, under a name. An owner may be at work.
///
/// # Errors
/// [`Exit::Refused`] if there is one of that name; [`Exit::Damaged`] if something that it needs is damaged or missing; [`Exit::Environment`] if
/// this is no root, or the store does not answer.
pub async fn create(
    root: &Root,
    application: &Application,
    name: SavepointName,
    comment: &str,
) -> Result<Vec<Savepoint>, Failure> {
    let source = source(root);
    let mut created = Vec::new();
    for partition in 0..application.partitions {
        let new = NewSavepoint {
            name,
            nonce: random(),
            software: concat!("satchel ", env!("CARGO_PKG_VERSION")).to_owned(),
            comment: comment.to_owned(),
        };
        let savepoint = savepoints::create(&source, application, partition, &new).await;
        created.push(savepoint.map_err(refused)?);
    }
    Ok(created)
}

/// All savepoints, in the order of their names.
///
/// # Errors
/// As of [`create`].
pub async fn list(root: &Root, application: &Application) -> Result<Vec<Savepoint>, Failure> {
    let source = source(root);
    let mut all = Vec::new();
    for partition in 0..application.partitions {
        all.extend(
            savepoints::list(&source, partition)
                .await
                .map_err(failure)?,
        );
    }
    all.sort_by_key(|one| (one.name, one.partition));
    Ok(all)
}

/// Deletes a savepoint; what it alone needs is deleted later, by the owner.
///
/// # Errors
/// [`Exit::Refused`] if there is none of that name, and else as of [`create`].
pub async fn delete(
    root: &Root,
    application: &Application,
    name: SavepointName,
) -> Result<(), Failure> {
    let source = source(root);
    for partition in 0..application.partitions {
        savepoints::delete(&source, partition, &name)
            .await
            .map_err(refused)?;
    }
    Ok(())
}

fn source(root: &Root) -> Source {
    Source {
        store: Arc::clone(root.store()),
        root: root.prefix().to_owned(),
        clock: Arc::new(SystemClock),
        retry: RETRY,
        on_trouble: on_trouble(),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "what `map_err` takes")]
fn refused(error: SavepointError) -> Failure {
    match error {
        SavepointError::Log(error) => failure(error),
        SavepointError::Exists { .. }
        | SavepointError::Unknown { .. }
        | SavepointError::Empty { .. } => Failure::new(Exit::Refused, error.to_string()),
    }
}
