//! Savepoints: named states that are kept until they are deleted.

use satchel_log::savepoints::{self, NewSavepoint, SavepointError};
use satchel_log::{Application, Savepoint, SavepointName};

use super::root::{Root, failure};
use crate::error::{Exit, Failure};
use crate::random;

/// Creates a savepoint of what is durable now, in every partition. An owner may be serving the
/// root.
///
/// # Errors
/// [`Exit::Refused`] if the name is in use, or the root has several partitions; [`Exit::Damaged`]
/// if an object that the savepoint needs is damaged or missing; [`Exit::Environment`] if this is no
/// root, or the store does not answer.
pub async fn create(
    root: &Root,
    application: &Application,
    name: SavepointName,
    comment: &str,
) -> Result<Vec<Savepoint>, Failure> {
    if application.partitions > 1 {
        let message = format!(
            "{} has {} partitions, which no savepoint can fix at one moment yet: read a moment \
             instead (`--at TIME`, with `--retention`)",
            root.place(),
            application.partitions
        );
        return Err(Failure::new(Exit::Refused, message));
    }
    let source = root.source();
    let mut created = Vec::new();
    for partition in 0..application.partitions {
        let new = NewSavepoint {
            name,
            nonce: random::bytes(),
            software: concat!("satchel ", env!("CARGO_PKG_VERSION")).to_owned(),
            comment: comment.to_owned(),
        };
        let savepoint = savepoints::create(&source, application, partition, &new).await;
        created.push(savepoint.map_err(refused)?);
    }
    Ok(created)
}

/// Returns all savepoints, in the order of their names.
///
/// # Errors
/// As of [`create`].
pub async fn list(root: &Root, application: &Application) -> Result<Vec<Savepoint>, Failure> {
    let source = root.source();
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

/// Deletes a savepoint. The owner later deletes the objects that nothing else needs.
///
/// # Errors
/// [`Exit::Refused`] if there is no savepoint of that name; else as of [`create`].
pub async fn delete(
    root: &Root,
    application: &Application,
    name: SavepointName,
) -> Result<(), Failure> {
    let source = root.source();
    for partition in 0..application.partitions {
        savepoints::delete(&source, partition, &name)
            .await
            .map_err(refused)?;
    }
    Ok(())
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
