//! Records that functions hand to a Kafka egress.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use satchel_engine::output::Emission;
use satchel_engine::trace::TraceParent;
use satchel_protocol::egress::{KAFKA_RECORD_TYPENAME, KafkaProducerRecord};

/// Maximum length of a topic's name, as in Kafka.
const TOPIC_CHARACTERS_MAX: usize = 249;

/// A record to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerRecord {
    /// Number in the outbox. Records are offered in the order of their numbers.
    pub number: u64,
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Key, by which brokers partition and compact. None for a record without a key.
    pub key: Option<Bytes>,
    /// Value.
    pub value: Bytes,
    /// Value of the header `traceparent`.
    pub trace: Option<TraceParent>,
}

impl ProducerRecord {
    /// Size of key and value, in bytes.
    pub fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.value.len()
    }

    /// Converts a record of the outbox.
    ///
    /// # Errors
    ///
    /// The reason why no broker can ever accept it.
    pub fn of(emission: Emission) -> Result<Self, String> {
        let Emission {
            number,
            value,
            trace,
            ..
        } = emission;
        if value.typename != KAFKA_RECORD_TYPENAME {
            return Err(format!(
                "a Kafka egress takes {KAFKA_RECORD_TYPENAME}, this is {}",
                value.typename
            ));
        }
        let record = KafkaProducerRecord::decode(value.value)
            .map_err(|error| format!("it is not a Kafka record: {error}"))?;
        check_topic(&record.topic)?;
        Ok(Self {
            number,
            topic: record.topic.into(),
            key: (!record.key.is_empty()).then(|| Bytes::from(record.key)),
            value: record.value_bytes,
            trace,
        })
    }
}

fn check_topic(topic: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let valid = (1..=TOPIC_CHARACTERS_MAX).contains(&topic.len()) && topic.bytes().all(allowed);
    match valid && topic != "." && topic != ".." {
        true => Ok(()),
        false => Err(format!("{topic:?} is not the name of a topic")),
    }
}

#[cfg(test)]
mod tests {
    use satchel_engine::message::MessageId;
    use satchel_protocol::types::typed_value;

    use super::*;

    fn emission(typename: &str, key: &str, topic: &str) -> Emission {
        let record = KafkaProducerRecord {
            key: key.to_owned(),
            value_bytes: Bytes::from_static(b"hello"),
            topic: topic.to_owned(),
        };
        Emission {
            number: 7,
            id: MessageId([1; 16]),
            egress: "example/greetings".into(),
            value: typed_value(typename, record.encode_to_vec()),
            trace: None,
        }
    }

    #[test]
    fn an_empty_key_is_no_key() {
        for (key, expected) in [("bob", Some(Bytes::from_static(b"bob"))), ("", None)] {
            let emission = emission(KAFKA_RECORD_TYPENAME, key, "greetings");
            let record = ProducerRecord::of(emission).unwrap();
            let value = Bytes::from_static(b"hello");
            let topic = "greetings".into();
            assert_eq!(record.bytes(), 5 + key.len());
            let expected = ProducerRecord {
                number: 7,
                topic,
                key: expected,
                value,
                trace: None,
            };
            assert_eq!(record, expected);
        }
    }

    #[test]
    fn what_no_broker_would_take_is_refused_with_the_reason() {
        let refused = |typename, topic| {
            let refused = ProducerRecord::of(emission(typename, "k", topic));
            refused.unwrap_err()
        };
        assert_eq!(
            refused("satchel/json", "greetings"),
            format!("a Kafka egress takes {KAFKA_RECORD_TYPENAME}, this is satchel/json")
        );
        for topic in ["", "..", "a b", &"x".repeat(250)] {
            let reason = refused(KAFKA_RECORD_TYPENAME, topic);
            assert_eq!(reason, format!("{topic:?} is not the name of a topic"));
        }
    }
}
