//! Steps of an egress, independent of its delivery guarantee.

use crate::outbox::Settled;
use crate::record::ProducerRecord;

/// Sends the records of one egress.
pub trait Sink: Send {
    /// Adds a record. Its number must exceed those of all earlier records.
    fn offer(&mut self, record: ProducerRecord);

    /// Sends what may be sent now, and waits for the result.
    fn advance(&mut self, now_ms: u64) -> impl Future<Output = Progress> + Send;

    /// Time at which there is something to send, if nothing else happens.
    fn wake_at_ms(&self) -> Option<u64>;
}

/// Result of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Nothing may be sent now.
    Idle,
    /// A round was sent.
    Sent {
        /// Records that are no longer kept.
        settled: Vec<Settled>,
        /// Number of records that were not accepted and are sent again, with one of the reasons.
        repeated: Option<(u64, String)>,
    },
    /// The brokers were not available. Everything is kept and sent later.
    Failed(String),
}
