//! Savepoints in the store.

use crate::error::LogError;
use crate::io::Io;
use crate::keys::{Layout, savepoint_in};
use crate::savepoint::{Savepoint, SavepointName};

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
                reason: "this is not the name of a savepoint".to_owned(),
            });
        };
        // A savepoint that was deleted after the listing needs nothing any more.
        savepoints.extend(read_one(io, layout, partition, &name).await?);
    }
    Ok(savepoints)
}
