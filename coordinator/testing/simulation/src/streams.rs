//! The stream that the application reads.

use std::collections::{BTreeMap, VecDeque};

use satchel_engine::address::Address;
use satchel_engine::input::{Record, Unroutable};
use satchel_engine::position::{ShardId, ShardPosition};
use satchel_engine::source::shards::ListedShard;
use satchel_log_simulation::Random;
use satchel_protocol::reqreply::TypedValue;
use xxhash_rust::xxh3::xxh3_64;

use crate::functions::{STEADY, address, number, text, text_of};

/// Number of user records per sequence number. Some numbers hold several user records, as
/// aggregated records do.
const AGGREGATED: u64 = 3;

/// A stream that is split and merged, with the records that are appended to it later.
#[derive(Debug, Default, Clone)]
pub(crate) struct Streams {
    shards: BTreeMap<String, Shard>,
    producers: Vec<Producer>,
    /// Listing before the last change.
    former: Vec<ListedShard>,
}

#[derive(Debug, Clone)]
struct Shard {
    records: Vec<Appended>,
    parents: Vec<String>,
    /// Range of key hashes, both ends included.
    range: (u8, u8),
    closed_at_ms: Option<u64>,
    /// True if the stream has forgotten the shard.
    forgotten: bool,
}

#[derive(Debug, Clone)]
struct Appended {
    planned: Planned,
    at_ms: u64,
}

/// Producer that appends records, those of each key in a known order.
#[derive(Debug, Clone)]
struct Producer {
    planned: VecDeque<Planned>,
}

#[derive(Debug, Clone)]
struct Planned {
    key: String,
    targets: Vec<(Address, TypedValue)>,
    minted: i64,
}

impl Streams {
    /// Draws records in known orders. Some are appended before `now_ms`.
    pub(crate) fn draw(random: &Random, now_ms: u64) -> Self {
        let mut streams = Self::default();
        let shards = 1 + random.below(2);
        for shard in 0..shards {
            let middle = (255 / shards * shard) as u8;
            let end = (255 / shards * (shard + 1)) as u8;
            let range = match (shard, shard + 1 == shards) {
                (0, true) => (0, 255),
                (0, false) => (0, end),
                (_, true) => (middle + 1, 255),
                (_, false) => (middle + 1, end),
            };
            streams.add(&[], range);
        }
        let mut unique = 0;
        for producer in 0..shards {
            let mut counts: BTreeMap<String, u64> = BTreeMap::new();
            let planned = (0..20 + random.below(60))
                .map(|_| plan(random, producer, &mut counts, &mut unique))
                .collect();
            streams.producers.push(Producer { planned });
            if random.chance(300) {
                let count = random.below(8) as usize;
                streams.append(producer as usize, count, now_ms - random.below(1_000));
            }
        }
        streams
    }

    pub(crate) fn producers(&self) -> usize {
        self.producers.len()
    }

    /// Returns the ids of all shards that ever existed.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.shards.keys()
    }

    /// Appends the next records of a producer to the shards of their keys.
    pub(crate) fn append(&mut self, producer: usize, count: usize, now_ms: u64) {
        for _ in 0..count {
            let Some(planned) = self.producers[producer].planned.pop_front() else {
                return;
            };
            let hash = xxh3_64(planned.key.as_bytes()) as u8;
            let shard = self.shards.values_mut().find(|shard| {
                shard.closed_at_ms.is_none() && (shard.range.0..=shard.range.1).contains(&hash)
            });
            let shard = shard.expect("open shards cover all hashes");
            let at_ms = now_ms.max(shard.records.last().map_or(0, |last| last.at_ms));
            shard.records.push(Appended { planned, at_ms });
        }
    }

    pub(crate) fn all_appended(&self) -> bool {
        let mut producers = self.producers.iter();
        producers.all(|producer| producer.planned.is_empty())
    }

    /// Splits a shard, or merges two neighbours.
    pub(crate) fn reshard(&mut self, random: &Random, now_ms: u64) -> Option<String> {
        let open = self.shards.iter();
        let open = open.filter(|(_, shard)| shard.closed_at_ms.is_none());
        let mut open: Vec<(String, (u8, u8))> = open
            .map(|(name, shard)| (name.clone(), shard.range))
            .collect();
        open.sort_by_key(|(_, range)| *range);
        let at = random.below(open.len() as u64) as usize;
        let (name, (from, to)) = open[at].clone();
        self.former = self.list();
        if open.len() < 4 && to - from > 2 && random.chance(600) {
            let middle = from + (to - from) / 2;
            self.close(&name, now_ms);
            let parents = [name.clone()];
            let children = [
                self.add(&parents, (from, middle)),
                self.add(&parents, (middle + 1, to)),
            ];
            return Some(format!("{name} is split into {children:?}"));
        }
        let (other, (_, last)) = open.get(at + 1)?.clone();
        self.close(&name, now_ms);
        self.close(&other, now_ms);
        let child = self.add(&[name.clone(), other.clone()], (from, last));
        Some(format!("{name} and {other} are merged into {child}"))
    }

    /// Forgets a shard.
    pub(crate) fn forget(&mut self, shard: &str) {
        self.former = self.list();
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.forgotten = true;
        }
    }

    /// Returns the current listing.
    pub(crate) fn list(&self) -> Vec<ListedShard> {
        let shards = self.shards.iter().filter(|(_, shard)| !shard.forgotten);
        let shards = shards.map(|(name, shard)| ListedShard {
            id: name.as_str().into(),
            parents: shard
                .parents
                .iter()
                .map(|parent| parent.as_str().into())
                .collect(),
            closed: shard.closed_at_ms.is_some(),
            hash_range: None,
        });
        shards.collect()
    }

    /// Returns the listing before the last change.
    pub(crate) fn stale_list(&self) -> Vec<ListedShard> {
        match self.former.is_empty() {
            true => self.list(),
            false => self.former.clone(),
        }
    }

    /// Returns the number of records in a shard.
    pub(crate) fn end(&self, shard: &str) -> u64 {
        self.shards
            .get(shard)
            .map_or(0, |shard| shard.records.len() as u64)
    }

    pub(crate) fn is_open(&self, shard: &str) -> bool {
        let shard = self.shards.get(shard);
        shard.is_some_and(|shard| shard.closed_at_ms.is_none())
    }

    /// Restores forgotten shards that are still needed.
    pub(crate) fn remember(&mut self, is_needed: impl Fn(&str) -> bool) {
        for (name, shard) in &mut self.shards {
            shard.forgotten &= !is_needed(name);
        }
        self.former.clear();
    }

    /// Returns true if the stream still has a shard, and none of its ancestors.
    pub(crate) fn may_be_forgotten(&self, shard: &str) -> bool {
        let is_forgotten = |shard: &String| self.shards[shard].forgotten;
        let shard = self.shards.get(shard);
        shard.is_some_and(|shard| !shard.forgotten && shard.parents.iter().all(is_forgotten))
    }

    /// Returns true if the shard was closed at this time.
    pub(crate) fn was_closed(&self, shard: &str, at_ms: u64) -> bool {
        let closed_at_ms = self.shards.get(shard).and_then(|shard| shard.closed_at_ms);
        closed_at_ms.is_some_and(|closed_at_ms| closed_at_ms <= at_ms)
    }

    /// Returns records from `index` on.
    pub(crate) fn read(&self, shard: &str, index: u64, count: usize) -> Vec<Record> {
        let Some(found) = self.shards.get(shard) else {
            return Vec::new();
        };
        let records = (0..).zip(&found.records).skip(index as usize).take(count);
        records
            .map(|(index, Appended { planned, .. })| {
                let (sequence, sub_sequence) = place_of(index);
                Record {
                    sequence: sequence.into(),
                    sub_sequence,
                    trace: None,
                    headers: None,
                    key: planned.key.as_str().into(),
                    routed: if planned.targets.is_empty() {
                        Err(Unroutable {
                            value: text(format!("unroutable {shard} {index}")),
                            reason: "it has no target".to_owned(),
                        })
                    } else {
                        Ok(planned.targets.clone())
                    },
                }
            })
            .collect()
    }

    /// Returns the index of the first record after a position.
    pub(crate) fn index_after(&self, shard: &str, position: &ShardPosition) -> u64 {
        match position {
            ShardPosition::Beginning => 0,
            ShardPosition::Since { time_ms } => {
                let shard = self.shards.get(shard);
                let records = shard.map_or(&[][..], |shard| &shard.records);
                let before = records.iter().take_while(|record| record.at_ms < *time_ms);
                before.count() as u64
            }
            ShardPosition::End | ShardPosition::Elsewhere => self.end(shard),
            ShardPosition::After {
                sequence,
                sub_sequence,
            }
            | ShardPosition::Quiet {
                sequence,
                sub_sequence,
                ..
            } => {
                let sequence = number(sequence.as_str());
                // Numbers that a mutant invents lie beyond those of their sequence number.
                let sub_sequence = (*sub_sequence).min(AGGREGATED - 1);
                (sequence - 1) * AGGREGATED + sub_sequence + 1
            }
        }
    }

    pub(crate) fn minted(&self, shard: &str, from: u64, to: u64) -> i64 {
        let shard = self.shards.get(shard);
        let records = shard.map_or(&[][..], |shard| &shard.records);
        let to = (to as usize).min(records.len());
        let from = (from as usize).min(to);
        let records = records[from..to].iter();
        records.map(|record| record.planned.minted).sum()
    }

    /// Returns target and argument of every message that records from these beginnings on become,
    /// in order, and the number of unroutable records. Shards without a beginning were not read.
    pub(crate) fn expected(
        &self,
        beginnings: &BTreeMap<String, u64>,
    ) -> (Vec<(Address, String)>, u64) {
        let mut expected = Vec::new();
        let mut unroutable = 0;
        for (name, shard) in &self.shards {
            let Some(from) = beginnings.get(name) else {
                continue;
            };
            for Appended { planned, .. } in shard.records.iter().skip(*from as usize) {
                unroutable += u64::from(planned.targets.is_empty());
                let targets = planned.targets.iter();
                expected
                    .extend(targets.map(|(target, argument)| (target.clone(), text_of(argument))));
            }
        }
        (expected, unroutable)
    }

    fn add(&mut self, parents: &[String], range: (u8, u8)) -> String {
        let name = format!("s{:03}", self.shards.len());
        let shard = Shard {
            records: Vec::new(),
            parents: parents.to_vec(),
            range,
            closed_at_ms: None,
            forgotten: false,
        };
        self.shards.insert(name.clone(), shard);
        name
    }

    fn close(&mut self, shard: &str, now_ms: u64) {
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.closed_at_ms = Some(now_ms);
        }
    }
}

/// Ingress that reads the stream.
pub(crate) const INGRESS: &str = "simulated/in";

/// Name of the stream.
pub(crate) const STREAM: &str = "in";

pub(crate) fn shard_id(shard: &str) -> ShardId {
    ShardId {
        ingress: INGRESS.into(),
        stream: STREAM.into(),
        shard: shard.into(),
    }
}

fn place_of(index: u64) -> (u64, u64) {
    (index / AGGREGATED + 1, index % AGGREGATED)
}

fn plan(
    random: &Random,
    shard: u64,
    counts: &mut BTreeMap<String, u64>,
    unique: &mut u64,
) -> Planned {
    *unique += 1;
    let n = *unique;
    let mut planned = Planned {
        key: format!("n{n}"),
        targets: Vec::new(),
        minted: 0,
    };
    let account = |random: &Random| address(STEADY, "account", format!("a{}", random.below(4)));
    let draw = random.below(100);
    if draw < 12 {
        planned.minted = 1 + random.below(100) as i64;
        planned
            .targets
            .push((account(random), text(format!("mint {}", planned.minted))));
    } else if draw < 35 {
        let delay_ms = if random.chance(300) {
            1 + random.below(5000)
        } else {
            0
        };
        let (amount, to) = (1 + random.below(50), random.below(4));
        let transfer = text(format!("transfer {amount} a{to} {delay_ms}"));
        planned.targets.push((account(random), transfer));
    } else if draw < 70 {
        // Ids of different lengths go to different collectors.
        let key = if random.chance(500) {
            format!("k{shard}")
        } else {
            format!("key{shard}-{}", random.below(2))
        };
        let count = counts.entry(key.clone()).or_default();
        *count += 1;
        planned.targets.push((
            address(STEADY, "sequence", key.as_str()),
            text(format!("item {count}")),
        ));
        planned.key = key;
    } else if draw < 80 {
        let delay_ms = 1 + random.below(6000);
        let alarm = address(STEADY, "alarm", format!("{}", n % 2));
        planned
            .targets
            .push((alarm.clone(), text(format!("set {n} {delay_ms}"))));
        if random.chance(400) {
            planned.targets.push((alarm, text(format!("cancel {n}"))));
        }
    } else if draw < 88 {
        let width = 1 + random.below(6);
        planned.targets.push((
            address(STEADY, "scatter", format!("{}", n % 2)),
            text(format!("scatter {n} {width}")),
        ));
    } else if draw < 96 {
        let verb = if random.chance(200) { "bad" } else { "good" };
        let namespace = if random.chance(700) {
            ("frail", "poison")
        } else {
            ("stiff", "stubborn")
        };
        planned.targets.push((
            address(namespace.0, namespace.1, "r"),
            text(format!("{verb} r{n}")),
        ));
    }
    planned
}
