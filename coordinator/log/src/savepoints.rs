//! Savepoints of a partition, created and deleted beside its owner, which may be at work.
//!
//! No object that a savepoint needs is ever deleted, because either the creator or the owner sees
//! the other:
//!
//! ```text
//! creator                                        owner
//! read the newest manifest in effect, the log    condemn by a log record
//! create savepoints/<name>                       … the grace period …
//! is anything it needs condemned, or gone?       list savepoints/, hold back what they need
//!   yes: delete it, restart                      delete the rest
//! ```
//!
//! If the owner lists after the create, it finds the savepoint. If it lists before the create, the
//! objects that it is going to delete were condemned before the create. A condemnation is found in
//! the log, or in the newest manifest, until its objects are deleted.

use futures::{StreamExt, stream};

use crate::application::Application;
use crate::error::LogError;
use crate::io::Put;
use crate::keys::{Layout, number_in};
use crate::owner::Nonce;
use crate::reader::{Halt, PartitionReader};
use crate::savepoint::{Savepoint, SavepointName};
use crate::savepoints::stored::read_all;
use crate::source::Source;

pub(crate) mod stored;

/// Description of a new savepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSavepoint {
    /// Its name.
    pub name: SavepointName,
    /// 16 random bytes.
    pub nonce: Nonce,
    /// Creator: a program and its version.
    pub software: String,
    /// Purpose, for people.
    pub comment: String,
}

/// Reason a savepoint could not be created or deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SavepointError {
    /// A savepoint of that name exists.
    #[error("partition {partition} has a savepoint {name} already")]
    Exists {
        /// The partition.
        partition: u32,
        /// The name.
        name: SavepointName,
    },
    /// There is no savepoint of that name.
    #[error("partition {partition} has no savepoint {name}")]
    Unknown {
        /// The partition.
        partition: u32,
        /// The name.
        name: SavepointName,
    },
    /// The partition never had an owner.
    #[error("partition {partition} has no log yet: there is nothing to keep")]
    Empty {
        /// The partition.
        partition: u32,
    },
    /// An error that a takeover could have as well.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Creates a savepoint of the current state of a partition. Everything that was durable at the call
/// is part of it. An owner may be at work.
///
/// A creator that dies may leave a savepoint that it did not check. Reading it returns the state
/// that it names, or an error that names a missing object.
///
/// # Errors
/// [`SavepointError`] names the savepoint, or the object that is damaged or missing. No savepoint
/// exists then.
pub async fn create(
    source: &Source,
    application: &Application,
    partition: u32,
    new: &NewSavepoint,
) -> Result<Savepoint, SavepointError> {
    let reader = source.reader(application, partition)?;
    let key = reader.layout.savepoint(&new.name);
    let mut restarts = 0;
    loop {
        match reader.try_create(&key, new).await {
            Ok(savepoint) => return Ok(savepoint),
            Err(Refusal::Error(error)) => return Err(error),
            Err(Refusal::Restart) => {
                restarts += 1;
                reader.pause_before(restarts).await?;
            }
        }
    }
}

/// Lists all savepoints of a partition, in the order of their names.
///
/// # Errors
/// [`LogError`] names the savepoint that cannot be read, or reports that the store does not answer.
pub async fn list(source: &Source, partition: u32) -> Result<Vec<Savepoint>, LogError> {
    let layout = Layout::new(&source.root, partition);
    read_all(&source.io(), &layout, partition).await
}

/// Deletes a savepoint. The owner deletes the objects that only this savepoint needed with its next
/// collection.
///
/// # Errors
/// [`SavepointError::Unknown`] if there is no savepoint of that name; [`LogError`] if the store
/// does not answer.
pub async fn delete(
    source: &Source,
    partition: u32,
    name: &SavepointName,
) -> Result<(), SavepointError> {
    let layout = Layout::new(&source.root, partition);
    let (io, key) = (source.io(), layout.savepoint(name));
    let Some(found) = io.get(&key).await.map_err(LogError::from)? else {
        let name = *name;
        return Err(SavepointError::Unknown { partition, name });
    };
    io.delete_exactly(&key, &found)
        .await
        .map_err(LogError::from)?;
    Ok(())
}

/// Reason an attempt ended.
enum Refusal {
    Restart,
    Error(SavepointError),
}

impl<E: Into<Halt>> From<E> for Refusal {
    fn from(error: E) -> Self {
        match error.into() {
            Halt::Restart => Self::Restart,
            Halt::Error(error) => Self::Error(error.into()),
        }
    }
}

impl PartitionReader {
    async fn try_create(&self, key: &str, new: &NewSavepoint) -> Result<Savepoint, Refusal> {
        let partition = self.identity.partition;
        let listing = self.list().await?;
        let found = self.effective(&listing, false).await?;
        let (manifest, tail) = (found.manifest, found.tail);
        if tail.end == 1 {
            return Err(Refusal::Error(SavepointError::Empty { partition }));
        }
        let savepoint = Savepoint {
            partition,
            name: new.name,
            manifest: manifest.as_ref().and(tail.effect()),
            replay_from: manifest.as_ref().map_or(1, |m| m.replay_from()),
            through: tail.end - 1,
            committed_at_ms: tail.committed_at_ms,
            created_at_ms: self.io.clock.now().wall_ms,
            nonce: new.nonce,
            software: new.software.clone(),
            comment: new.comment.clone(),
            segments: manifest.map_or_else(Vec::new, |m| m.segments.into_keys().collect()),
        };
        match self.io.put(key, &savepoint.encode()).await? {
            Put::Mine => {}
            Put::Other(_) => {
                let name = new.name;
                return Err(Refusal::Error(SavepointError::Exists { partition, name }));
            }
            Put::Gone => return Err(Refusal::Restart),
        }
        if self.stands(&savepoint).await? {
            return Ok(savepoint);
        }
        // If this process slept until its base was collected, its savepoint may have been deleted
        // and the name given to another savepoint, which must stay.
        self.io.delete_exactly(key, &savepoint.encode()).await?;
        Err(Refusal::Restart)
    }

    /// Checks that an owner that has not seen the savepoint deletes nothing that the savepoint
    /// needs. Condemnations are read before existence is checked: the condemnation of an object
    /// that was deleted in between may no longer be on any list.
    async fn stands(&self, savepoint: &Savepoint) -> Result<bool, LogError> {
        let mut looks = 0;
        let condemned = loop {
            let listing = self.list().await?;
            match self.effective(&listing, false).await {
                Ok(mut found) => break found.tail.take_condemned(found.manifest.as_ref()),
                Err(Halt::Error(error)) => return Err(error),
                Err(Halt::Restart) => {
                    looks += 1;
                    self.pause_before(looks).await?;
                }
            }
        };
        let touched = condemned.iter().any(|one| savepoint.is_touched_by(one));
        Ok(!touched && self.all_there(savepoint).await?)
    }

    async fn all_there(&self, savepoint: &Savepoint) -> Result<bool, LogError> {
        let prefix = self.layout.log_prefix();
        let after = self.layout.log(savepoint.replay_from - 1);
        let end = self.layout.log(savepoint.through + 1);
        let listed = self.io.list_between(&prefix, Some(after), &end).await?;
        let numbers = listed
            .iter()
            .filter_map(|object| number_in(&object.key, &prefix));
        if !numbers.eq(savepoint.replay_from..=savepoint.through) {
            return Ok(false);
        }
        let manifest = savepoint.manifest.map(|m| self.layout.manifest(m.manifest));
        let segments = savepoint.segments.iter().map(|n| self.layout.segment(n));
        let keys: Vec<String> = manifest.into_iter().chain(segments).collect();
        let mut found = stream::iter(keys)
            .map(|key| async move { self.io.get_range(&key, 0..1).await })
            .buffer_unordered(self.parallel_reads);
        while let Some(first_byte) = found.next().await {
            if first_byte?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
