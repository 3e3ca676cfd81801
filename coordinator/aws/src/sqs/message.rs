//! A received message, and the selector that takes the id of its address from it.

use std::collections::BTreeMap;
use std::str::FromStr;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use md5::{Digest, Md5};
use satchel_engine::queue::QueuedId;
use satchel_engine::trace::TraceParent;

/// Standard base64. Bits behind the last byte are ignored, as by the SDKs of AWS.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Attribute by which Satchel's egress marks a body as base64.
const ENCODING: &str = "satchel-encoding";

/// Attribute with the trace context of a message, after the W3C's Trace Context.
const TRACEPARENT: &str = "traceparent";

/// A received message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SqsMessage {
    /// Id that SQS assigned when it was sent.
    pub id: String,
    /// Its body.
    pub body: Bytes,
    /// Its message group, in a FIFO queue.
    pub group: Option<String>,
    /// Its attributes that are strings or numbers.
    pub attributes: BTreeMap<String, String>,
}

/// Source of the id of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqsSelector {
    /// `$messageGroupId`.
    Group,
    /// `$messageId`.
    MessageId,
    /// `$attribute:NAME`.
    Attribute(String),
    /// Target of a JSON pointer (RFC 6901) into the body.
    Pointer(String),
    /// A constant.
    Constant(String),
}

impl SqsMessage {
    /// Id by which the partition recognizes the message: its UUID, or a hash of an id that is not a
    /// UUID.
    pub fn queued_id(&self) -> QueuedId {
        let digits: String = self.id.chars().filter(|it| *it != '-').collect();
        let is_uuid = digits.len() == 32 && digits.bytes().all(|it| it.is_ascii_hexdigit());
        match u128::from_str_radix(&digits, 16) {
            Ok(number) if is_uuid => QueuedId(number.to_be_bytes()),
            _ => QueuedId(Md5::digest(self.id.as_bytes()).into()),
        }
    }

    /// Its trace context, if it has a valid one.
    pub fn trace(&self) -> Option<TraceParent> {
        TraceParent::parse(self.attributes.get(TRACEPARENT)?)
    }

    /// Its data: the body, decoded if Satchel's egress sent it as base64.
    ///
    /// # Errors
    ///
    /// The body is not valid base64, or the encoding is unknown.
    pub fn data(&self) -> Result<Bytes, String> {
        match self.attributes.get(ENCODING).map(String::as_str) {
            None => Ok(self.body.clone()),
            Some("base64") => {
                let decoded = std::str::from_utf8(&self.body).ok();
                let decoded = decoded.and_then(|text| BASE64.decode(text).ok());
                let wrong = || format!("its attribute {ENCODING} says base64, and it is not");
                decoded.map(Bytes::from).ok_or_else(wrong)
            }
            Some(other) => Err(format!(
                "its attribute {ENCODING} is {other:?}, and only base64 is known"
            )),
        }
    }
}

impl FromStr for SqsSelector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_pointer = |text: &str| {
            let mut escapes = text.split('~').skip(1);
            escapes.all(|rest| rest.starts_with(['0', '1']))
        };
        match text {
            "$messageGroupId" => Ok(Self::Group),
            "$messageId" => Ok(Self::MessageId),
            _ => match (text.strip_prefix("$attribute:"), text.starts_with('/')) {
                (Some(name), _) if !name.is_empty() => Ok(Self::Attribute(name.to_owned())),
                (None, true) if is_pointer(text) => Ok(Self::Pointer(text.to_owned())),
                _ => Err(format!(
                    "`{text}` is none of $messageGroupId, $messageId, $attribute:<name> \
                    and a JSON pointer (/customer/id)"
                )),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str) -> SqsMessage {
        SqsMessage {
            id: id.to_owned(),
            body: Bytes::from_static(b"/w=="),
            ..SqsMessage::default()
        }
    }

    #[test]
    fn an_id_is_its_uuid_and_any_other_text_has_its_own_id() {
        let uuid = message("00112233-4455-6677-8899-aabbccddeeff").queued_id();
        assert_eq!(uuid.to_string(), "00112233445566778899aabbccddeeff");
        let one = message("message-1").queued_id();
        assert_eq!(one, message("message-1").queued_id());
        assert_ne!(one, message("message-2").queued_id());
        // A text that only parses as a number is not a UUID.
        let signed = message("+0112233445566778899aabbccddeeff").queued_id();
        assert_ne!(signed.to_string(), "00112233445566778899aabbccddeeff");
    }

    #[test]
    fn a_body_that_the_egress_encoded_is_decoded() {
        let plain = message("1");
        assert_eq!(plain.data().unwrap(), "/w==");
        let with = |encoding: &str, body: &'static str| {
            let mut message = message("1");
            message.body = Bytes::from_static(body.as_bytes());
            let attribute = (ENCODING.to_owned(), encoding.to_owned());
            message.attributes.extend([attribute]);
            message.data()
        };
        assert_eq!(with("base64", "/w==").unwrap(), &b"\xff"[..]);
        assert_eq!(
            with("base64", "?").unwrap_err(),
            "its attribute satchel-encoding says base64, and it is not"
        );
        assert_eq!(
            with("gzip", "?").unwrap_err(),
            "its attribute satchel-encoding is \"gzip\", and only base64 is known"
        );
    }

    #[test]
    fn a_trace_context_is_read_and_any_other_text_ignored() {
        const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let with = |value: &str| {
            let mut message = message("1");
            let attribute = (TRACEPARENT.to_owned(), value.to_owned());
            message.attributes.extend([attribute]);
            message.trace()
        };
        assert_eq!(with(TRACE).unwrap().to_string(), TRACE);
        assert_eq!(with("no trace"), None);
        assert_eq!(message("1").trace(), None);
    }

    #[test]
    fn a_selector_is_read() {
        let read = |text: &str| text.parse::<SqsSelector>();
        assert_eq!(read("$messageGroupId"), Ok(SqsSelector::Group));
        assert_eq!(read("$messageId"), Ok(SqsSelector::MessageId));
        let attribute = SqsSelector::Attribute("customer".to_owned());
        assert_eq!(read("$attribute:customer"), Ok(attribute));
        let pointer = SqsSelector::Pointer("/a~1b".to_owned());
        assert_eq!(read("/a~1b"), Ok(pointer));
        for wrong in ["$attribute:", "$group", "customer", "/a~2"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
