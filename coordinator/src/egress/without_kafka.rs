//! Egress to Kafka, in a binary without support for Kafka.

use super::Egress;
use crate::error::Failure;
use crate::module::{EgressSpec, KafkaEgress};

/// Makes no egress.
///
/// # Errors
///
/// Always: the egress needs Kafka.
pub fn kafka_egress(
    spec: &EgressSpec,
    _kafka: &KafkaEgress,
    _application: &str,
) -> Result<Egress, Failure> {
    let what = format!("{}: the egress {}", spec.source, spec.id);
    Err(Failure::needs_kafka(what))
}
