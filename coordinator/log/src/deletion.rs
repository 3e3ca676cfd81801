//! Deletion of condemned objects, except for those that savepoints need.

use crate::control::Condemned;
use crate::error::LogError;
use crate::io::Io;
use crate::keys::{Layout, number_in};
use crate::savepoints::stored::read_all;

/// Result of performing a condemnation.
#[derive(Debug)]
pub(crate) struct Deletion {
    /// Objects that were not deleted.
    pub(crate) held: Condemned,
    /// A savepoint that cannot be read. Its needs are unknown, so nothing was deleted.
    pub(crate) unreadable: Option<LogError>,
}

/// Deletes condemned objects. The savepoints are listed after the grace period: see
/// [`crate::savepoints`].
pub(crate) async fn perform(
    io: &Io,
    layout: &Layout,
    partition: u32,
    condemned: Condemned,
) -> Result<Deletion, LogError> {
    let prefix = layout.log_prefix();
    let below = match condemned.log_below {
        0 => Vec::new(),
        number => io.list_between(&prefix, None, &layout.log(number)).await?,
    };
    // Nothing but takeovers needs copies, and those need none of what is condemned.
    let copies = match condemned.log_below {
        0 => Vec::new(),
        number => {
            let after = layout.condensed_before(number);
            io.list(&layout.condensed_prefix(), Some(after)).await?
        }
    };
    let savepoints = match read_all(io, layout, partition).await {
        Ok(savepoints) => savepoints,
        Err(LogError::Store(error)) => return Err(error.into()),
        Err(unreadable) => {
            return Ok(Deletion {
                held: condemned,
                unreadable: Some(unreadable),
            });
        }
    };
    let mut held = Condemned::default();
    // Manifests come first: a manifest without its segments or log is useless.
    let mut keys = Vec::new();
    for number in condemned.manifests {
        if savepoints.iter().any(|one| one.needs_manifest(number)) {
            held.manifests.push(number);
        } else {
            keys.push(layout.manifest(number));
        }
    }
    for name in condemned.segments {
        if savepoints.iter().any(|one| one.needs_segment(&name)) {
            held.segments.push(name);
        } else {
            keys.push(layout.segment(&name));
        }
    }
    for object in below {
        let Some(number) = number_in(&object.key, &prefix) else {
            continue;
        };
        if savepoints.iter().any(|one| one.needs_log(number)) {
            held.log_below = condemned.log_below;
        } else {
            keys.push(object.key);
        }
    }
    keys.extend(copies.into_iter().map(|object| object.key));
    io.delete(&keys).await?;
    Ok(Deletion {
        held,
        unreadable: None,
    })
}
