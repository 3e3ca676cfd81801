//! Records for a Kafka or Kinesis egress, package `io.statefun.sdk.egress`.

#![allow(
    missing_docs,
    reason = "generated; the .proto text documents the messages"
)]

include!(concat!(env!("OUT_DIR"), "/io.statefun.sdk.egress.rs"));

/// Typename of a [`KafkaProducerRecord`].
pub const KAFKA_RECORD_TYPENAME: &str =
    "type.googleapis.com/io.statefun.sdk.egress.KafkaProducerRecord";

/// Typename of a [`KinesisEgressRecord`].
pub const KINESIS_RECORD_TYPENAME: &str =
    "type.googleapis.com/io.statefun.sdk.egress.KinesisEgressRecord";
