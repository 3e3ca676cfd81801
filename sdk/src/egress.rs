//! Records for egresses of StateFun's kinds.

use bytes::Bytes;
use satchel_protocol::egress::{
    KAFKA_RECORD_TYPENAME, KINESIS_RECORD_TYPENAME, KafkaProducerRecord, KinesisEgressRecord,
};
use satchel_protocol::prost::Message as _;
use serde::Serialize;

use crate::Error;
use crate::message::{Typed, json_from_bytes, json_to_bytes};

/// A record for an egress of kind `io.statefun.kinesis.v1/egress`.
///
/// ```
/// use satchel_sdk::egress::KinesisRecord;
///
/// let record = KinesisRecord::new("greetings", "alice").json(&"Hello Alice");
/// assert_eq!(record.value(), br#""Hello Alice""#);
/// ```
#[derive(Debug)]
pub struct KinesisRecord {
    stream: String,
    partition_key: String,
    explicit_hash_key: String,
    value: Content,
}

/// A record for an egress of kind `io.statefun.kafka.v1/egress`.
#[derive(Debug)]
pub struct KafkaRecord {
    topic: String,
    key: String,
    value: Content,
}

/// Content of a record, or the error of encoding it.
///
/// The error is reported when the record is sent, so that a record is built in one expression.
#[derive(Debug, Default)]
struct Content {
    bytes: Bytes,
    error: Option<Error>,
}

impl KinesisRecord {
    /// A record without content for `stream` under `partition_key`.
    ///
    /// Neither may be empty, as in Kinesis.
    pub fn new(stream: impl Into<String>, partition_key: impl Into<String>) -> Self {
        Self {
            stream: stream.into(),
            partition_key: partition_key.into(),
            explicit_hash_key: String::new(),
            value: Content::default(),
        }
    }

    /// Chooses the shard by this hash, a decimal 128-bit number, and not by the partition key.
    pub fn explicit_hash_key(mut self, hash: impl Into<String>) -> Self {
        self.explicit_hash_key = hash.into();
        self
    }

    /// Sets the content.
    pub fn bytes(mut self, bytes: impl Into<Bytes>) -> Self {
        self.value = Content::of(bytes);
        self
    }

    /// Sets the content to the JSON of a value.
    pub fn json(mut self, value: &impl Serialize) -> Self {
        self.value = Content::json(value);
        self
    }

    /// Name of the stream.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Partition key.
    pub fn partition_key(&self) -> &str {
        &self.partition_key
    }

    /// Content of the record.
    pub fn value(&self) -> &[u8] {
        &self.value.bytes
    }

    /// Parses the content as JSON.
    ///
    /// # Errors
    ///
    /// When the content is not JSON of that type.
    pub fn value_as_json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        json_from_bytes(&self.value.bytes)
    }
}

impl KafkaRecord {
    /// A record without key and content for `topic`.
    pub fn new(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            key: String::new(),
            value: Content::default(),
        }
    }

    /// Sets the key. An empty key is no key, as in StateFun.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    /// Sets the content.
    pub fn bytes(mut self, bytes: impl Into<Bytes>) -> Self {
        self.value = Content::of(bytes);
        self
    }

    /// Sets the content to the JSON of a value.
    pub fn json(mut self, value: &impl Serialize) -> Self {
        self.value = Content::json(value);
        self
    }

    /// Name of the topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Key set by [`Self::key`]. Empty for a record without a key.
    pub fn record_key(&self) -> &str {
        &self.key
    }

    /// Content of the record.
    pub fn value(&self) -> &[u8] {
        &self.value.bytes
    }

    /// Parses the content as JSON.
    ///
    /// # Errors
    ///
    /// When the content is not JSON of that type.
    pub fn value_as_json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        json_from_bytes(&self.value.bytes)
    }
}

impl Typed for KinesisRecord {
    const TYPENAME: &'static str = KINESIS_RECORD_TYPENAME;

    fn encode(&self) -> Result<Bytes, Error> {
        if self.stream.is_empty() {
            return Err("the record names no stream".into());
        }
        if self.partition_key.is_empty() {
            return Err(
                format!("the record for stream {} has no partition key", self.stream).into(),
            );
        }
        let record = KinesisEgressRecord {
            partition_key: self.partition_key.clone(),
            value_bytes: self.value.get()?,
            stream: self.stream.clone(),
            explicit_hash_key: self.explicit_hash_key.clone(),
        };
        Ok(record.encode_to_vec().into())
    }

    fn decode(bytes: &Bytes) -> Result<Self, Error> {
        let record = KinesisEgressRecord::decode(bytes.clone())?;
        Ok(Self {
            stream: record.stream,
            partition_key: record.partition_key,
            explicit_hash_key: record.explicit_hash_key,
            value: Content::of(record.value_bytes),
        })
    }
}

impl Typed for KafkaRecord {
    const TYPENAME: &'static str = KAFKA_RECORD_TYPENAME;

    fn encode(&self) -> Result<Bytes, Error> {
        if self.topic.is_empty() {
            return Err("the record names no topic".into());
        }
        let record = KafkaProducerRecord {
            key: self.key.clone(),
            value_bytes: self.value.get()?,
            topic: self.topic.clone(),
        };
        Ok(record.encode_to_vec().into())
    }

    fn decode(bytes: &Bytes) -> Result<Self, Error> {
        let record = KafkaProducerRecord::decode(bytes.clone())?;
        Ok(Self {
            topic: record.topic,
            key: record.key,
            value: Content::of(record.value_bytes),
        })
    }
}

impl Content {
    fn of(bytes: impl Into<Bytes>) -> Self {
        Self {
            bytes: bytes.into(),
            error: None,
        }
    }

    fn json(value: &impl Serialize) -> Self {
        match json_to_bytes(value) {
            Ok(bytes) => Self::of(bytes),
            Err(error) => Self {
                bytes: Bytes::new(),
                error: Some(error),
            },
        }
    }

    fn get(&self) -> Result<Bytes, Error> {
        match &self.error {
            Some(error) => Err(format!("the content is not JSON: {error}").into()),
            None => Ok(self.bytes.clone()),
        }
    }
}
