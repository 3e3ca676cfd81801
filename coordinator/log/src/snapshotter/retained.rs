//! Former snapshots that are retained so that every moment of the retention can be read, and the
//! condemnation of older ones.
//!
//! ```text
//! M1 ── M2 ── M3 ── M4 ── new        written_at: … ≤ now − retention < …
//!             ▲ the oldest one needed: it and its log reach all moments since now − retention
//! condemned: M1, M2; the log below M3's replay; the segments that M2 or M3 released
//! ```
//!
//! A segment that a snapshot no longer needs is never needed by a later one, because images do not
//! move back. It is therefore enough to remember for each snapshot the segments that it released
//! first, and no manifest has to list its predecessors.

use std::collections::BTreeSet;

use crate::control::Condemned;
use crate::manifest::Manifest;
use crate::segment::SegmentName;

/// Objects found in the store, once in each epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inventory {
    /// All segments.
    pub(crate) segments: Vec<SegmentName>,
    /// The requested former manifests that still exist, ascending.
    pub(crate) manifests: Vec<Manifest>,
    /// True if all of those could be read. If not, orphan segments cannot be told apart.
    pub(crate) readable: bool,
}

/// A snapshot that is retained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RetainedSnapshot {
    pub(crate) manifest: u64,
    pub(crate) replay_from: u64,
    pub(crate) written_at_ms: u64,
    /// Segments that earlier snapshots needed, and that this one and all later ones do not need.
    pub(crate) released: Vec<SegmentName>,
}

impl RetainedSnapshot {
    pub(crate) fn new(manifest: &Manifest, released: Vec<SegmentName>) -> Self {
        Self {
            manifest: manifest.number,
            replay_from: manifest.replay_from(),
            written_at_ms: manifest.written_at_ms,
            released,
        }
    }
}

/// The retained snapshots, oldest first; the last one is in effect.
#[derive(Debug, Default)]
pub(crate) struct RetainedSnapshots {
    snapshots: Vec<RetainedSnapshot>,
    /// Objects that no snapshot needs and no condemnation of this epoch names yet.
    orphans: Condemned,
}

impl RetainedSnapshots {
    /// Builds the list from `in_effect`, from all `manifests` in the store and from `inventory`.
    ///
    /// Only segments of epochs before `epoch` can be orphans. Every segment of this epoch will be
    /// named by a manifest, and segments of a later epoch are not for this owner to judge.
    pub(crate) fn new(
        epoch: u64,
        in_effect: Option<&Manifest>,
        manifests: &[u64],
        inventory: Inventory,
    ) -> Self {
        let mut retained = Self::default();
        let mut needed: BTreeSet<SegmentName> = BTreeSet::new();
        for manifest in inventory.manifests.iter().chain(in_effect) {
            let released = needed
                .iter()
                .filter(|name| !manifest.segments.contains_key(name));
            // A segment that an earlier snapshot released is not released again.
            let before: BTreeSet<&SegmentName> = retained
                .snapshots
                .iter()
                .flat_map(|kept| &kept.released)
                .collect();
            let released = released
                .filter(|name| !before.contains(name))
                .copied()
                .collect();
            retained
                .snapshots
                .push(RetainedSnapshot::new(manifest, released));
            needed.extend(manifest.segments.keys());
        }
        if inventory.readable {
            let orphan = |name: &SegmentName| name.epoch < epoch && !needed.contains(name);
            retained.orphans.segments = inventory.segments.into_iter().filter(orphan).collect();
            let kept: BTreeSet<u64> = retained
                .snapshots
                .iter()
                .map(|kept| kept.manifest)
                .collect();
            let others = manifests.iter().filter(|number| !kept.contains(number));
            retained.orphans.manifests = others.copied().collect();
        }
        retained
    }

    /// Objects that a new snapshot condemns if moments since `since_ms` are retained; `None`
    /// retains no moment before the new snapshot.
    pub(crate) fn condemned(&self, new: &RetainedSnapshot, since_ms: Option<u64>) -> Condemned {
        let mut condemned = self.orphans.clone();
        let Some(oldest) = self.oldest_needed(since_ms) else {
            return condemned;
        };
        let needed = self.snapshots.get(oldest).unwrap_or(new);
        condemned.log_below = needed.replay_from;
        let older = &self.snapshots[..oldest];
        condemned.manifests.extend(older.iter().map(|k| k.manifest));
        let released = older.iter().chain([needed]).flat_map(|k| &k.released);
        condemned.segments.extend(released);
        condemned
    }

    /// Adds the new snapshot, which took effect with that condemnation.
    pub(crate) fn took_effect(&mut self, new: RetainedSnapshot, since_ms: Option<u64>) {
        let oldest = self.oldest_needed(since_ms);
        self.orphans = Condemned::default();
        self.snapshots.push(new);
        if let Some(oldest) = oldest {
            self.snapshots.drain(..oldest);
            self.snapshots[0].released.clear();
        }
    }

    /// Index of the oldest snapshot that is needed; one past the last is the new one. `None` if all
    /// are needed, and the log before the first one too.
    fn oldest_needed(&self, since_ms: Option<u64>) -> Option<usize> {
        match since_ms {
            None => Some(self.snapshots.len()),
            Some(since_ms) => self
                .snapshots
                .iter()
                .rposition(|kept| kept.written_at_ms <= since_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(snapshot: u64) -> SegmentName {
        SegmentName {
            snapshot,
            epoch: 1,
            index: 0,
        }
    }

    fn kept(manifest: u64, released: &[u64]) -> RetainedSnapshot {
        RetainedSnapshot {
            manifest,
            replay_from: manifest + 1,
            written_at_ms: manifest * 1000,
            released: released.iter().map(|number| segment(*number)).collect(),
        }
    }

    #[test]
    fn snapshots_older_than_the_retention_are_condemned_once_and_the_rest_is_retained() {
        let mut retained = RetainedSnapshots::default();
        retained.took_effect(kept(10, &[]), Some(0));
        retained.took_effect(kept(20, &[10]), Some(0));
        retained.took_effect(kept(30, &[20]), Some(0));
        let new = kept(40, &[30]);
        assert_eq!(
            retained.condemned(&new, Some(9_999)),
            Condemned::default(),
            "a moment before the first snapshot is kept"
        );
        let condemned = retained.condemned(&new, Some(25_000));
        assert_eq!(
            condemned,
            Condemned {
                log_below: 21,
                manifests: vec![10],
                segments: vec![segment(10)],
            }
        );
        retained.took_effect(new, Some(25_000));
        let new = kept(50, &[40]);
        assert_eq!(
            retained.condemned(&new, Some(25_000)),
            Condemned {
                log_below: 21,
                ..Condemned::default()
            },
            "nothing twice"
        );
        assert_eq!(
            retained.condemned(&new, None),
            Condemned {
                log_below: 51,
                manifests: vec![20, 30, 40],
                segments: vec![segment(20), segment(30), segment(40)],
            }
        );
    }
}
