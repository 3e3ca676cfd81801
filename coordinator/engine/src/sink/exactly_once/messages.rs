//! What the machine is told, and what it wants.

use std::sync::Arc;

use crate::input::EgressMark;
use bytes::Bytes;

use crate::sink::delivery::{Outcome, Record, Request};
use crate::sink::reconcile::{Matcher, StreamPositions};

/// What the time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// By a clock of this machine that never goes back and counts while it sleeps.
    pub ms: u64,
    /// By the calendar, since the epoch.
    pub calendar_ms: u64,
    /// When it was sure that no other process had taken the partition over, by the first clock; none if it never was.
    pub confirmed_ms: Option<u64>,
}

/// What is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The partition key.
    pub key: String,
    /// Where in the hash range, if not where the key says.
    pub explicit_hash_key: Option<String>,
    /// The bytes, with the envelope if there is one.
    pub data: Bytes,
}

/// One fact.
#[derive(Debug, Clone, PartialEq)]
pub enum ExactlyOnceInput {
    /// The outbox hands over records, each by its number: what is put, or why it can never be. They come in the order of their numbers, and those that
    /// come together can leave together.
    Offered(Vec<(u64, Result<Record<Put>, String>)>),
    /// The answer to [`ExactlyOnceOutput::Put`].
    Answered {
        /// Names the request.
        request: u64,
        /// What is known of it.
        told: PutOutcome,
    },
    /// The answer to [`ExactlyOnceOutput::Scan`].
    Scanned {
        /// Names the look.
        look: u64,
        /// What is there; or why it is not known.
        seen: Result<ScanResult, String>,
    },
    /// What [`ExactlyOnceOutput::Arrived`] wanted to be told of is durable.
    NotesDurable,
    /// Nothing happened but time.
    TimeReached,
}

/// What is known of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// Of each record: where it is, or why not.
    Each(Vec<PutResult>),
    /// None was taken.
    Failed(Vec<Outcome>),
    /// Any may have been taken, or not.
    InDoubt(String),
}

/// What the stream says of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutResult {
    /// It is there.
    Taken {
        /// Its shard.
        shard: String,
        /// Its sequence number.
        sequence: String,
    },
    /// It is not: too much at once.
    Throttled(String),
    /// It may be there, or not.
    Unclear(String),
}

/// A record that was found in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedRecord {
    /// Its shard.
    pub shard: String,
    /// Its sequence number.
    pub sequence: String,
    /// Its partition key.
    pub key: String,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// What a look at a stream gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanResult {
    /// The ids of all shards that the stream has.
    pub shards: Vec<String>,
    /// What lies beyond the positions, in the order of each shard.
    pub seen: Vec<ScannedRecord>,
}

/// One imperative.
#[derive(Debug, Clone)]
pub enum ExactlyOnceOutput {
    /// Put these records once, at once. Answer with `Answered`, at `until_ms` at the latest; after that nothing of the request may be on its way any
    /// more.
    Put {
        /// What is put.
        request: Request<Put>,
        /// When it has landed or died, by [`Now::ms`].
        until_ms: u64,
    },
    /// Read everything in the stream beyond the positions up to what is there now, and answer with `Scanned` what is wanted of it.
    Scan {
        /// Names the look.
        look: u64,
        /// Which stream.
        stream: Arc<str>,
        /// From where on.
        after: StreamPositions,
        /// What is looked for.
        wanted: Arc<Matcher>,
    },
    /// Tell the partition that these arrived, and what is to be remembered, in one delta.
    Arrived {
        /// Numbers of the outbox.
        numbers: Vec<u64>,
        /// What is to be remembered.
        marks: Vec<EgressMark>,
        /// Whether to answer with `NotesDurable` once that is durable.
        confirm: bool,
    },
    /// Tell the partition that this one never can be put.
    Refused {
        /// Its number in the outbox.
        number: u64,
        /// Why.
        reason: String,
    },
    /// Send `TimeReached` at this time; replaces an earlier wish.
    WakeAt(u64),
    /// Something that people may want to know.
    Remark(Remark),
}

/// What people may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// So many records may have been put by the last owner; they are looked for once its requests have landed or died.
    Waits {
        /// How many.
        records: usize,
    },
    /// So many records are of a time in which they could not be found again; they are put without looking for them.
    NotReconciled {
        /// How many.
        records: usize,
    },
    /// A request is in doubt; its records are looked for.
    InDoubt {
        /// Where.
        stream: Arc<str>,
        /// How many records it has.
        records: usize,
        /// Why.
        reason: String,
    },
    /// Records in doubt were looked for.
    Reconciled {
        /// Where.
        stream: Arc<str>,
        /// How many.
        records: usize,
        /// How many of them are there.
        found: usize,
    },
    /// Records in doubt could not be looked for; it is tried again.
    ScanFailed {
        /// Where.
        stream: Arc<str>,
        /// Why.
        reason: String,
    },
    /// Records were not taken; they are tried again.
    Retried {
        /// How many.
        records: usize,
        /// Why the first was not.
        reason: String,
    },
}
