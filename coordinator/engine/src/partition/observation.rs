//! Observation of a partition: figures for people, which change nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Partition;
use crate::address::FunctionType;
use crate::durable::StateSpec;
use crate::position::{ShardId, ShardPosition};
use crate::tables::Activity;

/// Numbers of the messages between a partition and another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkNumbers {
    /// Last message to the other partition.
    pub assigned: u64,
    /// Last message that the other partition has acknowledged.
    pub acknowledged: u64,
    /// Last message taken from the other partition.
    pub taken: u64,
}

/// Figures of one function within one bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FunctionFigures {
    /// Addresses with state, messages or timers.
    pub addresses: usize,
    /// Pending messages, including those in flight.
    pub backlog_messages: usize,
    /// Size of the pending messages, in bytes.
    pub backlog_bytes: usize,
    /// Addresses with a batch in flight.
    pub in_flight: usize,
    /// Addresses that wait before they try again after a failure.
    pub backing_off: usize,
    /// Suspended addresses.
    pub suspended: usize,
    /// Dead letters.
    pub dead_letters: usize,
}

impl FunctionFigures {
    /// Adds the figures of another bucket.
    pub fn add(&mut self, other: &Self) {
        self.addresses += other.addresses;
        self.backlog_messages += other.backlog_messages;
        self.backlog_bytes += other.backlog_bytes;
        self.in_flight += other.in_flight;
        self.backing_off += other.backing_off;
        self.suspended += other.suspended;
        self.dead_letters += other.dead_letters;
    }
}

impl Partition {
    /// Returns the size of the pending messages in bytes, as [`Partition::gauges`] does, which
    /// visits every bucket.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Returns the numbers of the messages to and from another partition; `None` if there were
    /// none.
    pub fn link_numbers(&self, peer: u32) -> Option<LinkNumbers> {
        let link = self.tables.links.get(peer)?;
        Some(LinkNumbers {
            assigned: link.assigned,
            acknowledged: link.acknowledged.upto,
            taken: link.taken,
        })
    }

    /// Returns the figures of each function in one bucket; none for a bucket that is not in memory.
    /// The cost is that of visiting each instance of the bucket.
    pub fn function_figures(&self, bucket: u16) -> BTreeMap<FunctionType, FunctionFigures> {
        let mut functions: BTreeMap<FunctionType, FunctionFigures> = BTreeMap::new();
        if bucket >= self.tables.buckets() {
            return functions;
        }
        for (function, _, instance) in self.tables.bucket_slot(bucket).instances() {
            let figures = match functions.get_mut(function) {
                Some(figures) => figures,
                None => functions.entry(function.clone()).or_default(),
            };
            figures.addresses += 1;
            let Some(active) = &instance.active else {
                continue;
            };
            figures.backlog_messages += active.mailbox.len();
            figures.backlog_bytes += active.mailbox_bytes;
            figures.in_flight += usize::from(matches!(active.activity, Activity::InFlight(_)));
            figures.backing_off += usize::from(active.activity == Activity::BackingOff);
            figures.suspended += usize::from(active.suspension.is_some());
            figures.dead_letters += active.dead_letters().count();
        }
        functions
    }

    /// Returns the states that each function has declared.
    pub fn declared_states(&self) -> BTreeMap<FunctionType, Vec<StateSpec>> {
        let functions = self.tables.functions();
        functions
            .map(|(function, states)| (function.clone(), states.declared()))
            .filter(|(_, declared)| !declared.is_empty())
            .collect()
    }

    /// Returns the applied position of each shard, in order.
    pub fn shard_positions(&self) -> BTreeMap<ShardId, ShardPosition> {
        let shards = self.tables.shards.iter();
        shards
            .map(|(shard, position)| (shard.clone(), position.clone()))
            .collect()
    }

    /// Returns the number of records in the outbox, by egress.
    pub fn outbox_sizes(&self) -> BTreeMap<Arc<str>, usize> {
        let mut sizes = BTreeMap::new();
        for entry in self.tables.outbox.values() {
            match sizes.get_mut(&entry.egress) {
                Some(size) => *size += 1,
                None => {
                    sizes.insert(Arc::clone(&entry.egress), 1);
                }
            }
        }
        sizes
    }
}
