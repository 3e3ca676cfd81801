//! Kafka adapters of the coordinator: ingress from topics, egress to topics.
//!
//! ```text
//!  topic ─► ingress: assigned partitions, positions in the commit ─► partition
//!  partition ─► outbox ─► egress: rounds of records, or transactions ─► topic
//! ```
//!
//! Decisions are apart from the client: [`start`] resolves where a partition is read first,
//! [`properties`] translates the properties of a module file, [`outbox`] decides which records are
//! sent next, and [`exactly_once`] which of them were already committed. They need no broker and
//! no feature. The client (librdkafka) needs the feature `client`.

pub mod at_least_once;
pub mod error;
pub mod exactly_once;
pub mod jaas;
pub mod offset;
pub mod outbox;
pub mod properties;
pub mod record;
pub mod sink;
pub mod start;

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
pub mod egress;
#[cfg(feature = "client")]
pub mod ingress;
#[cfg(feature = "client")]
mod log_interval;

#[cfg(feature = "client")]
pub use client::{Connection, Token, TokenSource};
/// The client library, for tests and tools that use the same brokers.
#[cfg(feature = "client")]
pub use rdkafka;
