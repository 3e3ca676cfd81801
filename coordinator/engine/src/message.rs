//! Messages, and the ids under which they are shown outside.

use std::fmt;
use std::sync::Arc;

use satchel_protocol::reqreply::TypedValue;
use sha2::{Digest, Sha256};

use crate::address::Address;

/// The id of a message, shown to functions as its idempotency key: 128 bit, in text 32 hexadecimal digits.
///
/// It derives from where the message came from and what it holds, never from a counter: functions run ahead of the commit, and after a
/// crash a counter would give the same id to a different message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub [u8; 16]);

/// What a message id derives from.
#[derive(Debug, Clone, Copy)]
pub enum IdSource<'a> {
    /// A record of a shard, routed to its `target`-th target.
    Record {
        /// The stream and the shard.
        shard: &'a str,
        /// The record's sequence number.
        sequence: &'a str,
        /// Its place among the user records aggregated under that number.
        sub_sequence: u64,
        /// Which of the record's targets this message goes to.
        target: u32,
    },
    /// A request from outside, which drew this random id.
    Request(&'a [u8; 16]),
    /// A request from outside that carries an idempotency key: a repeat gets the same id even if the first was lost in a crash.
    Key {
        /// The address that was called.
        address: &'a Address,
        /// `call` or `send`.
        verb: &'a str,
        /// The key.
        key: &'a str,
    },
    /// An effect of processing another message.
    Effect {
        /// The message that caused it.
        parent: MessageId,
        /// Which of that message's effects it is.
        index: u32,
    },
    /// An effect of a batch whose SDK does not say which of its messages caused it.
    BatchEffect {
        /// The ids of the batch's messages.
        parents: &'a [MessageId],
        /// Which of the batch's effects it is.
        index: u32,
    },
    /// A dead letter that was retried: a new message.
    Retry {
        /// The message that was given up on.
        parent: MessageId,
    },
}

impl MessageId {
    /// The id of a message that came from `source` and holds `argument`.
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

    /// Reads 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }
}

/// A hash by which two request bodies are compared.
pub fn fingerprint(argument: &TypedValue) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update((argument.typename.len() as u64).to_le_bytes());
    hash.update(argument.typename.as_bytes());
    hash.update(&argument.value);
    MessageId::of(hash).0
}

/// Reads 32 hexadecimal digits.
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
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A typed value on its way to an address, in that address's mailbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The id shown to functions.
    pub id: MessageId,
    /// Who sent it; a record of an ingress and a `/send` have no caller.
    pub caller: Option<Address>,
    /// What was sent.
    pub argument: TypedValue,
    /// A correction by an administrator that takes its turn among the messages; `argument` is its new value then.
    pub correction: Option<Correction>,
}

/// What an administrator's correction does when its turn comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// The state that it corrects.
    pub state: Arc<str>,
    /// Whether it deletes the value instead of setting it.
    pub delete: bool,
}

impl Message {
    /// About how many bytes the message takes in memory and on the wire.
    pub fn bytes(&self) -> usize {
        let caller = self
            .caller
            .as_ref()
            .map_or(0, |caller| caller.id.len() + 32);
        self.argument.typename.len() + self.argument.value.len() + caller + MESSAGE_OVERHEAD_BYTES
    }
}

/// What a message takes besides its own bytes.
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
