//! Inputs and outputs of exactly-once delivery.

use std::sync::Arc;

use crate::input::EgressMark;
use bytes::Bytes;

use crate::sink::delivery::{Outcome, Record, Request};
use crate::sink::reconcile::{Matcher, StreamPositions};

/// Present time and ownership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Monotonic clock of this machine, which also counts while the machine sleeps, in ms.
    pub ms: u64,
    /// Calendar time, in ms since the epoch.
    pub calendar_ms: u64,
    /// Time, by the monotonic clock, at which certainly no other process had taken over the
    /// partition; none if that was never confirmed.
    pub confirmed_ms: Option<u64>,
}

/// A record as it is put into the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRecord {
    /// Partition key.
    pub key: String,
    /// Position in the hash range, if it differs from the one given by the key.
    pub explicit_hash_key: Option<String>,
    /// Bytes of the record, including the envelope if there is one.
    pub data: Bytes,
}

/// A fact handed to `ExactlyOnceSink::handle_input`.
#[derive(Debug, Clone, PartialEq)]
pub enum ExactlyOnceInput {
    /// The outbox offers records by number, each prepared, or with the reason why it can never be
    /// put. Records come in the order of their numbers. Those offered together can leave together.
    Offered(Vec<(u64, Result<Record<StreamRecord>, String>)>),
    /// Answer to [`ExactlyOnceOutput::Put`].
    Answered {
        /// Id of the request.
        request: u64,
        /// Result of the request.
        outcome: PutOutcome,
    },
    /// Answer to [`ExactlyOnceOutput::Scan`].
    Scanned {
        /// Id of the scan.
        scan: u64,
        /// The scanned records, or the reason why the scan failed.
        result: Result<ScanResult, String>,
    },
    /// The marks of an [`ExactlyOnceOutput::Acknowledge`] with `confirm` are durable.
    MarksDurable,
    /// The requested wake-up time was reached (possibly early).
    TimeReached,
}

/// Result of a put request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// The stream answered for each record.
    Each(Vec<PutResult>),
    /// No record was accepted. One outcome for each record.
    Failed(Vec<Outcome>),
    /// Any record may have been accepted, or not. Holds the reason.
    InDoubt(String),
}

/// Answer of the stream for one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutResult {
    /// The record is in the stream.
    Taken {
        /// Id of its shard.
        shard: String,
        /// Its sequence number.
        sequence: String,
    },
    /// The record is not in the stream, for this reason.
    NotTaken(Outcome),
    /// The record may be in the stream, or not.
    Unclear(String),
}

/// A record found in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedRecord {
    /// Id of its shard.
    pub shard: String,
    /// Its sequence number.
    pub sequence: String,
    /// Its partition key.
    pub key: String,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// Result of a scan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanResult {
    /// Ids of all shards of the stream.
    pub shards: Vec<String>,
    /// Wanted records beyond the positions, in the order of each shard. Acknowledged ones may be
    /// among them.
    pub records: Vec<ScannedRecord>,
}

/// An imperative taken from `ExactlyOnceSink::poll_output`.
#[derive(Debug, Clone)]
pub enum ExactlyOnceOutput {
    /// Put these records now, with a single try. Answer with `Answered` at `until_ms` at the
    /// latest. After that, no part of the request may still be on its way.
    Put {
        /// The records.
        request: Request<StreamRecord>,
        /// Time at which the request must have landed or failed, by [`Now::ms`].
        until_ms: u64,
    },
    /// Read everything in the stream from the positions up to its present end, and answer with
    /// `Scanned` and the wanted records.
    Scan {
        /// Id of the scan.
        scan: u64,
        /// The stream.
        stream: Arc<str>,
        /// Positions after which to read.
        after: StreamPositions,
        /// Filter for the wanted records.
        wanted: Arc<Matcher>,
    },
    /// Acknowledge these records to the partition and store the marks, in one delta.
    Acknowledge {
        /// Numbers in the outbox.
        numbers: Vec<u64>,
        /// Marks to store.
        marks: Vec<EgressMark>,
        /// True if to answer with `MarksDurable` once the marks are durable.
        confirm: bool,
    },
    /// Refuse this record to the partition: it can never be put.
    Refuse {
        /// Number in the outbox.
        number: u64,
        /// Reason of the refusal.
        reason: String,
    },
    /// Send `TimeReached` at this time, by [`Now::ms`]. Replaces an earlier request.
    WakeAt(u64),
    /// Report an event to operators.
    Report(ReconcileEvent),
}

/// An event of interest to operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReconcileEvent {
    /// The former owner may have put records. The stream is scanned once its requests have landed
    /// or failed.
    WaitingForFormerOwner {
        /// Number of records.
        records: usize,
    },
    /// Records from before exactly-once delivery cannot be reconciled. They are put without a scan.
    NotReconciled {
        /// Number of records.
        records: usize,
    },
    /// A request is in doubt. The stream is scanned for its records.
    InDoubt {
        /// The stream.
        stream: Arc<str>,
        /// Number of records in the request.
        records: usize,
        /// Reason of the doubt.
        reason: String,
    },
    /// Records in doubt were reconciled.
    Reconciled {
        /// The stream.
        stream: Arc<str>,
        /// Number of records in doubt.
        records: usize,
        /// Number of them found in the stream.
        found: usize,
    },
    /// A scan failed and is retried.
    ScanFailed {
        /// The stream.
        stream: Arc<str>,
        /// Reason of the failure.
        reason: String,
    },
    /// Records were not accepted and are retried.
    Retried {
        /// Number of records.
        records: usize,
        /// Reason of the first failure.
        reason: String,
    },
}
