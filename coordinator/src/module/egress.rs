//! Declarations that the egress kinds share.

use satchel_aws::egress::destination::AwsEgress;

use crate::module::egress_kafka::KafkaEgress;
use crate::module::egress_kinesis::KinesisEgress;
use crate::module::identifier::Identifier;
use crate::module::playground::PlaygroundEgress;
use crate::module::problem::Source;

/// An egress of a module file.
#[derive(Debug, Clone, PartialEq)]
pub struct EgressSpec {
    /// Position in the module file.
    pub source: Source,
    /// Id of the egress, by which functions name it.
    pub id: Identifier,
    /// Destination of its records.
    pub adapter: EgressAdapter,
}

/// Destination of an egress's records.
#[derive(Debug, Clone, PartialEq)]
pub enum EgressAdapter {
    /// `io.statefun.kafka.v1/egress`.
    Kafka(KafkaEgress),
    /// `io.statefun.kinesis.v1/egress`.
    Kinesis(KinesisEgress),
    /// `io.statefun.playground.v1/egress`.
    Playground(PlaygroundEgress),
    /// `satchel.sqs.v1/egress`, `satchel.sns.v1/egress`, and so on.
    Aws(AwsEgress),
}
