//! The wire of Satchel: what crosses between the coordinator and a function.
//!
//! - [`reqreply`]: StateFun's request-reply messages (`ToFunction`, `FromFunction`, …), generated from `proto/`.
//! - [`types`]: StateFun's built-in types and their codec.
//! - [`egress`]: the records that a function hands to a Kafka or Kinesis egress.
//! - [`bundle`]: the JSON envelope that carries several batches in one Lambda request.
//!
//! Source: Apache Flink Stateful Functions 3.3, whose SDKs must work unmodified on the other side.

#![warn(missing_docs)]

pub mod bundle;
pub mod egress;
pub mod reqreply;
pub mod types;

pub use prost;
