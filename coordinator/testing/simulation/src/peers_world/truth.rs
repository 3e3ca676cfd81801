//! The truth of an application of several partitions: the folds of their durable deltas, and what
//! must hold of all of them together at every moment.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use satchel_engine::durable::{Acknowledged, Key, Value};
use satchel_engine::output::Delta;
use satchel_engine::position::ShardPosition;

use super::functions::{STATE, money_of, number};
use crate::functions::text_of;
use crate::truth::Facts;

/// The truth of one partition.
#[derive(Default)]
pub(super) struct PartitionTruth {
    pub(super) facts: Facts,
    /// Last epoch that took over.
    epoch: u64,
    /// Deltas that this epoch has handed to its log, in order.
    sealed: Vec<Rc<Delta>>,
    /// Number of them that are durable.
    applied: usize,
    /// All durable deltas, in order.
    pub(super) history: Vec<Rc<Delta>>,
}

impl PartitionTruth {
    /// An owner took over with these durable facts, which must be a fold of what its predecessor
    /// handed to the log.
    ///
    /// # Errors
    /// Describes what was recovered instead.
    pub(super) fn took_over(&mut self, epoch: u64, recovered: &Facts) -> Result<(), String> {
        if epoch < self.epoch {
            // The takeover of a later owner returned earlier.
            return Ok(());
        }
        while self.facts.hash() != recovered.hash() && self.apply_next() {}
        if self.facts.hash() != recovered.hash() {
            let difference = self.facts.difference(recovered);
            return Err(format!(
                "epoch {epoch} recovered another state than the fold of what is durable: \
                 {difference}"
            ));
        }
        self.epoch = epoch;
        self.sealed.clear();
        self.applied = 0;
        Ok(())
    }

    pub(super) fn sealed(&mut self, epoch: u64, delta: Rc<Delta>) {
        if epoch == self.epoch {
            self.sealed.push(delta);
        }
    }

    /// The log reported that a delta, and all before it, are durable.
    pub(super) fn durable(&mut self, epoch: u64, sequence: u64) {
        if epoch == self.epoch {
            while (self.applied as u64) < sequence && self.apply_next() {}
        }
    }

    fn apply_next(&mut self) -> bool {
        let Some(delta) = self.sealed.get(self.applied).cloned() else {
            return false;
        };
        for change in &delta.changes {
            self.facts.apply(change);
        }
        self.history.push(delta);
        self.applied += 1;
        true
    }
}

/// Durable numbers of the links of a partition, and its money.
#[derive(Default)]
struct Ledger {
    /// Balances, messages in mailboxes and timers.
    money: i64,
    assigned: BTreeMap<u32, u64>,
    acknowledged: BTreeMap<u32, u64>,
    taken: BTreeMap<u32, u64>,
    /// Messages to others: partition and number, with their money.
    out: BTreeMap<(u32, u64), i64>,
    /// Messages to others about shards: partition and number, with the shard.
    told: BTreeMap<(u32, u64), String>,
    /// Shards that are read here, or were read to their end.
    read: BTreeSet<String>,
    /// Shards whose stream is planned here, and that another partition reads.
    elsewhere: BTreeSet<String>,
}

impl Ledger {
    fn of(facts: &Facts) -> Self {
        let mut ledger = Self::default();
        for (key, value) in facts.iter() {
            match (key, value) {
                (Key::State { address, name }, Value::State(state))
                    if &**name == STATE && address.function.name() == "account" =>
                {
                    ledger.money += number(&String::from_utf8_lossy(&state.value));
                }
                (Key::Message { address, .. }, Value::Message(message)) => {
                    ledger.money += money_of(address, &message.argument);
                }
                (Key::Timer { .. }, Value::Timer(timer)) => {
                    ledger.money += money_of(&timer.target, &timer.message.argument);
                }
                (Key::Out { peer, number }, Value::Out(sent)) => {
                    let money = money_of(&sent.target, &sent.message.argument);
                    ledger.out.insert((*peer, *number), money);
                    if sent.target.function.name() == "shards" {
                        let shard = sent.target.id.to_string();
                        ledger.told.insert((*peer, *number), shard);
                    }
                }
                (Key::Shard(shard), Value::Shard(ShardPosition::Elsewhere)) => {
                    ledger.elsewhere.insert(shard.to_string());
                }
                (Key::Shard(shard), _) => {
                    ledger.read.insert(shard.to_string());
                }
                (Key::Assigned { peer }, Value::LinkNumber(number)) => {
                    ledger.assigned.insert(*peer, *number);
                }
                (Key::Acknowledged { peer }, Value::Acknowledged(Acknowledged { upto, .. })) => {
                    ledger.acknowledged.insert(*peer, *upto);
                }
                (Key::Taken { peer }, Value::LinkNumber(number)) => {
                    ledger.taken.insert(*peer, *number);
                }
                _ => {}
            }
        }
        ledger
    }
}

/// Checks one moment: the numbers of each pair, and the sum of all money, which is zero.
fn check(ledgers: &[Ledger]) -> Result<(), String> {
    let of = |numbers: &BTreeMap<u32, u64>, peer: usize| {
        numbers.get(&(peer as u32)).copied().unwrap_or(0)
    };
    let mut money: i64 = ledgers.iter().map(|ledger| ledger.money).sum();
    for (from, sender) in ledgers.iter().enumerate() {
        for (to, receiver) in ledgers.iter().enumerate() {
            let acknowledged = of(&sender.acknowledged, to);
            let taken = of(&receiver.taken, from);
            let assigned = of(&sender.assigned, to);
            if !(acknowledged <= taken && taken <= assigned) {
                return Err(format!(
                    "partition {from} has sent {assigned} messages to {to}, {acknowledged} are \
                     acknowledged, {taken} are taken"
                ));
            }
            let kept = sender.out.range((to as u32, 0)..(to as u32 + 1, 0));
            let numbers = kept.clone().map(|((_, number), _)| *number);
            if !numbers.eq(acknowledged + 1..=assigned) {
                return Err(format!(
                    "partition {from} does not keep the messages {} to {assigned} for {to}",
                    acknowledged + 1
                ));
            }
            let under_way = kept.filter(|((_, number), _)| *number > taken);
            money += under_way.map(|(_, money)| money).sum::<i64>();
        }
    }
    if money != 0 {
        return Err(format!("the sum of all accounts is {money}"));
    }
    check_shards(ledgers)
}

/// Checks that each shard which its home has given away is in one place: with its reader, or under
/// way to or from it.
fn check_shards(ledgers: &[Ledger]) -> Result<(), String> {
    let elsewhere = ledgers.iter().flat_map(|ledger| &ledger.elsewhere);
    for shard in elsewhere {
        let readers = ledgers.iter().filter(|ledger| ledger.read.contains(shard));
        let mut places = readers.count();
        for (from, sender) in ledgers.iter().enumerate() {
            let told = sender.told.iter().filter(|((peer, number), told)| {
                let taken = &ledgers[*peer as usize].taken;
                let taken = taken.get(&(from as u32)).copied().unwrap_or(0);
                *told == shard && *number > taken
            });
            places += told.count();
        }
        if places != 1 {
            return Err(format!("the shard {shard} is in {places} places"));
        }
    }
    Ok(())
}

/// Checks every moment of an application: for each time of a delta, the folds of all deltas of all
/// partitions up to it. Returns the number of moments.
///
/// # Errors
/// Describes the first moment that is no consistent cut.
pub(super) fn check_moments(partitions: &[PartitionTruth]) -> Result<u64, String> {
    let mut deltas: Vec<(u64, usize, &Delta)> = Vec::new();
    for (partition, truth) in partitions.iter().enumerate() {
        let times = truth.history.iter().map(|delta| delta.committed_at_ms);
        if !times.is_sorted() {
            return Err(format!("the times of partition {partition} go back"));
        }
        let history = truth.history.iter();
        deltas.extend(history.map(|delta| (delta.committed_at_ms, partition, &**delta)));
    }
    // The sort is stable, so the deltas of one partition keep their order.
    deltas.sort_by_key(|(time_ms, ..)| *time_ms);
    let mut facts: Vec<Facts> = partitions.iter().map(|_| Facts::default()).collect();
    let mut ledgers: Vec<Ledger> = partitions.iter().map(|_| Ledger::default()).collect();
    let mut moments = 0;
    for moment in deltas.chunk_by(|one, other| one.0 == other.0) {
        for (_, partition, delta) in moment {
            for change in &delta.changes {
                facts[*partition].apply(change);
            }
        }
        for (_, partition, _) in moment {
            ledgers[*partition] = Ledger::of(&facts[*partition]);
        }
        let time_ms = moment[0].0;
        check(&ledgers).map_err(|problem| format!("at {time_ms}: {problem}"))?;
        moments += 1;
    }
    Ok(moments)
}

/// Returns the text state of each instance of a function, over all partitions.
pub(super) fn states(partitions: &[PartitionTruth], function: &str) -> Vec<(String, String)> {
    let facts = partitions.iter().flat_map(|truth| truth.facts.iter());
    let states = facts.filter_map(|(key, value)| match (key, value) {
        (Key::State { address, .. }, Value::State(state))
            if address.function.name() == function =>
        {
            let value = String::from_utf8_lossy(&state.value).into_owned();
            Some((address.id.to_string(), value))
        }
        _ => None,
    });
    states.collect()
}

/// Returns whether messages or timers are left in a partition, in memory or not.
pub(super) fn is_pending(truth: &PartitionTruth) -> bool {
    let mut keys = truth.facts.iter().map(|(key, _)| key);
    keys.any(|key| {
        matches!(
            key,
            Key::Message { .. } | Key::Timer { .. } | Key::Out { .. }
        )
    })
}

/// Describes the messages that are left in a partition, for a world that does not settle.
pub(super) fn left(truth: &PartitionTruth) -> String {
    let messages = truth.facts.iter().filter_map(|(key, value)| match value {
        Value::Message(message) => Some(format!("{key:?} {}", text_of(&message.argument))),
        Value::Out(sent) => Some(format!("{key:?} {}", text_of(&sent.message.argument))),
        _ => None,
    });
    let messages: Vec<String> = messages.take(5).collect();
    format!("{messages:?}")
}
