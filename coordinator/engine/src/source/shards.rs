//! The plan for reading the shards of a stream: decided from lists of shards and durable positions,
//! without I/O.
//!
//! ```text
//!  durable positions ─┐                   ┌─► Find   (the partition makes the start durable,
//!  ListShards ────────┼─► ShardPlan ─Step─┤           then the shard is read)
//!  durable ends ──────┘                   ├─► Forget (an ended shard that left the stream)
//!                                         └─► Lost   (a shard that left before its end was read)
//! ```
//!
//! A child is read only when the end of each of its parents is durable, so that the records of one
//! key stay in order over splits and merges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::position::ShardPosition;

/// Durable positions of a stream's shards, by shard id.
pub type Applied = Vec<(Arc<str>, ShardPosition)>;

/// A shard as listed by the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedShard {
    /// Id of the shard.
    pub id: Arc<str>,
    /// Shards that it was made of: none, one (split) or two (merge). They may have left the stream
    /// already.
    pub parents: Vec<Arc<str>>,
    /// True if nothing more is written to the shard.
    pub closed: bool,
    /// Range of the hash keys of its records, both ends included, if the stream reports it.
    pub hash_range: Option<(u128, u128)>,
}

/// Start of a stream that was never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Startup {
    /// After the present content of the stream.
    Latest,
    /// At the oldest record.
    Earliest,
    /// At the first record that arrived at or after this time, in ms since the epoch.
    Date(u64),
}

/// Next step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Report these shards to the partition together, and read each from the given position. For
    /// shards whose position is durable already, it is the durable one.
    Find(Vec<(Arc<str>, ShardPosition)>),
    /// Report to the partition that this shard can be forgotten: its end is durable, and it has
    /// left the stream.
    Forget(Arc<str>),
    /// Report that this shard left the stream before it was read to its end. Its children wait
    /// until [`ShardPlan::ended`] accepts the loss.
    Lost(Arc<str>),
}

/// Number of consecutive lists without a shard after which it counts as gone. A single list may
/// have been made while the stream changed.
const LISTS_WITHOUT: u32 = 2;

/// Plan for one stream of one ingress.
#[derive(Debug)]
pub struct ShardPlan {
    startup: Startup,
    known: BTreeMap<Arc<str>, Known>,
    listed: BTreeMap<Arc<str>, ListedShard>,
    /// True if the starts of a stream that was never read are still to be resolved.
    unresolved: bool,
}

#[derive(Debug)]
struct Known {
    position: ShardPosition,
    progress: Progress,
    lists_without: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// A former owner read the shard, and the stream has not listed it to this owner yet.
    Unlisted,
    Reading,
    /// The end of the shard is durable.
    Ended,
    /// The shard was reported as lost.
    Lost,
}

impl ShardPlan {
    /// Creates a plan from the durable positions.
    pub fn new(startup: Startup, applied: Applied) -> Self {
        let known = applied.into_iter().map(|(shard, position)| {
            let progress = match position {
                ShardPosition::End => Progress::Ended,
                // Its reader, in another partition, finds its end.
                ShardPosition::Elsewhere => Progress::Reading,
                _ => Progress::Unlisted,
            };
            (shard, Known::new(position, progress))
        });
        let known: BTreeMap<_, _> = known.collect();
        Self {
            startup,
            unresolved: known.is_empty(),
            known,
            listed: BTreeMap::new(),
        }
    }

    /// Returns whether the next list resolves the starts of a stream that was never read.
    pub fn is_unresolved(&self) -> bool {
        self.unresolved
    }

    /// Handles a complete list of the stream's shards. `now_ms` is the time by the stream's clock,
    /// or a little earlier. Records that arrived before it are not part of `latest`.
    pub fn listed(&mut self, shards: &[ListedShard], now_ms: u64) -> Vec<Step> {
        let listed = shards.iter().map(|shard| (shard.id.clone(), shard.clone()));
        self.listed = listed.collect();
        if self.listed.is_empty() {
            return Vec::new();
        }
        let mut steps = self.count_missing();
        let found = if self.unresolved && self.startup == Startup::Latest {
            self.resolve_latest(now_ms)
        } else {
            self.startable()
        };
        self.unresolved &= found.is_empty();
        steps.extend(self.find(found));
        steps
    }

    /// Resolves `latest`: a stream of which only new records are wanted starts in its open shards.
    ///
    /// The list may have been made while the stream changed. A child beside its open parent waits
    /// for the parent's end. A closed shard whose children are not listed counts as ended, so that
    /// its children are read.
    fn resolve_latest(&self, now_ms: u64) -> Applied {
        let is_open = |id: &Arc<str>| self.listed.get(id).is_some_and(|shard| !shard.closed);
        let is_parent = |id: &Arc<str>| {
            let mut children = self.listed.values();
            children.any(|child| child.parents.contains(id))
        };
        let start = |shard: &ListedShard| match shard.closed {
            true => (!is_parent(&shard.id)).then_some(ShardPosition::End),
            false => {
                let waits = shard.parents.iter().any(is_open);
                (!waits).then_some(ShardPosition::Since { time_ms: now_ms })
            }
        };
        let shards = self.listed.values();
        let found = shards.filter_map(|shard| Some((shard.id.clone(), start(shard)?)));
        found.collect()
    }

    /// Handles a durable end of `shard`, or an accepted loss: its children may be read.
    pub fn ended(&mut self, shard: &str) -> Vec<Step> {
        if let Some(known) = self.known.get_mut(shard) {
            known.progress = Progress::Ended;
        }
        let found = self.startable();
        self.find(found).into_iter().collect()
    }

    /// Returns a shard that was read to its end and that the last list shows open, if there is one.
    /// Unless the list is older than the end, the shard is one of another stream, which was created
    /// under the name of a deleted one and has shards of the same ids.
    pub fn reopened(&self) -> Option<&Arc<str>> {
        let mut ended = self
            .known
            .iter()
            .filter(|(_, known)| known.progress == Progress::Ended);
        let is_open = |id: &Arc<str>| self.listed.get(id).is_some_and(|shard| !shard.closed);
        ended.find_map(|(id, _)| is_open(id).then_some(id))
    }

    /// Counts the lists without each shard, and returns the steps that follow.
    fn count_missing(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut forgotten = Vec::new();
        for (shard, known) in &mut self.known {
            if self.listed.contains_key(shard) {
                known.lists_without = 0;
                continue;
            }
            known.lists_without += 1;
            if known.lists_without < LISTS_WITHOUT {
                continue;
            }
            match known.progress {
                Progress::Ended => forgotten.push(shard.clone()),
                // The reader of the shard finds its end.
                Progress::Reading | Progress::Lost => {}
                Progress::Unlisted => {
                    known.progress = Progress::Lost;
                    steps.push(Step::Lost(shard.clone()));
                }
            }
        }
        // The children of an ended shard tell an old list that contains it from a new shard, so it
        // is kept until they are known.
        forgotten.retain(|shard| self.are_children_known(shard));
        for shard in forgotten {
            self.known.remove(&shard);
            steps.push(Step::Forget(shard));
        }
        steps
    }

    fn are_children_known(&self, shard: &Arc<str>) -> bool {
        let listed = self.listed.values();
        let mut children = listed.filter(|child| child.parents.contains(shard));
        children.all(|child| self.known.contains_key(&child.id))
    }

    /// Returns the shards to start: those that a former owner read, and new ones whose parents are
    /// over.
    fn startable(&self) -> Applied {
        let skipped = self.skipped();
        let old = self.is_list_old();
        let mut found = Vec::new();
        for shard in self.listed.values() {
            match self.known.get(&shard.id) {
                Some(known) if known.progress == Progress::Unlisted => {
                    found.push((shard.id.clone(), known.position.clone()));
                }
                Some(_) => {}
                None if skipped.contains(&shard.id) || old => {}
                None => {
                    let mut parents = shard.parents.iter();
                    if parents.all(|parent| self.is_over(parent, &skipped)) {
                        found.push((shard.id.clone(), self.start()));
                    }
                }
            }
        }
        found
    }

    /// Returns whether the list misses a shard that was there before. The list may then predate a
    /// change of the stream, and shards that are new in it may be parents of shards that were read
    /// already.
    fn is_list_old(&self) -> bool {
        let mut known = self.known.values();
        known.any(|known| (1..LISTS_WITHOUT).contains(&known.lists_without))
    }

    /// Start of a shard that was found after the first resolution, or in a stream that is not read
    /// from `latest`.
    fn start(&self) -> ShardPosition {
        match self.startup {
            Startup::Latest | Startup::Earliest => ShardPosition::Beginning,
            // In a younger shard this is its beginning.
            Startup::Date(time_ms) => ShardPosition::Since { time_ms },
        }
    }

    /// Returns whether nothing of `parent` will be read any more.
    fn is_over(&self, parent: &Arc<str>, skipped: &BTreeSet<Arc<str>>) -> bool {
        match self.known.get(parent) {
            Some(known) => known.progress == Progress::Ended,
            None => skipped.contains(parent) || !self.listed.contains_key(parent),
        }
    }

    /// Returns the unread shards with a descendant that was started: they lie before the start, or
    /// were forgotten.
    fn skipped(&self) -> BTreeSet<Arc<str>> {
        let mut skipped = BTreeSet::new();
        let known = self.known.keys().filter_map(|id| self.listed.get(id));
        let mut descendants: Vec<&ListedShard> = known.collect();
        while let Some(shard) = descendants.pop() {
            for parent in &shard.parents {
                if !self.known.contains_key(parent)
                    && let Some(parent) = self.listed.get(parent)
                    && skipped.insert(parent.id.clone())
                {
                    descendants.push(parent);
                }
            }
        }
        skipped
    }

    fn find(&mut self, found: Applied) -> Option<Step> {
        for (shard, position) in &found {
            let known = Known::new(position.clone(), Progress::Reading);
            self.known.insert(shard.clone(), known);
        }
        (!found.is_empty()).then_some(Step::Find(found))
    }
}

impl Known {
    fn new(position: ShardPosition, progress: Progress) -> Self {
        Self {
            position,
            progress,
            lists_without: 0,
        }
    }
}

#[cfg(test)]
mod tests;
