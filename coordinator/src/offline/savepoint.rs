//! Savepoints: named states that are kept until they are deleted.

use satchel_log::savepoints::{self, NewSavepoint, SavepointError};
use satchel_log::{Application, At, Savepoint, SavepointName, Source};
use satchel_storage::fork::{Content, ReadError};

use super::root::failure;
use super::states::read_failure;
use crate::error::{Exit, Failure};
use crate::random;

/// Maximum number of tries to fix several partitions that are being served at one moment.
const TRIES: u32 = 5;

/// Root whose savepoints are managed.
#[derive(Clone)]
pub struct SavepointRoot {
    /// Source to read and write.
    pub(super) source: Source,
    /// Place of the root, for messages.
    pub(super) place: String,
}

/// Creates a savepoint of what is durable now, in every partition. An owner may be serving the
/// root.
///
/// The savepoints of several partitions are made one after the other. They are kept only if they
/// are one moment: no partition has taken a message that its sender does not know (rule 35). This
/// is so if no process serves the root, or if no message passed between partitions meanwhile. To
/// find out, the whole state is read.
///
/// A creator that dies may leave savepoints of some partitions. They can be deleted, and a restore
/// refuses them.
///
/// # Errors
/// [`Exit::Refused`] if the name is in use, or messages passed between partitions in every try;
/// [`Exit::Damaged`] if an object that the savepoint needs is damaged or missing;
/// [`Exit::Environment`] if this is no root, or the store does not answer.
pub async fn create(
    root: &SavepointRoot,
    application: &Application,
    name: SavepointName,
    comment: &str,
) -> Result<Vec<Savepoint>, Failure> {
    for _ in 0..TRIES {
        let created = create_each(root, application, name, comment).await?;
        if application.partitions == 1 {
            return Ok(created);
        }
        let at = At::Savepoint(name);
        match Content::read(&root.source, application, at, |_| {}).await {
            Ok(_) => return Ok(created),
            Err(ReadError::NoCut { .. }) => delete_each(root, &created).await?,
            // What could not be checked is not kept.
            Err(ReadError::History(error)) => {
                delete_each(root, &created).await?;
                return Err(read_failure(error));
            }
            Err(error @ ReadError::Malformed(_)) => {
                delete_each(root, &created).await?;
                let message = format!("{}: {error}", root.place);
                return Err(Failure::new(Exit::Damaged, message));
            }
        }
    }
    let message = format!(
        "{} has {} partitions, and messages passed between them in each of {TRIES} tries: name a \
         moment instead (`--at TIME`, with `--retention`), or stop the application first",
        root.place, application.partitions
    );
    Err(Failure::new(Exit::Refused, message))
}

/// Creates a savepoint in each partition, or in none.
async fn create_each(
    root: &SavepointRoot,
    application: &Application,
    name: SavepointName,
    comment: &str,
) -> Result<Vec<Savepoint>, Failure> {
    let source = &root.source;
    let mut created = Vec::new();
    for partition in 0..application.partitions {
        let new = NewSavepoint {
            name,
            nonce: random::bytes(),
            software: concat!("satchel ", env!("CARGO_PKG_VERSION")).to_owned(),
            comment: comment.to_owned(),
        };
        match savepoints::create(source, application, partition, &new).await {
            Ok(savepoint) => created.push(savepoint),
            Err(error) => {
                delete_each(root, &created).await?;
                return Err(refused(error));
            }
        }
    }
    Ok(created)
}

async fn delete_each(root: &SavepointRoot, savepoints: &[Savepoint]) -> Result<(), Failure> {
    for Savepoint {
        partition, name, ..
    } in savepoints
    {
        match savepoints::delete(&root.source, *partition, name).await {
            // Another process has deleted it.
            Ok(()) | Err(SavepointError::Unknown { .. }) => {}
            Err(error) => return Err(refused(error)),
        }
    }
    Ok(())
}

/// Returns all savepoints, in the order of their names.
///
/// # Errors
/// As of [`create`].
pub async fn list(
    root: &SavepointRoot,
    application: &Application,
) -> Result<Vec<Savepoint>, Failure> {
    let source = &root.source;
    let mut all = Vec::new();
    for partition in 0..application.partitions {
        all.extend(savepoints::list(source, partition).await.map_err(failure)?);
    }
    all.sort_by_key(|one| (one.name, one.partition));
    Ok(all)
}

/// Deletes a savepoint in all partitions that have it. The owner later deletes the objects that
/// nothing else needs.
///
/// # Errors
/// [`Exit::Refused`] if there is no savepoint of that name; else as of [`create`].
pub async fn delete(
    root: &SavepointRoot,
    application: &Application,
    name: SavepointName,
) -> Result<(), Failure> {
    let source = &root.source;
    let mut unknown = None;
    let mut deleted = false;
    for partition in 0..application.partitions {
        match savepoints::delete(source, partition, &name).await {
            Ok(()) => deleted = true,
            // Its creator died before it came to this partition.
            Err(error @ SavepointError::Unknown { .. }) => unknown = Some(error),
            Err(error) => return Err(refused(error)),
        }
    }
    match unknown {
        Some(error) if !deleted => Err(refused(error)),
        _ => Ok(()),
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
