//! A stream that is split and merged while owners change. One partition plans it, and each shard is
//! read by the partition of its keys (rule 24). The records of a key must arrive in order over all
//! of that.

use std::collections::BTreeMap;
use std::sync::Arc;

use satchel_engine::input::{FoundShard, Input, Record};
use satchel_engine::position::{ShardId, ShardPosition};
use satchel_engine::source::shards::{Applied, ListedShard, ShardPlan, Startup, Step};
use satchel_log_simulation::Random;

use super::functions::{IDS, address};
use super::owners::Owner;
use super::{Event, KEY_GROUPS, PeersWorld};
use crate::functions::text;
use crate::mutants::Mutant;
use crate::process::ProcessId;

pub(super) const STREAM: &str = "moving";
const INGRESS: &str = "bank/moving";

/// Part of a violation that names the records of this stream.
pub(super) const RECORDS_OF: &str = " of moving/";

/// Maximum number of shards that ever exist.
const SHARDS_MAX: usize = 24;

/// The stream.
pub(super) struct Stream {
    shards: Vec<Shard>,
    /// Records still to be appended.
    left: u64,
    /// Records of each key so far.
    appended: BTreeMap<u64, u64>,
    /// List before the last change.
    former: Vec<ListedShard>,
}

struct Shard {
    parents: Vec<usize>,
    range: (u128, u128),
    /// Key and content of each record. Its sequence number is its place, from 1.
    records: Vec<(u64, String)>,
    closed: bool,
}

/// Knowledge of an owner about the stream.
#[derive(Default)]
pub(super) struct Reading {
    /// The plan, at the home of the stream.
    plan: Option<ShardPlan>,
    /// Number of records read of each shard.
    read: BTreeMap<Arc<str>, usize>,
    /// True if the last list was stale, so that the next one is not.
    stale: bool,
}

fn shard_id(shard: &Arc<str>) -> ShardId {
    ShardId {
        ingress: INGRESS.into(),
        stream: STREAM.into(),
        shard: shard.clone(),
    }
}

/// The fact that an owner is about to read the stream.
pub(super) fn found() -> Input {
    Input::StreamFound {
        ingress: INGRESS.into(),
        stream: STREAM.into(),
    }
}

fn name_of(shard: usize) -> Arc<str> {
    format!("shard-{shard:02}").into()
}

fn index_of(shard: &str) -> usize {
    let digits = shard.trim_start_matches("shard-");
    digits.parse().expect("shards are named by their number")
}

impl Stream {
    pub(super) fn draw(random: &Random) -> Self {
        let count = 1 + random.below(4);
        let width = u128::MAX / u128::from(count);
        let shards = (0..count).map(|shard| {
            let first = width * u128::from(shard);
            let last = match shard + 1 == count {
                true => u128::MAX,
                false => first + width - 1,
            };
            Shard::new(Vec::new(), (first, last))
        });
        Self {
            shards: shards.collect(),
            left: random.below(120),
            appended: BTreeMap::new(),
            former: Vec::new(),
        }
    }

    pub(super) fn is_appended(&self) -> bool {
        self.left == 0
    }

    fn open(&self) -> Vec<usize> {
        let open = self.shards.iter().enumerate();
        let open = open.filter(|(_, shard)| !shard.closed);
        let mut open: Vec<usize> = open.map(|(index, _)| index).collect();
        open.sort_by_key(|index| self.shards[*index].range);
        open
    }

    /// Splits a shard, or merges two neighbours.
    fn reshard(&mut self, random: &Random) -> Option<String> {
        let open = self.open();
        if self.shards.len() + 2 > SHARDS_MAX {
            return None;
        }
        let at = random.below(open.len() as u64) as usize;
        let (first, last) = self.shards[open[at]].range;
        self.former = self.list();
        let next = self.shards.len();
        if open.len() < 5 && random.chance(600) {
            self.shards[open[at]].closed = true;
            let middle = first + (last - first) / 2;
            for range in [(first, middle), (middle + 1, last)] {
                self.shards.push(Shard::new(vec![open[at]], range));
            }
            return Some(format!(
                "shard {} is split into {next} and {}",
                open[at],
                next + 1
            ));
        }
        let other = *open.get(at + 1)?;
        let (_, last) = self.shards[other].range;
        self.shards[open[at]].closed = true;
        self.shards[other].closed = true;
        let parents = vec![open[at], other];
        self.shards.push(Shard::new(parents, (first, last)));
        Some(format!(
            "shards {} and {other} are merged into {next}",
            open[at]
        ))
    }

    fn list(&self) -> Vec<ListedShard> {
        let shards = self.shards.iter().enumerate();
        let listed = shards.map(|(index, shard)| ListedShard {
            id: name_of(index),
            parents: shard
                .parents
                .iter()
                .map(|parent| name_of(*parent))
                .collect(),
            closed: shard.closed,
            hash_range: Some(shard.range),
        });
        listed.collect()
    }
}

impl Shard {
    fn new(parents: Vec<usize>, range: (u128, u128)) -> Self {
        Self {
            parents,
            range,
            records: Vec::new(),
            closed: false,
        }
    }

    fn record(&self, index: usize) -> Record {
        let (key, content) = &self.records[index];
        Record {
            sequence: (index as u64 + 1).into(),
            sub_sequence: 0,
            trace: None,
            headers: None,
            key: key.to_string().into(),
            routed: Ok(vec![(
                address("ordered", key.to_string()),
                text(content.clone()),
            )]),
        }
    }
}

impl PeersWorld {
    /// Returns the partition that plans the stream.
    fn home(&self) -> u32 {
        self.plan.config.home_of_stream(STREAM)
    }

    /// Appends records to the shards of their keys.
    pub(super) fn appends(&mut self) {
        let count = (1 + self.random.below(6)).min(self.stream.left);
        for _ in 0..count {
            let key = self.random.below(IDS);
            // Some place within the key group of the id. Kinesis takes the MD5 itself.
            let group = self.plan.config.placement.key_group_of_id(&key.to_string());
            let width = u128::MAX / u128::from(KEY_GROUPS) + 1;
            let hash_key = u128::from(group.0) * width + u128::from(key);
            let number = self.stream.appended.entry(key).or_default();
            *number += 1;
            let content = format!("moving/{key} {number}");
            let mut shards = self.stream.shards.iter_mut();
            let shard = shards
                .find(|shard| !shard.closed && (shard.range.0..=shard.range.1).contains(&hash_key));
            let shard = shard.expect("open shards cover all hash keys");
            shard.records.push((key, content));
            self.clients.expect_one(key, format!("moving/{key}"));
        }
        self.stream.left -= count;
        if self.stream.left > 0 {
            let delay_ms = 1 + self.random.below(600);
            self.timeline.after(delay_ms, Event::Appends);
        }
    }

    pub(super) fn reshards(&mut self) {
        if self.faults_ended {
            return;
        }
        let delay_ms = 300 + self.random.below(4_000);
        self.timeline.after(delay_ms, Event::Reshards);
        if let Some(what) = self.stream.reshard(&self.random) {
            self.report.reshardings += 1;
            self.record(|| what);
        }
    }

    /// Handles the durable positions of an owner's shards.
    pub(super) fn planned(&mut self, id: ProcessId, applied: Applied) {
        let home = self.home();
        let Some(owner) = self.owners.get_mut(&id) else {
            return;
        };
        if owner.partition != home {
            for (shard, after) in applied {
                self.starts_shard(id, &shard, &after);
            }
            return;
        }
        let elsewhere = applied
            .iter()
            .filter(|(_, position)| *position == ShardPosition::Elsewhere);
        let elsewhere = elsewhere.map(|(shard, position)| FoundShard {
            shard: shard_id(shard),
            start: position.clone(),
            hash_range: None,
        });
        let found = Input::ShardsFound(elsewhere.collect());
        owner.moving.plan = Some(ShardPlan::new(Startup::Earliest, applied));
        if let Some(serving) = owner.serving() {
            serving.facts.push(found);
        }
        self.timeline.after(1, Event::Lists(id));
    }

    /// Handles the command to read a shard, or the notice that its end is durable.
    pub(super) fn starts_shard(&mut self, id: ProcessId, shard: &Arc<str>, after: &ShardPosition) {
        let Some(owner) = self.owners.get_mut(&id) else {
            return;
        };
        if *after == ShardPosition::End {
            owner.moving.read.remove(shard);
            return self.shard_is_over(id, shard);
        }
        let read = match after {
            ShardPosition::After { sequence, .. } => sequence.as_str().parse().unwrap_or(0),
            _ => 0,
        };
        if owner.moving.read.insert(shard.clone(), read).is_none() {
            self.timeline.after(1, Event::ReadsShard(id, shard.clone()));
        }
    }

    /// The children of a shard may be read, as far as its home knows.
    fn shard_is_over(&mut self, id: ProcessId, shard: &str) {
        let Some(plan) = self
            .owners
            .get_mut(&id)
            .and_then(|owner| owner.moving.plan.as_mut())
        else {
            return;
        };
        let steps = plan.ended(shard);
        self.perform_steps(id, steps);
    }

    /// Lists the shards, at intervals.
    pub(super) fn lists(&mut self, id: ProcessId) {
        let now_ms = self.timeline.now_ms();
        let unreliable = !self.faults_ended;
        let lost = unreliable && self.random.chance(self.plan.failed);
        let stale = unreliable && self.random.chance(self.plan.failed);
        let delay_ms = 200 + self.random.below(1_000);
        let Some(owner) = self.owners.get_mut(&id) else {
            return;
        };
        self.timeline.after(delay_ms, Event::Lists(id));
        let was_stale = std::mem::replace(&mut owner.moving.stale, stale);
        if lost {
            return;
        }
        let list = match stale && !was_stale && !self.stream.former.is_empty() {
            true => self.stream.former.clone(),
            false => self.stream.list(),
        };
        let Some(plan) = &mut owner.moving.plan else {
            return;
        };
        let steps = plan.listed(&list, now_ms);
        self.perform_steps(id, steps);
        self.advance(id);
    }

    fn perform_steps(&mut self, id: ProcessId, steps: Vec<Step>) {
        for step in steps {
            let Step::Find(found) = step else {
                // The stream forgets no shard.
                let violation = format!("the plan of the stream says {step:?}");
                self.violations.push(violation);
                continue;
            };
            let found = found.into_iter().map(|(shard, start)| FoundShard {
                hash_range: Some(self.stream.shards[index_of(&shard)].range),
                shard: shard_id(&shard),
                start,
            });
            let found = Input::ShardsFound(found.collect());
            if let Some(serving) = self.owners.get_mut(&id).and_then(Owner::serving) {
                serving.facts.push(found);
            }
        }
    }

    /// Reads the next records of a shard. Some reads repeat earlier ones.
    pub(super) fn reads_shard(&mut self, id: ProcessId, shard: Arc<str>) {
        let count = 1 + self.random.below(8) as usize;
        let repeated = self.random.chance(self.plan.doubled);
        let back = self.random.below(4) as usize;
        let Some(owner) = self.owners.get_mut(&id) else {
            return;
        };
        let paused = owner.paused;
        let partition = owner.partition;
        let Some(read) = owner.moving.read.get_mut(&shard) else {
            return;
        };
        let delay_ms = 1 + self.random.below(250);
        if paused {
            self.timeline.after(delay_ms, Event::ReadsShard(id, shard));
            return;
        }
        let found = &self.stream.shards[index_of(&shard)];
        let last = (*read + count).min(found.records.len());
        let first = if repeated {
            read.saturating_sub(back)
        } else {
            *read
        };
        *read = last;
        let records: Vec<Record> = (first..last).map(|index| found.record(index)).collect();
        let ended = found.closed && last == found.records.len();
        if !records.is_empty() {
            let shard = shard_id(&shard);
            self.notify(id, Input::RecordsRead { shard, records });
        }
        if !ended {
            self.timeline.after(delay_ms, Event::ReadsShard(id, shard));
            return;
        }
        let shard_id = shard_id(&shard);
        self.notify(id, Input::ShardEnded { shard: shard_id });
        if self.mutant == Some(Mutant::ChildrenBeforeForwarded)
            && let Some(home) = self.newest_owner(self.home())
            && self.home() != partition
        {
            self.shard_is_over(home, &shard);
            self.advance(home);
        }
    }
}
