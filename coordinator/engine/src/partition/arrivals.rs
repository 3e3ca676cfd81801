//! Incoming messages: records of shards, messages of queues, and messages between functions.

use std::sync::Arc;

use satchel_protocol::reqreply::TypedValue;

use super::Partition;
use super::effects::Parent;
use crate::address::{Address, RESERVED_NAMESPACE};
use crate::durable::{DeadLetter, Key, Value};
use crate::input::Record;
use crate::message::{Headers, IdSource, Message, MessageId, Unroutable};
use crate::position::{ShardId, ShardPosition};
use crate::story::Step;
use crate::trace::TraceParent;

/// Origin of an incoming record or queue message, from which the ids of its messages derive.
pub(super) struct Origin<'a> {
    /// Id of the ingress.
    pub(super) ingress: &'a Arc<str>,
    /// The shard or queue.
    pub(super) source: &'a str,
    /// Sequence number or id within the source.
    pub(super) sequence: &'a str,
    /// Index among the records that share a sequence number.
    pub(super) sub_sequence: u64,
    /// Describes the origin for operators.
    pub(super) described: &'a dyn Fn() -> String,
    /// Trace context of the record or message.
    pub(super) trace: Option<TraceParent>,
    /// Headers of the record.
    pub(super) headers: Headers,
}

impl Partition {
    pub(super) fn records_read(&mut self, shard: &ShardId, records: Vec<Record>) {
        let Some(mut applied) = self.tables.shards.get(shard).cloned() else {
            // This shard was not requested, so there is no position that tells new records from old
            // ones.
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
            let Record {
                key,
                routed,
                trace,
                headers,
                ..
            } = record;
            let origin = Origin {
                ingress: &shard.ingress,
                source: &name,
                sequence: record.sequence.as_str(),
                sub_sequence: record.sub_sequence,
                described: &|| format!("{name} {} (key {key:?})", record.sequence),
                trace: trace.or_else(|| trace_of(&routed)),
                headers,
            };
            self.ingest(&origin, routed);
        }
        if applied != before {
            Self::assert_forward(shard, &before, &applied);
            self.tables.shards.insert(shard.clone(), applied);
            self.mark_changed(Key::Shard(shard.clone()));
        }
    }

    /// Turns an incoming record or queue message into messages, or into a dead letter.
    pub(super) fn ingest(
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
        match routed.and_then(check_ids) {
            Ok(messages) => {
                self.graph.arrived(origin.ingress, &messages);
                for (target, (address, argument)) in (0..).zip(messages) {
                    let id = id(target, &argument);
                    let trace = self.begin_trace(id, origin.trace);
                    self.tell_read(origin, (id, trace));
                    let message = Message {
                        id,
                        caller: None,
                        argument,
                        correction: None,
                        trace,
                        headers: origin.headers.clone(),
                    };
                    self.deliver_from(Some(origin.source), &address, message);
                }
            }
            Err(Unroutable { value, reason }) => {
                let id = id(0, &value);
                let trace = self.begin_trace(id, origin.trace);
                self.tell_read(origin, (id, trace));
                let letter = DeadLetter {
                    id,
                    source: (origin.described)(),
                    caller: None,
                    argument: value,
                    attempts: 0,
                    reason,
                    failed_at_ms: self.now_ms,
                    egress: None,
                    key_group: None,
                    trace,
                };
                self.add_dead_letter(None, letter);
            }
        }
    }

    fn tell_read(&mut self, origin: &Origin<'_>, (id, trace): Parent) {
        self.tell(id, trace, || Step::Read {
            source: origin.source.into(),
            sequence: origin.sequence.into(),
        });
    }

    /// Delivers a message to a mailbox, to a caller outside or to another partition. If no endpoint
    /// serves the address, the message becomes a dead letter.
    pub(super) fn deliver(&mut self, address: &Address, message: Message) {
        self.deliver_from(None, address, message);
    }

    /// Like [`Self::deliver`]; `origin` names the stream or queue of a message without a sender.
    fn deliver_from(&mut self, origin: Option<&str>, address: &Address, message: Message) {
        match self.owner_elsewhere(address) {
            Some(peer) => self.send_to_peer(peer, origin, address, message),
            None => self.deliver_here(address, message),
        }
    }

    /// Delivers a message to an address of this partition.
    pub(super) fn deliver_here(&mut self, address: &Address, message: Message) {
        if address.function.namespace() == RESERVED_NAMESPACE {
            self.tell_fact((message.id, message.trace), true, || Step::Replied {
                caller: address.clone(),
            });
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

    /// Appends a message to a mailbox.
    pub(super) fn enqueue(&mut self, address: &Address, message: Message) {
        self.tell_queued(address, &message);
        let number = self.tables.take_number();
        self.pending_bytes += message.pending_bytes(address);
        let key = Key::Message {
            address: address.clone(),
            number,
        };
        if let Some(bucket) = self.tables.absent_bucket_of(address) {
            // The message belongs to the delta of its cause, so it cannot wait until the bucket is
            // loaded.
            self.tables.put_absent(key.clone(), Value::Message(message));
            self.mark_changed(key);
            self.request_load(bucket);
            return;
        }
        let active = self.tables.active_or_new(address);
        Self::assert_at_the_tail(address, active, number);
        active.insert_message(number, message);
        self.mark_changed(key);
        self.make_ready(address);
    }
}

/// Rejects a record with a target whose id is too long. An id may come from the key of a record.
fn check_ids(
    mut messages: Vec<(Address, TypedValue)>,
) -> Result<Vec<(Address, TypedValue)>, Unroutable> {
    let problem = messages.iter().find_map(|(address, _)| {
        let problem = address.check_id().err()?;
        Some(problem.to_string())
    });
    let Some(reason) = problem else {
        return Ok(messages);
    };
    // Every target of a record receives the same value.
    let value = messages.pop().map(|(_, value)| value).unwrap_or_default();
    Err(Unroutable { value, reason })
}

/// Returns the trace context of a record. Neither Kinesis nor a local stream has a place for it
/// besides the data, and only Satchel's envelope has one there.
fn trace_of(routed: &Result<Vec<(Address, TypedValue)>, Unroutable>) -> Option<TraceParent> {
    let value = match routed {
        Ok(messages) => &messages.first()?.1,
        Err(unroutable) => &unroutable.value,
    };
    TraceParent::of_envelope(&value.value)
}
