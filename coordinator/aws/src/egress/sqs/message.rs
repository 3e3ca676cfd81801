//! Conversion of records to messages of queues and topics.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use satchel_engine::output::Emission;

use crate::egress::content::{Content, Selector};

/// Maximum number of attributes of a message.
const ATTRIBUTES_MAX: usize = 10;

/// Attribute with the trace context, after the W3C's Trace Context.
const TRACEPARENT: &str = "traceparent";

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The record's id.
    pub id: String,
    /// Its body.
    pub body: String,
    /// Message group, within which FIFO queues and topics keep the order.
    pub group: Option<String>,
    /// Attributes by name, Satchel's own included.
    pub attributes: Vec<(String, String)>,
}

impl Message {
    /// Converts a record.
    ///
    /// # Errors
    ///
    /// The record lacks a field.
    pub fn of(
        emission: &Emission,
        group: Option<&Selector>,
        attributes: &[(String, Selector)],
    ) -> Result<Self, String> {
        let content = Content::of(emission)?;
        let group = group
            .map(|group| group.select(emission, &content))
            .transpose()?;
        if let Some(group) = &group {
            check_group(group)?;
        }
        let mut all = vec![
            ("satchel-type".to_owned(), content.typename().to_owned()),
            ("satchel-id".to_owned(), emission.id.to_string()),
        ];
        let (mut body, mut is_base64) = (content.text().to_owned(), content.is_base64());
        if !is_base64 && (body.is_empty() || !body.chars().all(is_allowed)) {
            body = STANDARD.encode(&emission.value.value);
            is_base64 = true;
        }
        if is_base64 {
            all.push(("satchel-encoding".to_owned(), "base64".to_owned()));
        }
        for (name, selector) in attributes {
            all.push((name.clone(), selector.select(emission, &content)?));
        }
        let named = all.iter().any(|(name, _)| name == TRACEPARENT);
        if let Some(trace) = emission
            .trace
            .filter(|_| !named && all.len() < ATTRIBUTES_MAX)
        {
            all.push((TRACEPARENT.to_owned(), trace.to_string()));
        }
        if body.is_empty() {
            return Err("it is empty, and a message must have a body".to_owned());
        }
        Ok(Self {
            id: emission.id.to_string(),
            body,
            group,
            attributes: all,
        })
    }

    /// Size in bytes that counts against the limits.
    pub fn bytes(&self) -> usize {
        // "String" is an attribute's type, which counts too.
        let attributes = self.attributes.iter();
        let attributes = attributes.map(|(name, value)| name.len() + value.len() + 6);
        self.body.len() + attributes.sum::<usize>()
    }
}

/// True if SQS allows the character in a message: those of XML 1.0.
fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

fn check_group(group: &str) -> Result<(), String> {
    let is_allowed = group.chars().all(|character| character.is_ascii_graphic());
    if (1..=128).contains(&group.len()) && is_allowed {
        return Ok(());
    }
    Err(format!(
        "{group:?} is not a message group: it should have 1 to 128 letters, digits and \
        punctuation of ASCII"
    ))
}

#[cfg(test)]
mod tests {
    use satchel_engine::trace::TraceParent;

    use super::*;
    use crate::egress::content::tests::emission;

    #[test]
    fn a_message_has_its_type_and_bytes_that_are_not_text_are_sent_as_base64() {
        let group: Selector = "/customer".parse().unwrap();
        let attributes = [("kind".to_owned(), "/kind".parse().unwrap())];
        let json = b"{\"customer\":\"c1\",\"kind\":\"alert\"}";
        let emission_json = emission(1, "example/alert", json);
        let message = Message::of(&emission_json, Some(&group), &attributes).unwrap();
        let id = "01".repeat(16);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = Message {
            id: id.clone(),
            body: String::from_utf8(json.to_vec()).unwrap(),
            group: Some("c1".into()),
            attributes: vec![
                pair("satchel-type", "example/alert"),
                pair("satchel-id", &id),
                pair("kind", "alert"),
            ],
        };
        assert_eq!(message, expected);
        let binary = Message::of(&emission(1, "example/b", b"\xff"), None, &[]).unwrap();
        assert_eq!(binary.body, "/w==");
        assert_eq!(binary.attributes[2], pair("satchel-encoding", "base64"));
        let nothing = Message::of(&emission(1, "example/b", b""), None, &[]);
        assert!(nothing.unwrap_err().contains("must have a body"));
        let without = Message::of(&emission(1, "example/b", b"{}"), Some(&group), &[]);
        assert_eq!(without.unwrap_err(), "there is no /customer in it");
    }

    #[test]
    fn a_trace_context_is_an_attribute_unless_the_module_sets_it_or_there_is_no_room() {
        const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let emission = Emission {
            trace: TraceParent::parse(TRACE),
            ..emission(1, "example/alert", b"{}")
        };
        let value_of = |attributes: &[(String, Selector)]| {
            let message = Message::of(&emission, None, attributes).unwrap();
            assert!(message.attributes.len() <= ATTRIBUTES_MAX);
            let mut values = message.attributes.into_iter();
            let value = values.find(|(name, _)| name == TRACEPARENT);
            value.map(|(_, value)| value)
        };
        let constant = |name: &str| (name.to_owned(), "mine".parse().unwrap());
        assert_eq!(value_of(&[]).as_deref(), Some(TRACE));
        assert_eq!(value_of(&[constant(TRACEPARENT)]).as_deref(), Some("mine"));
        let eight: Vec<_> = (0..8).map(|it| constant(&format!("a{it}"))).collect();
        assert_eq!(value_of(&eight), None);
    }
}
