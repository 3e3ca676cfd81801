//! `io.statefun.kafka.v1/egress`: records go to topics. In `dev` they are local streams.

use std::time::Duration;

use crate::module::egress::{EgressAdapter, EgressSpec};
use crate::module::fields::Fields;
use crate::module::identifier::{ID, identifier};
use crate::module::kafka::{ADDRESS, KafkaProperties, connection, properties_field};
use crate::module::table::{Field, Form, Kind, Tagged, Variant};

/// The kind `io.statefun.kafka.v1/egress`.
pub(crate) static EGRESS: Kind = Kind {
    name: "io.statefun.kafka.v1/egress",
    summary: "Records for Kafka topics. Each record names its topic, and may have a key. With \
              `satchel dev` the topics are local streams.",
    example: "kind: io.statefun.kafka.v1/egress
spec:
  id: example/greetings
  address: kafka:9092
  deliverySemantic: {type: exactly-once, transactionTimeout: 15min}
",
    fields: &[
        ID,
        ADDRESS,
        Field::with_default(
            "deliverySemantic",
            Form::Tagged(&DELIVERY),
            "at-least-once",
            "Number of times a record appears in its topic. Local streams are always exactly once.",
        ),
        properties_field("Properties of the producer, as `property: value`."),
    ],
    read: |fields, application| application.egresses.push(egress(fields)),
};

static DELIVERY: Tagged = Tagged {
    title: "Kafka delivery",
    untagged: None,
    variants: &[
        Variant {
            word: "at-least-once",
            fields: &[],
            meaning: "A record can appear again after a crash.",
        },
        Variant {
            word: "exactly-once",
            fields: &[
                Field::with_default(
                    "transactionTimeout",
                    TRANSACTION_TIMEOUT,
                    "1min",
                    "Time after which brokers abort a transaction that was not completed. Brokers \
                     refuse more than their `transaction.max.timeout.ms`, 15 minutes by default.",
                ),
                Field::optional(
                    "transactionTimeoutMillis",
                    Form::Whole(1_000, 86_400_000),
                    "`transactionTimeout`",
                    "The older form of `transactionTimeout`, in milliseconds.",
                ),
            ],
            meaning: "Records are written in transactions.",
        },
        Variant {
            word: "none",
            fields: &[],
            meaning: "A record can be lost or appear again.",
        },
    ],
};

const TRANSACTION_TIMEOUT: Form =
    Form::Duration(Duration::from_secs(1), Duration::from_secs(86_400));

/// Topics to write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaEgress {
    /// Brokers to connect to first, `host:port` with commas between them.
    pub address: String,
    /// Number of times a record appears in its topic.
    pub delivery: KafkaDelivery,
    /// Properties of the producer, in order. `address` takes precedence.
    pub properties: KafkaProperties,
}

/// Number of times a record appears in its topic: `deliverySemantic`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KafkaDelivery {
    /// Zero or more times.
    None,
    /// Once or more.
    AtLeastOnce,
    /// Exactly once, by transactions.
    ExactlyOnce {
        /// Time after which brokers abort a transaction that was not completed.
        transaction_timeout: Duration,
    },
}

/// Reads the spec of an `io.statefun.kafka.v1/egress`.
fn egress(mut fields: Fields<'_, '_>) -> EgressSpec {
    let source = fields.source();
    let id = identifier(&mut fields);
    let (address, properties) = connection(&mut fields);
    EgressSpec {
        source,
        id,
        adapter: EgressAdapter::Kafka(KafkaEgress {
            address,
            delivery: delivery(&mut fields),
            properties,
        }),
    }
}

fn delivery(fields: &mut Fields<'_, '_>) -> KafkaDelivery {
    let (kind, mut fields) = fields.tagged("deliverySemantic");
    match kind {
        "none" => KafkaDelivery::None,
        "exactly-once" => {
            let millis = fields.is_present("transactionTimeoutMillis");
            if millis && fields.is_present("transactionTimeout") {
                let message = "stands beside 'transactionTimeout': remove one of the two";
                fields.problem_with("transactionTimeoutMillis", message);
            }
            KafkaDelivery::ExactlyOnce {
                transaction_timeout: match millis {
                    true => Duration::from_millis(fields.whole("transactionTimeoutMillis")),
                    false => fields.duration("transactionTimeout"),
                },
            }
        }
        _ => KafkaDelivery::AtLeastOnce,
    }
}
