//! Messages that come in: records of shards, calls, and what functions send each other.

use std::sync::Arc;

use satchel_protocol::reqreply::TypedValue;

use super::Partition;
use super::commits::Release;
use crate::address::{Address, RESERVED_NAMESPACE};
use crate::durable::{DeadLetter, Key, Value};
use crate::input::{Record, Unroutable};
use crate::message::{IdSource, Message, MessageId};
use crate::position::{ShardId, ShardPosition};

/// Where something outside stands that becomes messages: their ids derive from it.
pub(super) struct Origin<'a> {
    /// The shard or queue.
    pub(super) source: &'a str,
    /// Its place or id there.
    pub(super) sequence: &'a str,
    /// Its place among those that share a sequence number.
    pub(super) sub_sequence: u64,
    /// All of this for people.
    pub(super) described: &'a dyn Fn() -> String,
}

impl Partition {
    /// Reading starts where the shard was applied to, or, for a new one, where its ingress resolved the start, once that is durable.
    pub(super) fn shard_found(&mut self, shard: ShardId, start: ShardPosition) {
        if !self.tables.shards.contains_key(&shard) {
            self.tables.shards.insert(shard.clone(), start);
            self.mark(Key::Shard(shard.clone()));
        }
        self.read_when_durable(Release::Read(shard));
    }

    /// What is known of a stream's shards is told when it is durable, so that nobody plans with what a crash takes back.
    pub(super) fn stream_found(&mut self, ingress: Arc<str>, stream: Arc<str>) {
        self.read_when_durable(Release::Plan { ingress, stream });
    }

    /// The end of a shard is known by itself, and not from its last record: an empty shard ends too.
    pub(super) fn shard_ended(&mut self, shard: ShardId) {
        let Some(position) = self.tables.shards.get_mut(&shard) else {
            return;
        };
        if *position != ShardPosition::End {
            *position = ShardPosition::End;
            self.mark(Key::Shard(shard.clone()));
        }
        self.release_when_durable(Release::Read(shard));
    }

    pub(super) fn shard_quiet(&mut self, shard: &ShardId, until_ms: u64) {
        let Some(position) = self.tables.shards.get_mut(shard) else {
            return;
        };
        let quiet = position.quiet_until(until_ms);
        if *position != quiet {
            *position = quiet;
            self.mark(Key::Shard(shard.clone()));
        }
    }

    /// Only an end may be forgotten: anything else is still needed to read on.
    pub(super) fn shard_forgotten(&mut self, shard: &ShardId) {
        if self.tables.shards.get(shard) == Some(&ShardPosition::End) {
            self.tables.shards.remove(shard);
            self.mark(Key::Shard(shard.clone()));
        }
    }

    pub(super) fn records_read(&mut self, shard: &ShardId, records: Vec<Record>) {
        let Some(mut applied) = self.tables.shards.get(shard).cloned() else {
            // No reading was asked for, so there is no position from which to tell new records from old ones.
            self.counts.repeated_records += records.len() as u64;
            return;
        };
        let name = shard.to_string();
        let before = applied.clone();
        for record in records {
            if applied.covers(&record.sequence, record.sub_sequence) {
                self.counts.repeated_records += 1;
                continue;
            }
            applied = ShardPosition::After {
                sequence: record.sequence.clone(),
                sub_sequence: record.sub_sequence,
            };
            let Record { key, routed, .. } = record;
            let origin = Origin {
                source: &name,
                sequence: record.sequence.as_str(),
                sub_sequence: record.sub_sequence,
                described: &|| format!("{name} {} (key {key:?})", record.sequence),
            };
            self.arrived(&origin, routed);
        }
        if applied != before {
            Self::assert_forward(shard, &before, &applied);
            self.tables.shards.insert(shard.clone(), applied);
            self.mark(Key::Shard(shard.clone()));
        }
    }

    /// What came from outside becomes messages, or a dead letter.
    pub(super) fn arrived(
        &mut self,
        origin: &Origin<'_>,
        routed: Result<Vec<(Address, TypedValue)>, Unroutable>,
    ) {
        let id = |target, argument: &TypedValue| {
            let source = IdSource::Record {
                shard: origin.source,
                sequence: origin.sequence,
                sub_sequence: origin.sub_sequence,
                target,
            };
            MessageId::derive(source, argument)
        };
        match routed {
            Ok(messages) => {
                for (target, (address, argument)) in (0..).zip(messages) {
                    let message = Message {
                        id: id(target, &argument),
                        caller: None,
                        argument,
                        correction: None,
                    };
                    self.deliver(&address, message);
                }
            }
            Err(Unroutable { value, reason }) => {
                let letter = DeadLetter {
                    id: id(0, &value),
                    source: (origin.described)(),
                    caller: None,
                    argument: value,
                    attempts: 0,
                    reason,
                    failed_at_ms: self.now_ms,
                    egress: None,
                };
                self.keep_letter(None, letter);
            }
        }
    }

    /// Brings a message to its address: a mailbox, a caller outside, or, if nothing serves the address, the dead letters.
    pub(super) fn deliver(&mut self, address: &Address, message: Message) {
        if address.function.namespace() == RESERVED_NAMESPACE {
            self.reply_arrived(address, message.argument);
            return;
        }
        if self.config.endpoints.serving(&address.function).is_none() {
            let reason = format!("no endpoint serves the function {}", address.function);
            self.give_up(address, message, 0, reason);
            return;
        }
        self.counts.messages += 1;
        self.enqueue(address, message);
    }

    /// Puts a message at the tail of a mailbox.
    pub(super) fn enqueue(&mut self, address: &Address, message: Message) {
        let number = self.tables.take_number();
        self.pending_bytes += message.bytes();
        let key = Key::Message {
            address: address.clone(),
            number,
        };
        if let Some(bucket) = self.tables.absent_bucket_of(address) {
            // It belongs to the delta of its cause, so it can not wait outside until the bucket is there.
            self.tables.put_absent(key.clone(), Value::Message(message));
            self.mark(key);
            self.want_load(bucket);
            return;
        }
        let live = self.tables.live_or_new(address);
        Self::assert_at_the_tail(address, live, number);
        live.insert_message(number, message);
        self.mark(key);
        self.make_ready(address);
    }
}
