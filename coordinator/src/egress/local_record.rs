//! Records of an egress as records of local streams.

use prost::Message;
use satchel_aws::egress::destination::Destination;
use satchel_aws::egress::local::LocalRequest;
use satchel_engine::output::Emission;
use satchel_protocol::egress::{
    KAFKA_RECORD_TYPENAME, KINESIS_RECORD_TYPENAME, KafkaProducerRecord, KinesisEgressRecord,
};

use crate::clock::now_ms;
use crate::streams::{KEY_MAX_CHARS, NewRecord, parse_hash_key};

/// Conversion of the records of an egress to records of local streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordForm {
    /// Records of a Kafka egress: the topic is the stream.
    Kafka,
    /// Records of a Kinesis egress.
    Kinesis,
    /// Any value, as the request that a service would get.
    Request {
        /// The service.
        destination: Box<Destination>,
        /// The stream.
        stream: String,
    },
}

impl RecordForm {
    /// Returns the name of the stream and the record for it. `writer` is the name of the producer.
    ///
    /// # Errors
    ///
    /// The reason why the record can never be delivered.
    pub(super) fn convert(
        &self,
        emission: &Emission,
        writer: &str,
    ) -> Result<(String, NewRecord), String> {
        match self {
            Self::Kafka => kafka(emission),
            Self::Kinesis => kinesis(emission),
            Self::Request {
                destination,
                stream,
            } => {
                let local = LocalRequest::of(destination, emission, writer)?;
                let new = NewRecord {
                    key: local.key,
                    explicit_hash_key: None,
                    data: local.request.to_string().into(),
                    time_ms: now_ms(),
                };
                Ok((stream.clone(), new))
            }
        }
    }
}

fn kafka(emission: &Emission) -> Result<(String, NewRecord), String> {
    let record: KafkaProducerRecord = decoded(emission, KAFKA_RECORD_TYPENAME, "Kafka")?;
    let new = NewRecord {
        key: record.key,
        explicit_hash_key: None,
        data: record.value_bytes,
        time_ms: now_ms(),
    };
    Ok((record.topic, new))
}

fn kinesis(emission: &Emission) -> Result<(String, NewRecord), String> {
    let record: KinesisEgressRecord = decoded(emission, KINESIS_RECORD_TYPENAME, "Kinesis")?;
    let chars = record.partition_key.chars().count();
    if !(1..=KEY_MAX_CHARS).contains(&chars) {
        return Err(format!(
            "its partition key has {chars} characters; 1 to {KEY_MAX_CHARS} are allowed"
        ));
    }
    let explicit_hash_key = match record.explicit_hash_key.as_str() {
        "" => None,
        text => Some(parse_hash_key(text)?),
    };
    let new = NewRecord {
        key: record.partition_key,
        explicit_hash_key,
        data: record.value_bytes,
        time_ms: now_ms(),
    };
    Ok((record.stream, new))
}

fn decoded<M: Message + Default>(
    emission: &Emission,
    typename: &str,
    service: &str,
) -> Result<M, String> {
    let value = &emission.value;
    if value.typename != typename {
        return Err(format!(
            "a {service} egress takes {typename}, not {}",
            value.typename
        ));
    }
    M::decode(value.value.clone()).map_err(|error| format!("not a {service} record: {error}"))
}
