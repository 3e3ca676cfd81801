//! Savepoints of a partition, created and deleted beside its owner, which may be at work.
//!
//! Nothing that a savepoint needs is ever deleted, because one of both sees the other:
//!
//! ```text
//! creator                                        owner
//! read the newest manifest in effect, the log    condemn by a log record
//! create savepoints/<name>                       … the grace …
//! look: is anything it needs condemned, or gone? list savepoints/, hold back what they need
//!   yes: delete it, begin anew                   delete the rest
//! ```
//!
//! If the owner lists after the create, it finds the savepoint. If it lists before, what it is going to delete was condemned before the create, and
//! what is condemned is found in the log, or in the newest manifest, until it is deleted.

use futures::{StreamExt, stream};

use crate::application::Application;
use crate::error::LogError;
use crate::history::{Source, reader};
use crate::io::{Io, Put};
use crate::keys::{Layout, number_in, savepoint_in};
use crate::owner::Nonce;
use crate::savepoint::{Savepoint, SavepointName};
use crate::takeover::{Halt, Taker};

/// What a person says about a new savepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSavepoint {
    /// Its name.
    pub name: SavepointName,
    /// 16 random bytes.
    pub nonce: Nonce,
    /// What creates it: a program and its version.
    pub software: String,
    /// What it is for.
    pub comment: String,
}

/// Why there is no savepoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SavepointError {
    /// There is one of that name.
    #[error("partition {partition} has a savepoint {name} already")]
    Exists {
        /// The partition.
        partition: u32,
        /// The name.
        name: SavepointName,
    },
    /// There is none of that name.
    #[error("partition {partition} has no savepoint {name}")]
    Unknown {
        /// The partition.
        partition: u32,
        /// The name.
        name: SavepointName,
    },
    /// Nobody has owned the partition yet.
    #[error("partition {partition} has no log yet: there is nothing to keep")]
    Empty {
        /// The partition.
        partition: u32,
    },
    /// As for a takeover.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Keeps the state of a partition as it is now: everything that was durable when this was called is in it. An owner may be at work.
///
/// A creator that dies may leave a savepoint that it did not look at any more; reading such a one gives the state that it names, or the name of an
/// object that is missing.
///
/// # Errors
/// [`SavepointError`] names the savepoint, or the object that is damaged or missing; then there is no savepoint.
pub async fn create(
    source: &Source,
    application: &Application,
    partition: u32,
    new: &NewSavepoint,
) -> Result<Savepoint, SavepointError> {
    let taker = reader(source, application, partition);
    taker.place.identity.validate()?;
    let key = taker.layout.savepoint(&new.name);
    let mut restarts = 0;
    loop {
        match taker.try_create(&key, new).await {
            Ok(savepoint) => return Ok(savepoint),
            Err(Refusal::For(error)) => return Err(error),
            Err(Refusal::Anew) => {
                restarts += 1;
                taker.pause_before(restarts).await?;
            }
        }
    }
}

/// All savepoints of a partition, in the order of their names.
///
/// # Errors
/// [`LogError`] names the savepoint that cannot be read, or says that the store does not answer.
pub async fn list(source: &Source, partition: u32) -> Result<Vec<Savepoint>, LogError> {
    let layout = Layout::new(&source.root, partition);
    read_all(&source.io(), &layout, partition).await
}

/// Deletes a savepoint. What it alone needs is deleted by the owner, with what it collects next.
///
/// # Errors
/// [`SavepointError::Unknown`] if there is none of that name; [`LogError`] if the store does not answer.
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

/// Why an attempt ended.
enum Refusal {
    Anew,
    For(SavepointError),
}

impl<E: Into<Halt>> From<E> for Refusal {
    fn from(error: E) -> Self {
        match error.into() {
            Halt::Anew => Self::Anew,
            Halt::Error(error) => Self::For(error.into()),
        }
    }
}

impl Taker {
    async fn try_create(&self, key: &str, new: &NewSavepoint) -> Result<Savepoint, Refusal> {
        let partition = self.place.identity.partition;
        let manifests = self.manifests().await?;
        let (manifest, tail) = self.effective(&manifests).await?;
        if tail.end == 1 {
            return Err(Refusal::For(SavepointError::Empty { partition }));
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
                return Err(Refusal::For(SavepointError::Exists { partition, name }));
            }
            Put::Gone => return Err(Refusal::Anew),
        }
        if self.stands(&savepoint).await? {
            return Ok(savepoint);
        }
        // Whoever slept so long that its base was collected may have been deleted meanwhile, and the name given to another, whose savepoint stays.
        self.io.delete_exactly(key, &savepoint.encode()).await?;
        Err(Refusal::Anew)
    }

    /// Whether an owner that has not seen the savepoint leaves everything that it needs alone. What is condemned is looked at before what exists: the
    /// condemnation of something that was deleted meanwhile may be on no list any more.
    async fn stands(&self, savepoint: &Savepoint) -> Result<bool, LogError> {
        let mut looks = 0;
        let condemned = loop {
            let manifests = self.manifests().await?;
            match self.effective(&manifests).await {
                Ok((manifest, mut tail)) => break tail.take_condemned(manifest.as_ref()),
                Err(Halt::Error(error)) => return Err(error),
                Err(Halt::Anew) => {
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
            .buffer_unordered(self.place.options.parallel_reads);
        while let Some(first_byte) = found.next().await {
            if first_byte?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Reads a savepoint, or `None` if there is none of that name.
pub(crate) async fn read_one(
    io: &Io,
    layout: &Layout,
    partition: u32,
    name: &SavepointName,
) -> Result<Option<Savepoint>, LogError> {
    let key = layout.savepoint(name);
    let Some(object) = io.get(&key).await? else {
        return Ok(None);
    };
    let savepoint = Savepoint::decode(&object, partition, name);
    savepoint
        .map(Some)
        .map_err(|defect| LogError::damaged(&key, defect))
}

/// Reads all savepoints.
pub(crate) async fn read_all(
    io: &Io,
    layout: &Layout,
    partition: u32,
) -> Result<Vec<Savepoint>, LogError> {
    let prefix = layout.savepoints_prefix();
    let mut savepoints = Vec::new();
    for object in io.list(&prefix, None).await? {
        let Some(name) = savepoint_in(&object.key, &prefix) else {
            return Err(LogError::Unexpected {
                key: object.key,
                reason: "no savepoint has such a name".to_owned(),
            });
        };
        // One that was deleted since it was listed needs nothing any more.
        savepoints.extend(read_one(io, layout, partition, &name).await?);
    }
    Ok(savepoints)
}
