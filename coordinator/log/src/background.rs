//! Store requests of a snapshot, beside the commits.

use bytes::Bytes;
use futures::{StreamExt, stream};

use crate::clock::Now;
use crate::error::LogError;
use crate::io::{Io, Put};
use crate::keys::{Layout, segment_in};
use crate::manifest::Manifest;
use crate::snapshotter::retained::Inventory;

/// Maximum number of former manifests that are read at once. Nothing waits for them.
const PARALLEL_READS: usize = 4;

/// Creates an object whose name only the owner of `epoch` uses.
pub(crate) async fn put_own(io: &Io, key: &str, bytes: &Bytes, epoch: u64) -> Result<(), LogError> {
    match io.put(key, bytes).await? {
        Put::Mine => Ok(()),
        // An earlier try stored it. Only a later owner condemns an object that no manifest names.
        Put::Gone => Err(LogError::Fenced {
            epoch,
            reason: format!("{key} was stored and has been collected by another owner"),
        }),
        Put::Other(_) => Err(LogError::Unexpected {
            key: key.to_owned(),
            reason: "its name belongs to this epoch alone, but another object has it".to_owned(),
        }),
    }
}

/// Lists all segments, and reads former `manifests` of a partition with `buckets` buckets. Also
/// returns the error of a manifest that cannot be read.
pub(crate) async fn take_inventory(
    io: &Io,
    layout: &Layout,
    (partition, buckets): (u32, u16),
    manifests: Vec<u64>,
) -> Result<(Inventory, Option<LogError>), LogError> {
    let prefix = layout.segments_prefix();
    let listed = io.list(&prefix, None).await?;
    let names = listed.iter().map(|object| segment_in(&object.key, &prefix));
    let mut inventory = Inventory {
        segments: names.flatten().collect(),
        manifests: Vec::new(),
        readable: true,
    };
    let mut unreadable = None;
    let mut objects = stream::iter(manifests)
        .map(|number| async move {
            let key = layout.manifest(number);
            let object = io.get(&key).await;
            (number, key, object)
        })
        .buffered(PARALLEL_READS);
    while let Some((number, key, object)) = objects.next().await {
        // It was deleted after the listing: a condemnation of a former owner was performed.
        let Some(object) = object? else {
            continue;
        };
        match Manifest::decode(&object, partition, number, buckets) {
            Ok(manifest) => inventory.manifests.push(manifest),
            Err(defect) => {
                inventory.readable = false;
                unreadable = Some(LogError::damaged(&key, defect));
            }
        }
    }
    drop(objects);
    Ok((inventory, unreadable))
}

/// Spreads stored bytes over time.
#[derive(Debug)]
pub(crate) struct Pacer {
    bytes_per_second: Option<u64>,
    /// Boot time in milliseconds at which the bytes stored so far are paid for.
    free_at_ms: u64,
}

impl Pacer {
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            bytes_per_second,
            free_at_ms: 0,
        }
    }

    /// Returns the wait before `bytes` are stored, in milliseconds.
    pub(crate) fn pause_ms(&mut self, bytes: u64, now: Now) -> u64 {
        let Some(bytes_per_second) = self.bytes_per_second else {
            return 0;
        };
        let begin_ms = self.free_at_ms.max(now.boot_ms);
        let cost_ms = bytes.saturating_mul(1000) / bytes_per_second.max(1);
        self.free_at_ms = begin_ms.saturating_add(cost_ms);
        begin_ms - now.boot_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_follow_each_other_no_faster_than_allowed() {
        let at = |boot_ms| Now {
            boot_ms,
            wall_ms: 0,
        };
        let mut pacer = Pacer::new(Some(1000));
        assert_eq!(pacer.pause_ms(500, at(10_000)), 0);
        assert_eq!(pacer.pause_ms(2000, at(10_100)), 400);
        assert_eq!(pacer.pause_ms(1, at(10_500)), 2000);
        assert_eq!(pacer.pause_ms(1, at(20_000)), 0);
        assert_eq!(Pacer::new(None).pause_ms(1 << 40, at(0)), 0);
    }
}
