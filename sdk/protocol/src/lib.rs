//! Wire protocol between the Satchel coordinator and a function.
//!
//! - [`reqreply`]: StateFun's request-reply messages (`ToFunction`, `FromFunction`, …), generated
//!   from `proto/`.
//! - [`effects`]: decoding of an answer within limits, before any of it takes memory.
//! - [`types`]: StateFun's built-in types and their codec.
//! - [`egress`]: records for a Kafka or Kinesis egress.
//! - [`declaration`]: fingerprints of the states that a function declares.
//! - [`bundle`]: the JSON envelope that carries several batches in one Lambda request, and the
//!   rules for terminal errors.
//!
//! Source: Apache Flink Stateful Functions 3.3. Its SDKs work unmodified on the other side.
//! Satchel's own fields have numbers from 1000 up, which these SDKs ignore.

#![warn(missing_docs)]

pub mod bundle;
pub mod declaration;
pub mod effects;
pub mod egress;
pub mod reqreply;
pub mod types;

pub use prost;
