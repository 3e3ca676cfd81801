//! What a function hands to a Kafka or Kinesis egress, package `io.statefun.sdk.egress`.

#![allow(
    missing_docs,
    reason = "generated; the .proto text documents the messages"
)]

include!(concat!(env!("OUT_DIR"), "/io.statefun.sdk.egress.rs"));

/// The typename under which a [`KafkaProducerRecord`] travels.
pub const KAFKA_RECORD_TYPENAME: &str =
    "type.googleapis.com/io.statefun.sdk.egress.KafkaProducerRecord";

/// The typename under which a [`KinesisEgressRecord`] travels.
pub const KINESIS_RECORD_TYPENAME: &str =
    "type.googleapis.com/io.statefun.sdk.egress.KinesisEgressRecord";
