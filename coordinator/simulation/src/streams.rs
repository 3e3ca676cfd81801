//! The streams that the application reads, and the one that it writes.

use std::collections::{BTreeMap, BTreeSet};

use satchel_engine::address::Address;
use satchel_engine::input::{Record, Unroutable};
use satchel_engine::message::MessageId;
use satchel_engine::output::Emission;
use satchel_engine::position::{ShardId, ShardPosition};
use satchel_log_simulation::Random;
use satchel_protocol::reqreply::TypedValue;

use crate::functions::{STEADY, address, number, text, text_of};

/// How many sequence numbers there are for each user record: some numbers hold several, as aggregated records do.
const AGGREGATED: u64 = 3;

/// Streams of records, each with what is to be appended later.
#[derive(Debug, Default, Clone)]
pub(crate) struct Streams {
    shards: BTreeMap<String, Shard>,
}

#[derive(Debug, Default, Clone)]
struct Shard {
    records: Vec<Planned>,
    /// How many of them have been appended.
    appended: usize,
}

#[derive(Debug, Clone)]
struct Planned {
    key: String,
    targets: Vec<(Address, TypedValue)>,
    minted: i64,
}

impl Streams {
    /// Shards with records in known orders.
    pub(crate) fn draw(random: &Random) -> Self {
        let mut shards = BTreeMap::new();
        let mut unique = 0;
        for shard in 0..1 + random.below(2) {
            let mut counts: BTreeMap<String, u64> = BTreeMap::new();
            let records = (0..20 + random.below(60))
                .map(|_| plan(random, shard, &mut counts, &mut unique))
                .collect::<Vec<_>>();
            let appended = if random.chance(300) {
                random.below(8) as usize
            } else {
                0
            };
            shards.insert(format!("s{shard}"), Shard { records, appended });
        }
        Self { shards }
    }

    pub(crate) fn ids(&self) -> Vec<ShardId> {
        self.shards.keys().map(|shard| shard_id(shard)).collect()
    }

    pub(crate) fn append(&mut self, shard: &str, count: usize) {
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.appended = (shard.appended + count).min(shard.records.len());
        }
    }

    pub(crate) fn all_appended(&self) -> bool {
        self.shards
            .values()
            .all(|shard| shard.appended == shard.records.len())
    }

    pub(crate) fn end(&self, shard: &str) -> u64 {
        self.shards
            .get(shard)
            .map_or(0, |shard| shard.appended as u64)
    }

    /// Records from `index` on.
    pub(crate) fn read(&self, shard: &str, index: u64, count: usize) -> Vec<Record> {
        let Some(found) = self.shards.get(shard) else {
            return Vec::new();
        };
        (index..found.appended as u64)
            .take(count)
            .map(|index| {
                let planned = &found.records[index as usize];
                let (sequence, sub_sequence) = place_of(index);
                Record {
                    sequence: sequence.into(),
                    sub_sequence,
                    key: planned.key.as_str().into(),
                    routed: if planned.targets.is_empty() {
                        Err(Unroutable {
                            value: text(format!("unroutable {shard} {index}")),
                            reason: "it is for nobody".to_owned(),
                        })
                    } else {
                        Ok(planned.targets.clone())
                    },
                }
            })
            .collect()
    }

    /// The index of the first record behind a position.
    pub(crate) fn index_after(position: &ShardPosition) -> u64 {
        match position {
            ShardPosition::Beginning | ShardPosition::Since { .. } => 0,
            ShardPosition::End => u64::MAX,
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
                // The numbers that a mutant invents lie beyond those of their sequence number.
                let sub_sequence = (*sub_sequence).min(AGGREGATED - 1);
                (sequence - 1) * AGGREGATED + sub_sequence + 1
            }
        }
    }

    /// The position in front of the record `index`.
    pub(crate) fn position_before(index: u64) -> ShardPosition {
        match index.checked_sub(1) {
            None => ShardPosition::Beginning,
            Some(last) => {
                let (sequence, sub_sequence) = place_of(last);
                ShardPosition::After {
                    sequence: sequence.into(),
                    sub_sequence,
                }
            }
        }
    }

    pub(crate) fn minted(&self, shard: &str, from: u64, to: u64) -> i64 {
        let records = self
            .shards
            .get(shard)
            .map_or(&[][..], |shard| &shard.records);
        let to = (to as usize).min(records.len());
        let from = (from as usize).min(to);
        records[from..to].iter().map(|planned| planned.minted).sum()
    }

    /// Everything that records from these beginnings on ask of whom: target and argument, in order; and how many go to nobody.
    pub(crate) fn expected(
        &self,
        beginnings: &BTreeMap<String, u64>,
    ) -> (Vec<(Address, String)>, u64) {
        let mut expected = Vec::new();
        let mut unroutable = 0;
        for (name, shard) in &self.shards {
            let from = beginnings.get(name).copied().unwrap_or(0) as usize;
            for planned in shard.records.iter().skip(from) {
                unroutable += u64::from(planned.targets.is_empty());
                let targets = planned.targets.iter();
                expected
                    .extend(targets.map(|(target, argument)| (target.clone(), text_of(argument))));
            }
        }
        (expected, unroutable)
    }
}

fn shard_id(shard: &str) -> ShardId {
    ShardId {
        ingress: "simulated/in".into(),
        stream: "in".into(),
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
        key: String::new(),
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

/// What arrived at the egress.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    /// The records in the order in which they first arrived.
    pub(crate) records: Vec<(u64, String)>,
    /// The numbers that were refused.
    pub(crate) refused: BTreeSet<u64>,
    seen: BTreeMap<u64, (MessageId, TypedValue)>,
}

impl Sink {
    /// Takes a record in; a number that is known is a repetition, which must be the same.
    pub(crate) fn arrive(&mut self, emission: &Emission) -> Result<(), String> {
        let found = (emission.id, emission.value.clone());
        match self.seen.get(&emission.number) {
            Some(known) if *known == found => Ok(()),
            Some(known) => Err(format!(
                "egress record {} arrived as {known:?} and as {found:?}",
                emission.number
            )),
            None => {
                let last = self.records.last().map(|(number, _)| *number);
                self.seen.insert(emission.number, found);
                self.records
                    .push((emission.number, text_of(&emission.value)));
                match last {
                    Some(last) if last > emission.number => Err(format!(
                        "egress record {} arrived first after record {last}",
                        emission.number
                    )),
                    _ => Ok(()),
                }
            }
        }
    }
}
