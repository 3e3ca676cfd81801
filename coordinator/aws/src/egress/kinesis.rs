//! Egress to Kinesis: records that functions hand over as `KinesisEgressRecord`, put with
//! `PutRecords`.
//!
//! Records of one stream and partition key are put in order. A key has one record in flight,
//! because a request of several records can be accepted in part. A key therefore carries one record
//! per round trip, and a stream as many as its shards accept. Kinesis orders what it accepted by
//! arrival only coarsely, unless [`Ordering::Strict`] asks for more.
//!
//! Delivery is at least once: a request whose response is lost is sent again. For exactly once see
//! [`exactly_once`].

pub mod envelope;
#[cfg(feature = "sdk")]
pub mod exactly_once;
#[cfg(feature = "sdk")]
mod ordering;
#[cfg(feature = "sdk")]
pub mod scan;
#[cfg(feature = "sdk")]
mod service;

use std::time::Duration;

use self::envelope::Envelope;

#[cfg(feature = "sdk")]
pub use service::KinesisService;

/// Default maximum size of a stream's records in bytes, the key included.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

/// Largest maximum record size that a stream can be configured for, in bytes.
pub const RECORD_BYTES_MAX_LARGE: usize = 10 << 20;

/// Time from the response to a put after which whatever is put has the greater sequence number in
/// its shard. Kinesis orders the records of a shard "coarsely" by arrival, without a bound. Reading
/// back and a new owner rely on this one.
pub const ORDERING_MARGIN: Duration = Duration::from_secs(10);

/// Order of the records of one stream and partition key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ordering {
    /// Put one after the other with `PutRecords`, and ordered by Kinesis coarsely by arrival.
    #[default]
    Coarse,
    /// Each record is put by a `PutRecord` of its own, with the number of the one before it as
    /// `SequenceNumberForOrdering`.
    Strict,
}

/// Settings of an egress to Kinesis, from its module file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KinesisSettings {
    /// Maximum number of records in flight per stream.
    pub outstanding_records_max: usize,
    /// Maximum size of a record in bytes, its key included.
    pub record_bytes_max: usize,
    /// Maximum duration of a request.
    pub request_timeout: Duration,
    /// Envelope around the records.
    pub envelope: Envelope,
    /// Order of the records of a partition key.
    pub ordering: Ordering,
}

impl Default for KinesisSettings {
    fn default() -> Self {
        Self {
            outstanding_records_max: 1000,
            record_bytes_max: RECORD_BYTES_MAX,
            request_timeout: Duration::from_secs(5),
            envelope: Envelope::None,
            ordering: Ordering::Coarse,
        }
    }
}
