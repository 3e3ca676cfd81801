//! Routing of a queue's messages to their targets.

use bytes::Bytes;
use satchel_aws::sqs::{SqsMessage, SqsSelector};
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::input::Unroutable;
use satchel_protocol::reqreply::TypedValue;
use satchel_protocol::types::typed_value;
use serde_json::Value;

use super::routing::pointed;
use crate::module::SqsIngress;

/// Conversion of a queue's messages to messages of functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRouting {
    /// Typename of the messages.
    pub value_type: String,
    /// Functions that receive each message.
    pub targets: Vec<FunctionType>,
    /// Source of the address's id.
    pub id: SqsSelector,
}

impl QueueRouting {
    /// The routing of an ingress.
    pub fn of(sqs: &SqsIngress) -> Self {
        Self {
            value_type: sqs.value_type.clone(),
            targets: sqs.targets.clone(),
            id: sqs.target_id.clone(),
        }
    }

    /// Converts a message.
    ///
    /// # Errors
    ///
    /// [`Unroutable`] if it has no id, or its body is not what its attributes say.
    pub fn route(&self, message: &SqsMessage) -> Result<Vec<(Address, TypedValue)>, Unroutable> {
        let unroutable = |data, reason| Unroutable {
            value: typed_value(self.value_type.clone(), data),
            reason,
        };
        let data = message.data();
        let data = data.map_err(|reason| unroutable(message.body.clone(), reason))?;
        let id = id_of(&self.id, message, &data);
        let id = id.map_err(|reason| unroutable(data.clone(), reason))?;
        let value = || typed_value(self.value_type.clone(), data.clone());
        let targets = self.targets.iter();
        Ok(targets
            .map(|target| (Address::new(target.clone(), id.as_str()), value()))
            .collect())
    }
}

fn id_of(selector: &SqsSelector, message: &SqsMessage, data: &[u8]) -> Result<String, String> {
    let missing =
        |what: &str| format!("the message has no {what}, which is the id of its target address");
    let named = |id: Option<&String>, what: &str| {
        let id = id.filter(|id| !id.is_empty());
        id.cloned().ok_or_else(|| missing(what))
    };
    match selector {
        SqsSelector::Group => named(message.group.as_ref(), "message group"),
        SqsSelector::MessageId => Ok(message.id.clone()),
        SqsSelector::Attribute(name) => {
            let attribute = message.attributes.get(name);
            named(
                attribute,
                &format!("attribute {name} with a text or number"),
            )
        }
        SqsSelector::Pointer(pointer) => pointed(pointer, data),
        SqsSelector::Constant(id) => Ok(id.clone()),
    }
}

/// Converts a record of the local stream that stands for a queue. `number` is its sequence number,
/// by which the message is known.
///
/// The data is the body, and the key the message group. Data in the form of an egress to a queue,
/// that is a JSON object with the text `MessageBody`, is a message with its group and attributes.
pub fn message_of_record(number: String, key: &str, data: &Bytes) -> SqsMessage {
    let group = Some(key).filter(|key| !key.is_empty()).map(str::to_owned);
    let plain = |group| SqsMessage {
        id: number,
        body: data.clone(),
        group,
        ..SqsMessage::default()
    };
    let Ok(Value::Object(mut request)) = serde_json::from_slice(data) else {
        return plain(group);
    };
    let Some(Value::String(body)) = request.remove("MessageBody") else {
        return plain(group);
    };
    let text = |value| match value {
        Value::String(text) => Some(text),
        _ => None,
    };
    let attributes = match request.remove("MessageAttributes") {
        Some(Value::Object(attributes)) => attributes,
        _ => serde_json::Map::new(),
    };
    let attributes = attributes.into_iter();
    SqsMessage {
        body: body.into(),
        group: request
            .remove("MessageGroupId")
            .and_then(text)
            .or(group.clone()),
        attributes: attributes
            .filter_map(|(name, value)| Some((name, text(value)?)))
            .collect(),
        ..plain(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> SqsMessage {
        SqsMessage {
            id: "m-1".to_owned(),
            body: Bytes::from_static(br#"{"customer": {"id": "c-7"}}"#),
            group: Some("g-1".to_owned()),
            attributes: [("team".to_owned(), "t-1".to_owned())].into(),
        }
    }

    fn route(id: SqsSelector, message: &SqsMessage) -> Result<Vec<String>, String> {
        let routing = QueueRouting {
            value_type: "example/task".to_owned(),
            targets: vec![
                "example/one".parse().unwrap(),
                "example/two".parse().unwrap(),
            ],
            id,
        };
        let routed = routing.route(message);
        match routed {
            Ok(messages) => Ok(messages
                .into_iter()
                .map(|(address, value)| {
                    assert_eq!(value, typed_value("example/task", message.body.clone()));
                    address.to_string()
                })
                .collect()),
            Err(unroutable) => {
                assert_eq!(unroutable.value.value, message.body);
                Err(unroutable.reason)
            }
        }
    }

    #[test]
    fn the_id_is_the_group_the_own_id_an_attribute_what_a_pointer_finds_or_always_the_same() {
        for (selector, id) in [
            (SqsSelector::Group, "g-1"),
            (SqsSelector::MessageId, "m-1"),
            (SqsSelector::Attribute("team".to_owned()), "t-1"),
            (SqsSelector::Pointer("/customer/id".to_owned()), "c-7"),
            (SqsSelector::Constant("main".to_owned()), "main"),
        ] {
            let expected = [format!("example/one/{id}"), format!("example/two/{id}")];
            assert_eq!(route(selector, &message()).unwrap(), expected);
        }
    }

    #[test]
    fn a_message_without_an_id_is_unroutable_with_its_reason() {
        let mut bare = message();
        bare.group = None;
        bare.attributes = [("team".to_owned(), String::new())].into();
        for (selector, why) in [
            (SqsSelector::Group, "has no message group"),
            (
                SqsSelector::Attribute("team".to_owned()),
                "has no attribute team",
            ),
            (SqsSelector::Pointer("/order".to_owned()), "has no /order"),
        ] {
            let reason = route(selector, &bare).unwrap_err();
            assert!(reason.contains(why), "{reason}");
        }
        bare.attributes = [("satchel-encoding".to_owned(), "base64".to_owned())].into();
        let reason = route(SqsSelector::MessageId, &bare).unwrap_err();
        assert!(reason.contains("says base64"), "{reason}");
    }

    #[test]
    fn a_record_of_a_local_stream_is_a_body_or_a_message_as_an_egress_writes_it() {
        let message = |key: &str, data: &str| {
            message_of_record("7".to_owned(), key, &Bytes::from(data.to_owned()))
        };
        for body in [
            "plain",
            r#"{"customer": 1}"#,
            r#"{"MessageBody": 7}"#,
            "[1]",
        ] {
            let expected = SqsMessage {
                id: "7".to_owned(),
                body: Bytes::from(body),
                group: Some("g-1".to_owned()),
                attributes: [].into(),
            };
            assert_eq!(message("g-1", body), expected);
        }
        let written = r#"{"QueueUrl": "q", "MessageBody": "aGk=", "MessageGroupId": "g-2",
            "MessageAttributes": {"satchel-encoding": "base64", "n": 1}}"#;
        let expected = SqsMessage {
            id: "7".to_owned(),
            body: Bytes::from_static(b"aGk="),
            group: Some("g-2".to_owned()),
            attributes: [("satchel-encoding".to_owned(), "base64".to_owned())].into(),
        };
        assert_eq!(message("g-1", written), expected);
        assert_eq!(message("", "plain").group, None);
    }
}
