//! Form of frames and answers between partitions of different processes.
//!
//! ```text
//! frame  = version (1 byte: 1 or 2), generation, first number, time in ms, count, messages
//! answer = version (1 byte: 1), epoch, taken, durable, time in ms, refusal (1 byte), credit
//! ```
//!
//! Numbers are varints. A message has its durable form, after its length in bytes. A frame with a
//! message about a shard has version 2, so that a process which does not know such messages rejects
//! it, and the pair waits until that process is updated.

use std::ops::RangeInclusive;

use super::codec::{Malformed, Reader, put_bytes, put_number};
use super::links::{peer_message, put_peer_message};
use crate::link::{Answer, Frame, Refusal};
use crate::message::PeerMessage;

/// Version of the form.
const VERSION: u8 = 1;

/// Version of a frame with a message about a shard.
const WITH_SHARDS: u8 = 2;

/// Returns the form of a frame, which names a generation.
#[must_use]
pub fn encode_frame(generation: u64, frame: &Frame<PeerMessage>) -> Vec<u8> {
    let has_shards = frame.messages.iter().any(PeerMessage::is_about_shard);
    let mut out = vec![if has_shards { WITH_SHARDS } else { VERSION }];
    let count = frame.messages.len() as u64;
    for number in [generation, frame.first, frame.time_ms, count] {
        put_number(&mut out, number);
    }
    let mut one = Vec::new();
    for message in &frame.messages {
        one.clear();
        put_peer_message(&mut one, message);
        put_bytes(&mut out, &one);
    }
    out
}

/// Decodes a frame and its generation.
///
/// # Errors
/// [`Malformed`]: the bytes are no frame of this version.
pub fn decode_frame(bytes: &[u8]) -> Result<(u64, Frame<PeerMessage>), Malformed> {
    let mut read = Reader(bytes);
    version(&mut read, "version of a frame", VERSION..=WITH_SHARDS)?;
    let generation = read.number()?;
    let (first, time_ms) = (read.number()?, read.number()?);
    let count = read.number()?;
    // Bounded by the bytes, because a message has at least one.
    let mut messages = Vec::new();
    for _ in 0..count {
        let mut one = Reader(read.bytes()?);
        messages.push(peer_message(&mut one)?);
        one.end()?;
    }
    read.end()?;
    let is_numbered = first > 0 && first.checked_add(count).is_some();
    if messages.is_empty() || !is_numbered {
        return Err(Malformed::Truncated("frame"));
    }
    let frame = Frame {
        first,
        messages,
        time_ms,
    };
    Ok((generation, frame))
}

/// Returns the form of an answer.
#[must_use]
pub fn encode_answer(answer: &Answer) -> Vec<u8> {
    let mut out = vec![VERSION];
    for number in [answer.epoch, answer.taken, answer.durable, answer.time_ms] {
        put_number(&mut out, number);
    }
    out.push(match answer.refused {
        None => 0,
        Some(Refusal::Gap) => 1,
        Some(Refusal::Ahead) => 2,
    });
    put_number(&mut out, answer.credit);
    out
}

/// Decodes an answer.
///
/// # Errors
/// [`Malformed`]: the bytes are no answer of this version.
pub fn decode_answer(bytes: &[u8]) -> Result<Answer, Malformed> {
    let mut read = Reader(bytes);
    version(&mut read, "version of an answer", VERSION..=VERSION)?;
    let answer = Answer {
        epoch: read.number()?,
        taken: read.number()?,
        durable: read.number()?,
        time_ms: read.number()?,
        refused: match read.byte()? {
            0 => None,
            1 => Some(Refusal::Gap),
            2 => Some(Refusal::Ahead),
            found => {
                return Err(Malformed::Unknown {
                    what: "refusal",
                    found: found.into(),
                });
            }
        },
        credit: read.number()?,
    };
    read.end()?;
    Ok(answer)
}

fn version(
    read: &mut Reader<'_>,
    what: &'static str,
    known: RangeInclusive<u8>,
) -> Result<(), Malformed> {
    let found = read.byte()?;
    if known.contains(&found) {
        return Ok(());
    }
    Err(Malformed::Unknown {
        what,
        found: found.into(),
    })
}
