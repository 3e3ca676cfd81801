//! Messages, and the ids under which they are visible outside.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use satchel_protocol::reqreply::TypedValue;
use sha2::{Digest, Sha256};

use crate::address::{Address, RESERVED_NAMESPACE};
use crate::hex::Hex;
use crate::placement::KeyGroup;
use crate::trace::TraceParent;

/// Id of a message, passed to functions as idempotency key: 128 bits, 32 hexadecimal digits as
/// text.
///
/// The id derives from the origin and the content of the message, never from a counter. Functions
/// run ahead of the commit, so after a crash a counter would give the same id to a different
/// message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub [u8; 16]);

/// Origin from which a message id derives.
#[derive(Debug, Clone, Copy)]
pub enum IdSource<'a> {
    /// A record of a shard, routed to its `target`-th target.
    Record {
        /// The stream and the shard.
        shard: &'a str,
        /// Sequence number of the record.
        sequence: &'a str,
        /// Index among the user records aggregated under that sequence number.
        sub_sequence: u64,
        /// Index of this message among the targets of the record.
        target: u32,
    },
    /// A request from outside, named by the random id that the adapter drew for it.
    Request(&'a [u8; 16]),
    /// A request from outside with an idempotency key. A repeat gets the same id even if the first
    /// request was lost in a crash.
    Key {
        /// Address that was called.
        address: &'a Address,
        /// `call` or `send`.
        verb: &'a str,
        /// The idempotency key.
        key: &'a str,
    },
    /// An effect of processing another message.
    Effect {
        /// Message that caused the effect.
        parent: MessageId,
        /// Index among the effects of that message.
        index: u32,
    },
    /// An effect of a batch whose SDK does not report which message caused it.
    BatchEffect {
        /// Ids of the messages of the batch.
        parents: &'a [MessageId],
        /// Index among the effects of the batch.
        index: u32,
    },
    /// A retried dead letter, which is a new message.
    Retry {
        /// Message of the dead letter.
        parent: MessageId,
    },
}

impl MessageId {
    /// Derives the id of a message with this origin and argument.
    pub fn derive(source: IdSource<'_>, argument: &TypedValue) -> Self {
        let mut hash = Sha256::new();
        let mut text = |text: &[u8]| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        match source {
            IdSource::Record {
                shard,
                sequence,
                sub_sequence,
                target,
            } => {
                text(b"record");
                text(shard.as_bytes());
                text(sequence.as_bytes());
                text(&sub_sequence.to_le_bytes());
                text(&target.to_le_bytes());
            }
            IdSource::Request(random) => {
                text(b"request");
                text(random);
            }
            IdSource::Key { address, verb, key } => {
                text(b"key");
                text(address.function.namespace().as_bytes());
                text(address.function.name().as_bytes());
                text(address.id.as_bytes());
                text(verb.as_bytes());
                text(key.as_bytes());
            }
            IdSource::Effect { parent, index } => {
                text(b"effect");
                text(&parent.0);
                text(&index.to_le_bytes());
            }
            IdSource::BatchEffect { parents, index } => {
                text(b"batch");
                for parent in parents {
                    text(&parent.0);
                }
                text(&index.to_le_bytes());
            }
            IdSource::Retry { parent } => {
                text(b"retry");
                text(&parent.0);
            }
        }
        text(argument.typename.as_bytes());
        text(&argument.value);
        Self::of(hash)
    }

    fn of(hash: Sha256) -> Self {
        let digest = hash.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }

    /// Parses 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }
}

/// Hash used to compare two request bodies.
pub fn fingerprint(argument: &TypedValue) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update((argument.typename.len() as u64).to_le_bytes());
    hash.update(argument.typename.as_bytes());
    hash.update(&argument.value);
    MessageId::of(hash).0
}

/// Parses 32 hexadecimal digits.
pub(crate) fn parse_hex(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A typed value on its way to an address, in the mailbox of that address.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Id shown to functions.
    pub id: MessageId,
    /// Sender of the message. Records of an ingress and messages of `/send` have no caller.
    pub caller: Option<Address>,
    /// Value of the message.
    pub argument: TypedValue,
    /// Present if the message is an administrator's correction queued among the messages.
    /// `argument` is then the new value of the state.
    pub correction: Option<Correction>,
    /// Trace context of the request or message that caused this one. No id depends on it.
    pub trace: Option<TraceParent>,
    /// Headers of the record that became this message.
    pub headers: Headers,
}

/// Header of a record: metadata beside its key and value. No id depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Name, which may repeat.
    pub name: Arc<str>,
    /// Value.
    pub value: Bytes,
}

/// Headers of a record, in its order. None if there are none.
pub type Headers = Option<Arc<[Header]>>;

/// Approximate size of headers, in bytes.
pub(crate) fn header_bytes(headers: &Headers) -> usize {
    let headers = headers.iter().flat_map(|headers| headers.iter());
    headers
        .map(|header| header.name.len() + header.value.len() + HEADER_OVERHEAD_BYTES)
        .sum()
}

/// Effect of an administrator's correction when its turn comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// Name of the corrected state.
    pub state: Arc<str>,
    /// True if the correction deletes the value instead of setting it.
    pub delete: bool,
}

impl Message {
    /// Approximate size of the message while it is pending for `target`, in bytes: the message and
    /// the id of its target, which its key in the delta repeats.
    pub fn pending_bytes(&self, target: &Address) -> usize {
        self.bytes() + target.id.len()
    }

    /// Approximate size of the message in memory and on the wire, without its target, in bytes.
    pub fn bytes(&self) -> usize {
        let caller = self
            .caller
            .as_ref()
            .map_or(0, |caller| caller.id.len() + 32);
        let argument = self.argument.typename.len() + self.argument.value.len();
        argument + caller + header_bytes(&self.headers) + MESSAGE_OVERHEAD_BYTES
    }
}

/// Name of the reserved function that receives messages about shards. Partitions send them to each
/// other; what functions send to it stays in its partition, as an address without a function.
pub(crate) const SHARDS_NAME: &str = "shards";

/// A message on its way to another partition.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerMessage {
    /// Key group of the sender: an address, or the name of a stream or queue. It decides which
    /// partition inherits the message.
    pub sender: KeyGroup,
    /// Address that receives the message.
    pub target: Address,
    /// The message.
    pub message: Message,
}

impl PeerMessage {
    /// Approximate size in memory and on the wire, in bytes.
    pub fn bytes(&self) -> usize {
        self.message.pending_bytes(&self.target)
    }

    /// Returns whether the message is about a shard, for the partition itself.
    pub(crate) fn is_about_shard(&self) -> bool {
        let function = &self.target.function;
        function.namespace() == RESERVED_NAMESPACE && function.name() == SHARDS_NAME
    }
}

/// Reason why a record becomes no message.
#[derive(Debug, Clone, PartialEq)]
pub struct Unroutable {
    /// Bytes of the record, under the typename that it would have had.
    pub value: TypedValue,
    /// Reason, for operators.
    pub reason: String,
}

/// Size of a header besides its own bytes.
const HEADER_OVERHEAD_BYTES: usize = 48;

/// Size of a message besides its own bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use satchel_protocol::types::typed_value;

    use super::*;

    #[test]
    fn an_id_depends_on_source_parent_index_and_content() {
        let one = typed_value("t", &b"1"[..]);
        let two = typed_value("t", &b"2"[..]);
        let parent = MessageId::derive(IdSource::Request(&[7; 16]), &one);
        let effect =
            |index, argument| MessageId::derive(IdSource::Effect { parent, index }, argument);
        assert_eq!(effect(0, &one), effect(0, &one));
        assert_ne!(effect(0, &one), effect(1, &one));
        assert_ne!(effect(0, &one), effect(0, &two));
        assert_ne!(effect(0, &one), parent);
        assert_eq!(MessageId::parse(&parent.to_string()), Some(parent));
        assert_eq!(MessageId::parse("not hexadecimal"), None);
    }
}
