//! Which former snapshots are kept so that any moment of the last days can be read, and what is condemned when they grow too old.
//!
//! ```text
//! M1 ── M2 ── M3 ── M4 ── new        written_at: … ≤ now − retention < …
//!             ▲ the oldest that is needed: all moments since now − retention can be read from it on
//! condemned: M1, M2; the log below M3's replay; the segments that M2 or M3 did without
//! ```
//!
//! A segment that a snapshot does without is never needed by a later one: images do not move back. So it is enough to remember of each snapshot
//! what it did without first, and no manifest has to list its predecessors.

use std::collections::BTreeSet;

use crate::control::Condemned;
use crate::manifest::Manifest;
use crate::segment::SegmentName;

/// What is found in the store once in each epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LookedBack {
    /// All segments.
    pub(crate) segments: Vec<SegmentName>,
    /// The former manifests that were asked for and are still there, ascending.
    pub(crate) manifests: Vec<Manifest>,
    /// Whether all of those could be read. If not, nobody knows which segments are orphans.
    pub(crate) readable: bool,
}

/// A snapshot that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) manifest: u64,
    pub(crate) replay_from: u64,
    pub(crate) written_at_ms: u64,
    /// Segments that snapshots before it needed, and this one and all later ones do not.
    pub(crate) released: Vec<SegmentName>,
}

impl Kept {
    pub(crate) fn new(manifest: &Manifest, released: Vec<SegmentName>) -> Self {
        Self {
            manifest: manifest.number,
            replay_from: manifest.replay_from(),
            written_at_ms: manifest.written_at_ms,
            released,
        }
    }
}

/// The snapshots that are kept, oldest first; the last one is in effect.
#[derive(Debug, Default)]
pub(crate) struct Past {
    kept: Vec<Kept>,
    /// What no snapshot needs, and no condemnation of this epoch names yet.
    orphans: Condemned,
}

impl Past {
    /// What was found in the store when `in_effect` was, beside all `manifests`, and segments of epochs before `epoch`. Of this epoch there is nothing
    /// that no manifest will name; of a later one it is not ours to judge.
    pub(crate) fn new(
        epoch: u64,
        in_effect: Option<&Manifest>,
        manifests: &[u64],
        looked: LookedBack,
    ) -> Self {
        let mut past = Self::default();
        let mut needed: BTreeSet<SegmentName> = BTreeSet::new();
        for manifest in looked.manifests.iter().chain(in_effect) {
            let released = needed
                .iter()
                .filter(|name| !manifest.segments.contains_key(name));
            // What an earlier one released already is released once.
            let before: BTreeSet<&SegmentName> =
                past.kept.iter().flat_map(|kept| &kept.released).collect();
            let released = released
                .filter(|name| !before.contains(name))
                .copied()
                .collect();
            past.kept.push(Kept::new(manifest, released));
            needed.extend(manifest.segments.keys());
        }
        if looked.readable {
            let orphan = |name: &SegmentName| name.epoch < epoch && !needed.contains(name);
            past.orphans.segments = looked.segments.into_iter().filter(orphan).collect();
            let kept: BTreeSet<u64> = past.kept.iter().map(|kept| kept.manifest).collect();
            let others = manifests.iter().filter(|number| !kept.contains(number));
            past.orphans.manifests = others.copied().collect();
        }
        past
    }

    /// What is condemned by a new snapshot, if moments since `since_ms` are kept; `None` for no moment before the new snapshot.
    pub(crate) fn condemned(&self, new: &Kept, since_ms: Option<u64>) -> Condemned {
        let mut condemned = self.orphans.clone();
        let Some(oldest) = self.oldest_needed(since_ms) else {
            return condemned;
        };
        let needed = self.kept.get(oldest).unwrap_or(new);
        condemned.log_below = needed.replay_from;
        let older = &self.kept[..oldest];
        condemned.manifests.extend(older.iter().map(|k| k.manifest));
        let released = older.iter().chain([needed]).flat_map(|k| &k.released);
        condemned.segments.extend(released);
        condemned
    }

    /// The new snapshot took effect with that condemnation.
    pub(crate) fn took_effect(&mut self, new: Kept, since_ms: Option<u64>) {
        let oldest = self.oldest_needed(since_ms);
        self.orphans = Condemned::default();
        self.kept.push(new);
        if let Some(oldest) = oldest {
            self.kept.drain(..oldest);
            self.kept[0].released.clear();
        }
    }

    /// The place of the oldest snapshot that is needed; one past the last is the new one. `None` if all are, and the log before the first, too.
    fn oldest_needed(&self, since_ms: Option<u64>) -> Option<usize> {
        match since_ms {
            None => Some(self.kept.len()),
            Some(since_ms) => self
                .kept
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

    fn kept(manifest: u64, released: &[u64]) -> Kept {
        Kept {
            manifest,
            replay_from: manifest + 1,
            written_at_ms: manifest * 1000,
            released: released.iter().map(|number| segment(*number)).collect(),
        }
    }

    #[test]
    fn what_is_older_than_the_retention_is_condemned_once_and_the_rest_is_kept() {
        let mut past = Past::default();
        past.took_effect(kept(10, &[]), Some(0));
        past.took_effect(kept(20, &[10]), Some(0));
        past.took_effect(kept(30, &[20]), Some(0));
        let new = kept(40, &[30]);
        assert_eq!(
            past.condemned(&new, Some(9_999)),
            Condemned::default(),
            "a moment before the first snapshot is kept"
        );
        let condemned = past.condemned(&new, Some(25_000));
        assert_eq!(
            condemned,
            Condemned {
                log_below: 21,
                manifests: vec![10],
                segments: vec![segment(10)],
            }
        );
        past.took_effect(new, Some(25_000));
        let new = kept(50, &[40]);
        assert_eq!(
            past.condemned(&new, Some(25_000)),
            Condemned {
                log_below: 21,
                ..Condemned::default()
            },
            "nothing twice"
        );
        assert_eq!(
            past.condemned(&new, None),
            Condemned {
                log_below: 51,
                manifests: vec![20, 30, 40],
                segments: vec![segment(20), segment(30), segment(40)],
            }
        );
    }
}
