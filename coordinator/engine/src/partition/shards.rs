//! Shards of streams: which of them are read, from where, and by which partition.
//!
//! ```text
//!  home of the stream                         partition that reads the shard
//!  ShardsFound ─► start ─► Elsewhere ──handed──► start ─► Read ─► … ─► End
//!                  Read ◄─ End ◄───────────────ended─────────────────┘
//! ```
//!
//! The plan of a stream is in one partition, the home of its name. A shard is read by the partition
//! that owns the middle of its hash range, so that most of its records need not pass between
//! partitions (rule 24). Both learn of it by messages of the link between them, like any other
//! message: exactly once, in order, and in the same delta as the change of the position.
//!
//! A shard is handed over, and its end reported, only when every message of this partition to
//! others is acknowledged. Otherwise a record that another partition reads next could overtake one
//! with the same key that this partition has forwarded.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use satchel_protocol::reqreply::TypedValue;
use satchel_protocol::types::typed_value;

use super::commits::Release;
use super::{Config, Partition};
use crate::address::{Address, FunctionType, RESERVED_NAMESPACE};
use crate::durable::{Key, decode_shard, encode_shard};
use crate::input::FoundShard;
use crate::link::Number;
use crate::message::{Headers, IdSource, Message, MessageId, SHARDS_NAME};
use crate::position::{ShardId, ShardPosition};

/// Typename of the message that hands a shard over.
const HANDED: &str = "satchel/shard-handed";

/// Typename of the message that tells the end of a shard.
const ENDED: &str = "satchel/shard-ended";

/// Changes of shards that wait until messages to other partitions are acknowledged.
#[derive(Default)]
pub(super) struct Settling(Vec<Waiting>);

impl Settling {
    /// Returns whether a shard is about to be handed over.
    fn hands_over(&self, shard: &ShardId) -> bool {
        let mut waiting = self.0.iter();
        waiting.any(|it| it.shard == *shard && matches!(it.change, Change::Hand { .. }))
    }
}

struct Waiting {
    shard: ShardId,
    change: Change,
    /// Last number to each other partition that must be acknowledged.
    upto: BTreeMap<u32, Number>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// The shard is handed to another partition.
    Hand { reader: u32 },
    /// The home of the stream learns that the shard was read to its end.
    End { home: u32 },
}

impl Config {
    /// Returns the partition that reads a source, or plans the reading of its shards. `source` is
    /// its name with its kind, such as `stream names`.
    #[must_use]
    pub fn home_of(&self, source: &str) -> u32 {
        let key_group = self.placement.key_group_of_id(source);
        let generation = self.generation.as_ref();
        generation.map_or(self.partition, |generation| {
            generation.partitions.partition_of(key_group)
        })
    }

    /// Returns the partition that plans the reading of a stream.
    #[must_use]
    pub fn home_of_stream(&self, stream: &str) -> u32 {
        self.home_of(&format!("stream {stream}"))
    }

    /// Returns the partition that reads a shard with this range of hash keys, both ends included.
    /// Without a range it is the home of the stream.
    fn reader_of(&self, shard: &FoundShard) -> u32 {
        let generation = self.generation.as_ref();
        let Some((generation, (first, last))) = generation.zip(shard.hash_range) else {
            return self.partition;
        };
        let middle = first + last.saturating_sub(first) / 2;
        let key_group = self.placement.key_group_of_hash_key(middle);
        generation.partitions.partition_of(key_group)
    }
}

impl Partition {
    /// Registers shards of a stream whose home is here. Those that another partition reads are
    /// handed over, unless that was done, and their ends are reported when it tells them.
    pub(super) fn shards_found(&mut self, found: Vec<FoundShard>) {
        for found in found {
            let reader = self.config.reader_of(&found);
            let FoundShard { shard, start, .. } = found;
            // Of a shard that begins at its end, nothing is read.
            let is_read_here = reader == self.config.partition || start == ShardPosition::End;
            match self.tables.shards.get(&shard) {
                Some(ShardPosition::Elsewhere) => {}
                Some(ShardPosition::End) => self.read_when_durable(Release::Read(shard)),
                _ if self.settling.hands_over(&shard) => {}
                _ if is_read_here => self.shard_found(shard, start),
                position => {
                    if position.is_none() {
                        // All starts are in one delta, so that `latest` is resolved once.
                        self.set_position(&shard, Some(start));
                    }
                    self.settle_shard(shard, Change::Hand { reader });
                }
            }
        }
    }

    /// Registers a shard. Reading starts at its applied position or, for a new shard, at the start
    /// resolved by its ingress. It begins once that position is durable.
    pub(super) fn shard_found(&mut self, shard: ShardId, start: ShardPosition) {
        if !self.tables.shards.contains_key(&shard) {
            self.set_position(&shard, Some(start));
        }
        self.read_when_durable(Release::Read(shard));
    }

    /// Reports the applied positions of a stream's shards once they are durable, so that no ingress
    /// plans with positions that a crash would undo.
    pub(super) fn stream_found(&mut self, ingress: Arc<str>, stream: Arc<str>) {
        self.read_when_durable(Release::Plan { ingress, stream });
    }

    /// Records the end of a shard. An end is reported separately, not with the last record, because
    /// an empty shard ends too.
    pub(super) fn shard_ended(&mut self, shard: ShardId) {
        let Some(position) = self.tables.shards.get(&shard) else {
            return;
        };
        if *position == ShardPosition::Elsewhere {
            // Its reader tells the end.
            return;
        }
        let is_new = *position != ShardPosition::End;
        if is_new {
            self.set_position(&shard, Some(ShardPosition::End));
        }
        self.release_when_durable(Release::Read(shard.clone()));
        if is_new {
            self.tell_end(shard);
        }
    }

    pub(super) fn shard_quiet(&mut self, shard: &ShardId, until_ms: u64) {
        let Some(position) = self.tables.shards.get(shard) else {
            return;
        };
        let quiet = position.quiet_until(until_ms);
        if *position != quiet {
            self.set_position(shard, Some(quiet));
        }
    }

    /// Removes the position of an ended shard. Any other position is still needed for reading.
    pub(super) fn shard_forgotten(&mut self, shard: &ShardId) {
        if self.tables.shards.get(shard) == Some(&ShardPosition::End) {
            self.set_position(shard, None);
        }
    }

    /// Tells the ends of shards that a former owner read for other partitions.
    pub(super) fn tell_ends(&mut self) {
        let shards = self.tables.shards.iter();
        let ended = shards.filter(|(_, position)| **position == ShardPosition::End);
        let ended: Vec<ShardId> = ended.map(|(shard, _)| shard.clone()).collect();
        ended.into_iter().for_each(|shard| self.tell_end(shard));
    }

    fn tell_end(&mut self, shard: ShardId) {
        let home = self.config.home_of_stream(&shard.stream);
        if home != self.config.partition {
            self.settle_shard(shard, Change::End { home });
        }
    }

    /// Makes a change of a shard once all messages that this partition sent to others until now are
    /// acknowledged.
    fn settle_shard(&mut self, shard: ShardId, change: Change) {
        let waiting = &self.settling.0;
        if waiting
            .iter()
            .any(|it| it.shard == shard && it.change == change)
        {
            return;
        }
        let links = self.tables.links.iter();
        let upto = links.filter(|(_, link)| link.assigned > link.acknowledged.upto);
        let upto = upto.map(|(peer, link)| (peer, link.assigned)).collect();
        self.settling.0.push(Waiting {
            shard,
            change,
            upto,
        });
        self.shards_settle();
    }

    /// Makes the changes of shards that nothing delays any more.
    pub(super) fn shards_settle(&mut self) {
        if self.settling.0.is_empty() {
            return;
        }
        let links = &self.tables.links;
        let is_acknowledged = |(peer, number): (&u32, &Number)| {
            let link = links.get(*peer);
            link.is_some_and(|link| link.acknowledged.upto >= *number)
        };
        let settling = std::mem::take(&mut self.settling.0);
        let (settled, waiting) = settling
            .into_iter()
            .partition(|it| it.upto.iter().all(is_acknowledged));
        self.settling.0 = waiting;
        for Waiting { shard, change, .. } in settled {
            self.change_shard(&shard, change);
        }
    }

    fn change_shard(&mut self, shard: &ShardId, change: Change) {
        let position = self.tables.shards.get(shard).cloned();
        match (change, position) {
            (_, None)
            | (Change::Hand { .. }, Some(ShardPosition::Elsewhere | ShardPosition::End)) => {}
            (Change::Hand { reader }, Some(start)) => {
                self.set_position(shard, Some(ShardPosition::Elsewhere));
                self.tell_shard(reader, HANDED, shard, &start);
            }
            (Change::End { home }, Some(end)) => {
                self.set_position(shard, None);
                self.tell_shard(home, ENDED, shard, &end);
            }
        }
    }

    fn set_position(&mut self, shard: &ShardId, position: Option<ShardPosition>) {
        match position {
            Some(position) => self.tables.shards.insert(shard.clone(), position),
            None => self.tables.shards.remove(shard),
        };
        self.mark_changed(Key::Shard(shard.clone()));
    }

    /// Sends a message about a shard to another partition.
    fn tell_shard(
        &mut self,
        peer: u32,
        typename: &'static str,
        shard: &ShardId,
        position: &ShardPosition,
    ) {
        let source = shard.to_string();
        let argument = typed_value(typename, Bytes::from(encode_shard(shard, position)));
        let id = IdSource::Record {
            shard: &source,
            sequence: typename,
            sub_sequence: 0,
            target: 0,
        };
        let message = Message {
            id: MessageId::derive(id, &argument),
            caller: None,
            argument,
            correction: None,
            trace: None,
            headers: Headers::default(),
        };
        let function = FunctionType::new(RESERVED_NAMESPACE, SHARDS_NAME);
        let target = Address::new(function, &*source);
        self.send_to_peer(peer, Some(&source), &target, message);
    }

    /// Takes a message about a shard from another partition.
    pub(super) fn shard_told(&mut self, argument: &TypedValue) {
        let told = decode_shard(&argument.value);
        let (shard, position) = told.expect("a malformed message about a shard is in no frame");
        if argument.typename == HANDED {
            return self.shard_found(shard, position);
        }
        self.set_position(&shard, Some(ShardPosition::End));
        self.release_when_durable(Release::Read(shard));
    }
}
