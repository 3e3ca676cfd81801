//! Egress to AWS: delivery of the records in a partition's outbox to a service.
//!
//! Each service is a thin adapter (a `Service`) that makes requests from records and reads the
//! outcome of each record. The pure [`satchel_engine::sink::delivery`] decides which record is sent
//! when.
//!
//! The partition hands over only durable records, in order. It keeps a record until it receives
//! `Input::EgressAcked`, or `Input::EgressRefused`, by which the record becomes a dead letter.
//! The SDK makes one attempt; all retries are made here. They continue without a limit, except for
//! records that can never be accepted.

#[cfg(feature = "sdk")]
mod batch;
pub mod content;
pub mod destination;
pub mod dynamodb;
pub mod eventbridge;
#[cfg(feature = "sdk")]
pub mod failure;
pub mod kinesis;
pub mod lambda;
pub mod local;
#[cfg(feature = "sdk")]
mod service;
pub mod sns;
pub mod sqs;

#[cfg(feature = "sdk")]
pub use service::{Answer, EgressHandle, Observer, REQUEST_TIMEOUT, Service, with_timeout};

#[cfg(feature = "sdk")]
use service::{RECORDS_PER_ROUND, RetryLog};
