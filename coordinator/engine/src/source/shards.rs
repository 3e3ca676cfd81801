//! Which shards of a stream are read, from where, and when: decided from lists of shards and what is durable, without I/O.
//!
//! ```text
//!  durable positions ─┐                       ┌─► Find   (the partition makes the start durable, then it is read)
//!  ListShards ────────┼─► ShardPlan ──Step────┼─► Forget (an end that left the stream)
//!  durable ends ──────┘                       └─► Lost   (a shard that left the stream before it was read to its end)
//! ```
//!
//! A child is read only when the end of each of its parents is durable, so that the records of one key stay in order over splits and merges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::position::ShardPosition;

/// What is durable of a stream's shards: how far each was applied, by its id.
pub type Applied = Vec<(Arc<str>, ShardPosition)>;

/// A shard as the stream lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedShard {
    /// Its id.
    pub id: Arc<str>,
    /// The shards it was made of: none, one (split) or two (merge). They may have left the stream already.
    pub parents: Vec<Arc<str>>,
    /// Whether nothing more is written to it.
    pub closed: bool,
    /// The hash keys of its records, both ends included, if the stream says.
    pub hash_range: Option<(u128, u128)>,
}

/// Where a stream that was never read is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Startup {
    /// After what is in it now.
    Latest,
    /// At its oldest record.
    Earliest,
    /// At the first record that arrived at or after this moment, in ms since the epoch.
    Date(u64),
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Tell the partition that these were found, together, and read each from where it says. For those that are durable already, the
    /// position is the durable one.
    Find(Vec<(Arc<str>, ShardPosition)>),
    /// Tell the partition to forget this one: its end is durable, and it has left the stream.
    Forget(Arc<str>),
    /// This one has left the stream before it was read to its end. Its children wait until [`ShardPlan::ended`] says that this is accepted.
    Lost(Arc<str>),
}

/// A shard is gone when so many lists in a row are without it: one may have been made while the stream changed.
const LISTS_WITHOUT: u32 = 2;

/// The plan for one stream of one ingress.
#[derive(Debug)]
pub struct ShardPlan {
    startup: Startup,
    known: BTreeMap<Arc<str>, Known>,
    listed: BTreeMap<Arc<str>, ListedShard>,
    /// Whether the starts of a stream that was never read are still to be resolved.
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
    /// A former owner read it; the stream has not listed it to this one yet.
    Unlisted,
    Reading,
    /// Its end is durable.
    Ended,
    /// It was told as lost.
    Lost,
}

impl ShardPlan {
    /// A plan from what is durable.
    pub fn new(startup: Startup, applied: Applied) -> Self {
        let known = applied.into_iter().map(|(shard, position)| {
            let progress = match position {
                ShardPosition::End => Progress::Ended,
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

    /// Whether the next list is the one from which the starts of a stream that was never read are resolved.
    pub fn is_unresolved(&self) -> bool {
        self.unresolved
    }

    /// The stream listed all its shards, and `now_ms` is by its clock, or a little earlier: what had arrived before it is not `latest`.
    pub fn listed(&mut self, shards: &[ListedShard], now_ms: u64) -> Vec<Step> {
        let listed = shards.iter().map(|shard| (shard.id.clone(), shard.clone()));
        self.listed = listed.collect();
        if self.listed.is_empty() {
            return Vec::new();
        }
        let mut steps = self.miss();
        let found = if self.unresolved && self.startup == Startup::Latest {
            self.resolve_latest(now_ms)
        } else {
            self.take_up()
        };
        self.unresolved &= found.is_empty();
        steps.extend(self.find(found));
        steps
    }

    /// Where a stream is begun of which only what comes from now on is wanted: in its open shards. The list may have been made while the stream changed:
    /// a child beside its open parent waits for that one's end, and of a closed shard whose children are not listed nothing is read, but they are.
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

    /// The end of `shard` is durable, or its loss accepted: its children may be read.
    pub fn ended(&mut self, shard: &str) -> Vec<Step> {
        if let Some(known) = self.known.get_mut(shard) {
            known.progress = Progress::Ended;
        }
        let found = self.take_up();
        self.find(found).into_iter().collect()
    }

    /// Counts the lists without a shard, and says what follows.
    fn miss(&mut self) -> Vec<Step> {
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
                // Who reads it finds out where its records end.
                Progress::Reading | Progress::Lost => {}
                Progress::Unlisted => {
                    known.progress = Progress::Lost;
                    steps.push(Step::Lost(shard.clone()));
                }
            }
        }
        // What was begun behind an end is what tells an old list with it from a new shard: it is kept until then.
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

    /// Shards whose turn it is: those that a former owner read, and those that are new and wait for nobody.
    fn take_up(&self) -> Applied {
        let passed = self.passed();
        let old = self.is_list_old();
        let mut found = Vec::new();
        for shard in self.listed.values() {
            match self.known.get(&shard.id) {
                Some(known) if known.progress == Progress::Unlisted => {
                    found.push((shard.id.clone(), known.position.clone()));
                }
                Some(_) => {}
                None if passed.contains(&shard.id) || old => {}
                None => {
                    let mut parents = shard.parents.iter();
                    if parents.all(|parent| self.is_over(parent, &passed)) {
                        found.push((shard.id.clone(), self.start()));
                    }
                }
            }
        }
        found
    }

    /// Whether the list misses something that was there before: then it may have been made before the stream changed, and shards that are new to it
    /// may be parents of what was read already.
    fn is_list_old(&self) -> bool {
        let mut known = self.known.values();
        known.any(|known| (1..LISTS_WITHOUT).contains(&known.lists_without))
    }

    /// Where a shard is begun that was found after the first resolution, or from the beginning of what is wanted.
    fn start(&self) -> ShardPosition {
        match self.startup {
            Startup::Latest | Startup::Earliest => ShardPosition::Beginning,
            // In a shard that is younger this is its beginning.
            Startup::Date(time_ms) => ShardPosition::Since { time_ms },
        }
    }

    /// Whether nothing of `parent` will be read any more.
    fn is_over(&self, parent: &Arc<str>, passed: &BTreeSet<Arc<str>>) -> bool {
        match self.known.get(parent) {
            Some(known) => known.progress == Progress::Ended,
            None => passed.contains(parent) || !self.listed.contains_key(parent),
        }
    }

    /// Shards that nobody reads because one of their descendants was begun: they lie before the start, or were forgotten.
    fn passed(&self) -> BTreeSet<Arc<str>> {
        let mut passed = BTreeSet::new();
        let known = self.known.keys().filter_map(|id| self.listed.get(id));
        let mut descendants: Vec<&ListedShard> = known.collect();
        while let Some(shard) = descendants.pop() {
            for parent in &shard.parents {
                if !self.known.contains_key(parent)
                    && let Some(parent) = self.listed.get(parent)
                    && passed.insert(parent.id.clone())
                {
                    descendants.push(parent);
                }
            }
        }
        passed
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
