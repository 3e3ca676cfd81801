//! Requests to services as JSON, for local streams that stand for the services.
//!
//! The content is made by the code that makes the requests, so what lands in a local stream is what
//! the service would get. The names of the fields are those of the service's API:
//!
//! - SQS: `QueueUrl`, `MessageBody`, `MessageGroupId`, `MessageDeduplicationId`,
//!   `MessageAttributes`
//! - SNS: `TopicArn`, `Message`, `Subject`, and as SQS
//! - EventBridge: `EventBusName`, `Source`, `DetailType`, `Detail`, `Resources`, `TraceHeader`
//! - DynamoDB: `TableName`, `Item`
//! - Lambda: `FunctionName`, `Qualifier`, `InvocationType`, `Payload`, `X-Amzn-Trace-Id`
//!
//! `Detail` and `Payload` are JSON and no texts. `MessageAttributes` are texts by name. `Item` is
//! in DynamoDB's own JSON.

use satchel_engine::output::Emission;
use serde_json::{Map, Value, json};

use super::content::check_size;
use super::destination::Destination;
use super::dynamodb::Item;
use super::eventbridge::{EVENT_BYTES_MAX, Event};
use super::lambda::{PAYLOAD_BYTES_MAX, payload};
use super::sqs::{MESSAGE_BYTES_MAX, Message};

/// Request to a service, for a local stream.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalRequest {
    /// Message group or key, within which the service keeps the order; empty without one.
    pub key: String,
    /// Fields of the request.
    pub request: Value,
}

impl LocalRequest {
    /// Converts a record. `writer` is the permanent name of root, partition and egress.
    ///
    /// # Errors
    ///
    /// The reason why the service can never accept the record, or that the service takes records
    /// of its own (Kinesis).
    pub fn of(
        destination: &Destination,
        emission: &Emission,
        writer: &str,
    ) -> Result<Self, String> {
        match destination {
            Destination::Kinesis(..) => {
                Err("a record for Kinesis names its stream itself".to_owned())
            }
            Destination::Sqs(sqs) => {
                let group = sqs.message_group_id.as_ref();
                let message = Message::of(emission, group, &sqs.attributes)?;
                check_size("the message", message.bytes(), MESSAGE_BYTES_MAX)?;
                let request = json!({"QueueUrl": sqs.queue_url, "MessageBody": message.body});
                Ok(Self::of_message(request, message, sqs.is_fifo()))
            }
            Destination::Sns(sns) => {
                let group = sns.message_group_id.as_ref();
                let message = Message::of(emission, group, &sns.attributes)?;
                check_size("the message", message.bytes(), sns.message_bytes_max)?;
                let mut request = json!({"TopicArn": sns.topic_arn, "Message": message.body});
                if let Some(subject) = sns.subject(emission)? {
                    request["Subject"] = subject.into();
                }
                Ok(Self::of_message(request, message, sns.is_fifo()))
            }
            Destination::EventBridge(settings) => {
                let event = Event::of(emission, settings)?;
                check_size("the event", event.bytes(), EVENT_BYTES_MAX)?;
                let mut request = json!({
                    "EventBusName": settings.event_bus,
                    "Source": event.source,
                    "DetailType": event.detail_type,
                    "Detail": parsed(&event.detail),
                    "Resources": [event.resource],
                });
                if let Some(trace) = event.trace_header {
                    request["TraceHeader"] = trace.into();
                }
                Ok(Self::without_key(request))
            }
            Destination::DynamoDb(settings) => {
                let item = Item::of(emission, settings, writer)?;
                let fields = item.attributes.iter();
                let fields = fields.map(|(name, value)| (name.clone(), value.to_json()));
                let fields: Map<String, Value> = fields.collect();
                Ok(Self {
                    key: item.key,
                    request: json!({"TableName": settings.table, "Item": fields}),
                })
            }
            Destination::Lambda(settings) => {
                let payload = payload(emission, settings.envelope)?;
                check_size("the payload", payload.len(), PAYLOAD_BYTES_MAX)?;
                let mut request = json!({
                    "FunctionName": settings.function_name,
                    "InvocationType": "Event",
                    "Payload": parsed(&payload),
                });
                if let Some(qualifier) = &settings.qualifier {
                    request["Qualifier"] = qualifier.as_str().into();
                }
                if let Some(trace) = emission.trace {
                    request["X-Amzn-Trace-Id"] = trace.to_x_ray().into();
                }
                Ok(Self::without_key(request))
            }
        }
    }

    fn of_message(mut request: Value, message: Message, is_fifo: bool) -> Self {
        if let Some(group) = &message.group {
            request["MessageGroupId"] = group.as_str().into();
        }
        if is_fifo {
            request["MessageDeduplicationId"] = message.id.into();
        }
        let attributes = message.attributes.into_iter();
        let attributes = attributes.map(|(name, value)| (name, Value::from(value)));
        request["MessageAttributes"] = Value::Object(attributes.collect());
        Self {
            key: message.group.unwrap_or_default(),
            request,
        }
    }

    fn without_key(request: Value) -> Self {
        Self {
            key: String::new(),
            request,
        }
    }
}

/// JSON that this crate wrote, as a value.
fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| json.into())
}

#[cfg(test)]
mod tests {
    use satchel_engine::trace::TraceParent;

    use super::*;
    use crate::egress::content::tests::emission;
    use crate::egress::dynamodb::{DynamoDbSettings, KeyAttribute};
    use crate::egress::eventbridge::EventBridgeSettings;
    use crate::egress::lambda::LambdaSettings;
    use crate::egress::sns::{PUBLICATION_BYTES_MAX, PUBLICATION_BYTES_MAX_LARGE, SnsSettings};
    use crate::egress::sqs::SqsSettings;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    const X_RAY: &str =
        "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1";

    fn local(destination: &Destination) -> (String, Value) {
        let order = br#"{"customer":"c1","n":7}"#;
        let emission = Emission {
            trace: TraceParent::parse(TRACE),
            ..emission(1, "example/order", order)
        };
        let local = LocalRequest::of(destination, &emission, "writer").unwrap();
        (local.key, local.request)
    }

    #[test]
    fn each_request_has_the_fields_of_its_service() {
        let id = "01".repeat(16);
        let attributes = json!({
            "satchel-type": "example/order",
            "satchel-id": id,
            "kind": "order",
            "traceparent": TRACE,
        });
        let further = vec![("kind".to_owned(), "order".parse().unwrap())];
        let sqs = Destination::Sqs(SqsSettings {
            queue_url: "https://sqs/1/tasks.fifo".to_owned(),
            message_group_id: Some("/customer".parse().unwrap()),
            attributes: further.clone(),
        });
        let body = r#"{"customer":"c1","n":7}"#;
        let request = json!({
            "QueueUrl": "https://sqs/1/tasks.fifo",
            "MessageBody": body,
            "MessageGroupId": "c1",
            "MessageDeduplicationId": id,
            "MessageAttributes": attributes,
        });
        assert_eq!(local(&sqs), ("c1".to_owned(), request));
        let sns = Destination::Sns(SnsSettings {
            topic_arn: "arn:aws:sns:eu-central-1:1:news".to_owned(),
            message_group_id: None,
            subject: Some("Good news".parse().unwrap()),
            attributes: further,
            message_bytes_max: PUBLICATION_BYTES_MAX,
        });
        let request = json!({
            "TopicArn": "arn:aws:sns:eu-central-1:1:news",
            "Message": body,
            "Subject": "Good news",
            "MessageAttributes": attributes,
        });
        assert_eq!(local(&sns), (String::new(), request));
        let events = Destination::EventBridge(EventBridgeSettings {
            event_bus: "orders".to_owned(),
            source: "$egress".parse().unwrap(),
            detail_type: "$typename".parse().unwrap(),
        });
        let request = json!({
            "EventBusName": "orders",
            "Source": "example/out",
            "DetailType": "example/order",
            "Detail": {"customer": "c1", "n": 7},
            "Resources": [format!("satchel:{id}")],
            "TraceHeader": X_RAY,
        });
        assert_eq!(local(&events), (String::new(), request));
        let table = Destination::DynamoDb(DynamoDbSettings {
            table: "orders".to_owned(),
            partition_key: KeyAttribute {
                name: "pk".to_owned(),
                from: "/customer".parse().unwrap(),
                is_number: false,
            },
            sort_key: None,
        });
        let request = json!({
            "TableName": "orders",
            "Item": {
                "customer": {"S": "c1"},
                "n": {"N": "7"},
                "pk": {"S": "c1"},
                "satchel_writer": {"S": "writer"},
                "satchel_number": {"N": "1"},
                "satchel_type": {"S": "example/order"},
                "satchel_traceparent": {"S": TRACE},
            },
        });
        assert_eq!(local(&table), ("2:c1".to_owned(), request));
        let lambda = Destination::Lambda(LambdaSettings {
            function_name: "notify".to_owned(),
            qualifier: Some("live".to_owned()),
            envelope: false,
        });
        let request = json!({
            "FunctionName": "notify",
            "Qualifier": "live",
            "InvocationType": "Event",
            "Payload": {"customer": "c1", "n": 7},
            "X-Amzn-Trace-Id": X_RAY,
        });
        assert_eq!(local(&lambda), (String::new(), request));
    }

    /// One destination of each kind with a limit of size, and the limit in the documentation of its
    /// service.
    fn limited() -> Vec<(Destination, usize)> {
        let sns = |message_bytes_max| {
            let settings = SnsSettings {
                topic_arn: "arn:aws:sns:eu-central-1:1:news".to_owned(),
                message_group_id: None,
                subject: None,
                attributes: Vec::new(),
                message_bytes_max,
            };
            (Destination::Sns(settings), message_bytes_max)
        };
        let sqs = SqsSettings {
            queue_url: "https://sqs/1/tasks".to_owned(),
            message_group_id: None,
            attributes: Vec::new(),
        };
        let events = EventBridgeSettings {
            event_bus: "orders".to_owned(),
            source: "$egress".parse().unwrap(),
            detail_type: "$typename".parse().unwrap(),
        };
        let table = DynamoDbSettings {
            table: "orders".to_owned(),
            partition_key: KeyAttribute {
                name: "pk".to_owned(),
                from: "$id".parse().unwrap(),
                is_number: false,
            },
            sort_key: None,
        };
        let lambda = LambdaSettings {
            function_name: "notify".to_owned(),
            qualifier: None,
            envelope: false,
        };
        vec![
            (Destination::Sqs(sqs), 1_048_576),
            sns(PUBLICATION_BYTES_MAX),
            sns(PUBLICATION_BYTES_MAX_LARGE),
            (Destination::EventBridge(events), 1_048_576),
            (Destination::DynamoDb(table), 409_600),
            (Destination::Lambda(lambda), 1_048_576),
        ]
    }

    #[test]
    fn a_record_at_the_limit_of_its_service_is_taken_and_a_byte_more_refused() {
        assert_eq!(PUBLICATION_BYTES_MAX, 262_144);
        assert_eq!(PUBLICATION_BYTES_MAX_LARGE, 1_048_576);
        for (destination, limit) in limited() {
            let made = |length: usize| {
                let text = format!("\"{}\"", "a".repeat(length));
                let emission = emission(1, "example/x", text.as_bytes());
                LocalRequest::of(&destination, &emission, "writer")
            };
            // The refusal of one that is surely too large tells what the service adds.
            let refused = made(limit).unwrap_err();
            let words: Vec<&str> = refused.split(' ').collect();
            let at = words.iter().position(|word| *word == "has").unwrap() + 1;
            let bytes: usize = words[at].parse().unwrap();
            let fits = limit - (bytes - limit);
            assert!(
                made(fits).is_ok(),
                "{destination:?}: {:?}",
                made(fits).err()
            );
            let refused = made(fits + 1).unwrap_err();
            let named = format!("has {} bytes, and {limit} are allowed", limit + 1);
            assert!(refused.contains(&named), "{destination:?}: {refused}");
        }
    }

    #[test]
    fn what_the_service_would_refuse_is_refused() {
        let sqs = Destination::Sqs(SqsSettings {
            queue_url: "https://sqs/1/tasks".to_owned(),
            message_group_id: None,
            attributes: Vec::new(),
        });
        let large = vec![b' '; MESSAGE_BYTES_MAX];
        let refused = |value: &[u8]| {
            LocalRequest::of(&sqs, &emission(1, "example/x", value), "writer").unwrap_err()
        };
        assert_eq!(refused(b""), "it is empty, and a message must have a body");
        let large = refused(&large);
        assert!(large.ends_with("bytes, and 1048576 are allowed"), "{large}");
    }
}
